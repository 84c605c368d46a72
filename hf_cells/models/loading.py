"""`hf_cells.pipeline`: from a folder or a repository to a pipeline that is ready to predict."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoConfig

from ..errors import CellsError
from .image_processing_cells import CellInstanceImageProcessor, CellSemanticImageProcessor
from .image_processing_classification import CellClassificationImageProcessor
from .image_processing_native import NativeSemanticImageProcessor
from .modeling_cell_classification import CellForImageClassification
from .modeling_cell_unet import CellUNetForInstanceSegmentation, CellUNetForSemanticSegmentation
from .native_segmentation import SegformerForSemanticSegmentation, UperNetForSemanticSegmentation
from .pipeline_cell_classification import CellClassificationPipeline
from .pipeline_cell_segmentation import CellSegmentationPipeline


class Family(NamedTuple):
    """The classes that belong to one `model_type`.

    `auto_model` is the Auto class under which the stock pipeline of the task looks for the model. The model and the
    processor of a `native` one are saved as those of transformers, so no code travels with them.
    """

    model: Any
    processor: Any
    pipeline: Any
    task: str
    auto_model: str
    native: bool = False


_SEGMENTATION = (CellSegmentationPipeline, "cell-segmentation", "AutoModelForImageSegmentation")
_CLASSIFICATION = (CellClassificationPipeline, "cell-classification", "AutoModelForImageClassification")
FAMILIES: dict[str, Family] = {
    family.model.config_class.model_type: family
    for family in (
        Family(CellUNetForSemanticSegmentation, CellSemanticImageProcessor, *_SEGMENTATION),
        Family(CellUNetForInstanceSegmentation, CellInstanceImageProcessor, *_SEGMENTATION),
        Family(CellForImageClassification, CellClassificationImageProcessor, *_CLASSIFICATION),
        Family(SegformerForSemanticSegmentation, NativeSemanticImageProcessor, *_SEGMENTATION, native=True),
        Family(UperNetForSemanticSegmentation, NativeSemanticImageProcessor, *_SEGMENTATION, native=True),
    )
}


def pipeline(
    model: str | Path,
    device: str | int | torch.device | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    **options: Any,
) -> Any:
    """Load a model and its image processor, and return the pipeline that predicts with them.

    The installed code runs, never the code in the repository.

    Args:
        model: Folder of a model, or name of a repository on the Hub.
        device: Where to run, as in transformers; the first accelerator by default, otherwise the CPU.
        revision: Branch, tag or commit of the repository.
        token: Access token; by default the one of `hf auth login`.
        **options: Options of the pipeline: those of [`CellSegmentationPipeline`] or [`CellClassificationPipeline`].

    Raises:
        CellsError: When there is no such model or device, or the model is not one of this package.
    """
    source, hub = str(model), {"revision": revision, "token": token}
    _check_device(device)
    check_source(source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
        if config.model_type not in FAMILIES:
            raise ValueError(f"its model_type {config.model_type!r} is none of {', '.join(FAMILIES)}")
        family = FAMILIES[config.model_type]
        if family.model.__name__ not in (config.architectures or [family.model.__name__]):
            raise ValueError(f"it is a {config.architectures[0]}, which has another head")
        network = family.model.from_pretrained(source, config=config, dtype=torch.float32, **hub)
        processor = family.processor.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        raise CellsError(_explain(source, error)) from error
    return family.pipeline(network, image_processor=processor, task=family.task, device=device, **options)


def check_source(source: str) -> None:
    """Refuse what is neither the folder of a model nor a name that the Hub could know, without asking the Hub.

    Without a route to the Hub asking takes a minute.

    Raises:
        CellsError: It says what is wrong with the folder or the name.
    """
    if Path(source).exists():
        _check_folder(Path(source))
    elif source.count("/") != 1:
        raise CellsError(_no_name(source))


def _check_device(device: str | int | torch.device | None) -> None:
    """Refuse a device that this machine does not have, before a model is loaded for it."""
    if device is None or device == -1:  # -1 is the CPU for pipelines of transformers
        return
    try:
        torch.zeros(1, device=torch.device(device)).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:  # torch has one for each kind
        here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise CellsError(f"--device {device}: no such device here; use {' or '.join(here)}") from error


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is no model: without a configuration, or the card of one that may not be passed on."""
    if not (folder / "config.json").is_file():
        raise CellsError(
            f"{folder}: holds no config.json; give the model/ folder of a run or a repository's name"
        )
    recipe = _recipe_of(folder)
    if recipe and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        raise CellsError(
            f"{folder}: holds a card without weights (its data's terms do not let them be passed on); "
            f"train it with accelerate launch train.py --recipe {recipe}"
        )


def _recipe_of(folder: Path) -> str | None:
    """The recipe that the results in a model's folder name, if there are any."""
    try:
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["run"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _explain(source: str, error: Exception) -> str:
    """Say why there is no model; what transformers says of the Hub means little to who misspelt a path."""
    cause = error.__cause__ or error
    if Path(source).exists() or not isinstance(
        cause, LocalEntryNotFoundError | RepositoryNotFoundError | HFValidationError
    ):
        reason = " ".join(str(error).split())[:300]
        return f"cannot load a model of hf-cells from {source}: {reason}"
    if isinstance(cause, LocalEntryNotFoundError):
        return f"{source}: no such folder, and the Hub could not be reached; check the path or the network"
    if isinstance(cause, RepositoryNotFoundError):
        return (
            f"{source}: no such folder, and no repository of the Hub that you may read; "
            "check the name, or log in with hf auth login"
        )
    return _no_name(source)


def _no_name(source: str) -> str:
    return f"{source}: no such folder, and no name of a repository of the Hub (owner/name); check the path"


__all__ = ["FAMILIES", "Family", "pipeline"]

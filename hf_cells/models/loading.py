"""`hf_cells.pipeline`: from a folder or a repository to a pipeline that is ready to predict."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
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
        CellsError: When there is no such model, or it is not one of this package.
    """
    source, hub = str(model), {"revision": revision, "token": token}
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise CellsError(
            f"{source}: holds no config.json; give the model/ folder of a run or a repository's name"
        )
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
        reason = " ".join(str(error).split())[:300]
        raise CellsError(f"cannot load a model of hf-cells from {source}: {reason}") from error
    return family.pipeline(network, image_processor=processor, task=family.task, device=device, **options)


__all__ = ["FAMILIES", "Family", "pipeline"]

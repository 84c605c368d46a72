"""A complete model repository: weights, configuration, processor, and the code that runs them anywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import custom_object_save

from ..errors import CellsError
from ..files import atomic_folder
from .loading import FAMILIES, Family

_WEIGHTS = "*.safetensors*"


def save_model_repository(model: Any, processor: Any, folder: str | Path) -> Path:
    """Write a folder that loads with and without this package (then by `trust_remote_code=True`).

    The model of a native family is a model of transformers: plain files, no code.

    The folder appears, or is replaced, in one step. What else an older one held (card, figures, results) is kept.

    Args:
        model: One of this package.
        processor: Its image processor.
        folder: Where to; usually `model/` of a run.

    Returns:
        The folder, with `model.safetensors`, `config.json`, `preprocessor_config.json`, and unless it is native the
        modules they name, and the `handler.py` and `requirements.txt` of Inference Endpoints.

    Raises:
        CellsError: When the folder cannot be written.
    """
    folder = Path(folder)
    family = FAMILIES[model.config.model_type]
    if not family.native:
        _name_code(model, family)
    with atomic_folder(folder) as temporary:
        if folder.is_dir():
            shutil.copytree(folder, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_WEIGHTS))
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        if not family.native:
            custom_object_save(family.pipeline, temporary)
            write_handler(model.config.to_dict(), temporary)
    return folder


def _name_code(model: Any, family: Family) -> None:
    """Say in the configuration which classes the modules beside it hold."""
    # One class answers to several Auto classes: the task's own, the stock pipeline's, and AutoModel.
    heads = {type(model)._auto_class, family.auto_model, "AutoModel"}
    model.config.auto_map = {
        "AutoConfig": _reference(type(model.config)),
        **{head: _reference(type(model)) for head in sorted(heads)},
    }
    model.config.custom_pipelines = {
        family.task: {
            "impl": _reference(family.pipeline),
            "pt": [family.auto_model],
            "type": "image",
        }
    }


def write_code(model_type: str, folder: str | Path) -> None:
    """Write the modules that run a model of this type without the package, as `save_model_repository` does, and the
    files of Inference Endpoints.

    Raises:
        CellsError: When the type is none of this package.
    """
    if model_type not in FAMILIES:
        raise CellsError(f"model_type {model_type!r} is none of this package; known: {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    for cls in (family.model.config_class, family.model, family.processor, family.pipeline):
        custom_object_save(cls, folder)
    config = Path(folder) / "config.json"
    write_handler(
        json.loads(config.read_text("utf-8")) if config.is_file() else {"model_type": model_type}, folder
    )


def write_handler(config: dict[str, Any], folder: str | Path) -> None:
    """Write what Inference Endpoints looks for: `handler.py`, and the packages that its container must have.

    Args:
        config: Of the model.
        folder: Of the repository.
    """
    needed = ["transformers>=5", "tifffile>=2024.1"]
    if FAMILIES[config["model_type"]].task == "cell-segmentation":
        needed.append("scipy>=1.12")
    if config.get("backbone"):
        needed.append("timm>=1.0.20")
    shutil.copyfile(Path(__file__).with_name("handler.py"), Path(folder) / "handler.py")
    (Path(folder) / "requirements.txt").write_text("\n".join(needed) + "\n", "utf-8")


def _reference(cls: type) -> str:
    """`module.Class`, as `auto_map` wants it."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


__all__ = ["save_model_repository", "write_code", "write_handler"]

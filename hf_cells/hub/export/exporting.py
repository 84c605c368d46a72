"""Export a model, load it again by the format's own library, and compare the two before anything is kept."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ...errors import CellsError
from ...files import atomic_folder
from .native_card import write_native_card
from .source import load_source

FORMATS = {
    "timm_wrapper": "classifiers on a timm backbone, for plain transformers and plain timm",
    "onnx": "any model, for ONNX Runtime",
    "torch_export": "any model, a torch.export program (.pt2)",
    "bioimageio": "any model, a bioimage.io model folder",
}
TOLERANCE = 1e-4
# What comes along, where the model has it; the card is made anew.
_COMPANIONS = ("results.json", "recipe.yaml", "history.csv", "LICENSE", "figures", "examples")


@dataclass(frozen=True)
class Export:
    """What `export_model` wrote.

    Attributes:
        format: Name of the format.
        folder: Where it lies.
        differences: By image, the largest absolute difference of the logits from the original's.
        notes: What the format cannot hold, one line each.
    """

    format: str
    folder: Path
    differences: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest difference of all images."""
        return max(self.differences.values())


def export_model(
    model: str | Path,
    format: str,
    output_dir: str | Path,
    images: Sequence[str | Path] = (),
    tolerance: float = TOLERANCE,
) -> Export:
    """Write a model in another format and compare it with the original on images.

    Args:
        model: Folder of a model, or its name on the Hub.
        format: One of `FORMATS`.
        output_dir: Folder to write; an earlier export there is replaced, anything else refused.
        images: Files to compare on; by default the examples in the repository, else one made-up image.
        tolerance: Largest absolute difference of a logit.

    Raises:
        CellsError: The format is unknown, does not suit the model, needs a library that is not installed, or what
            was written gives other logits (nothing is left then).
    """
    if format not in FORMATS:
        raise CellsError(f"no export format is called {format!r}; choose from: {', '.join(FORMATS)}")
    folder = Path(output_dir)
    _refuse_other_files(folder, Path(model))
    source = load_source(model, images)
    writer = _writer(format)
    with atomic_folder(folder) as temporary:
        notes = writer.write(source, temporary)
        for name in _COMPANIONS:
            place = Path(model) / name
            if place.is_dir():
                shutil.copytree(place, temporary / name)
            elif place.is_file():
                shutil.copyfile(place, temporary / name)
        again = writer.reload(temporary)
        differences = {}
        for name, batch in zip(source.images, source.batches()):
            expected, found = source.logits(batch), again(batch)
            if found.shape != expected.shape:
                raise CellsError(
                    f"the {format} export gives {found.shape}, the model {expected.shape}, on {name}"
                )
            differences[name] = float(np.abs(found - expected).max())
        worst = max(differences, key=differences.__getitem__)
        if not differences[worst] <= tolerance:
            raise CellsError(
                f"the {format} export differs from {model} by {differences[worst]:.2g} on {worst}, more than "
                f"{tolerance:g}; nothing was written. Allow it by --tolerance, or choose another format"
            )
        (temporary / "export.txt").write_text(f"{format}\n")
        write_native_card(temporary, format, source.model.config.to_dict(), notes, differences)
    return Export(format, folder, differences, notes)


def _writer(format: str) -> ModuleType:
    try:
        return import_module(f".to_{format}", __package__)
    except ImportError as error:
        raise CellsError(
            f"the format {format} needs {error.name}; install it: pip install 'hf-cells[export]'"
        ) from error


def _refuse_other_files(folder: Path, model: Path) -> None:
    if folder.exists() and model.exists() and folder.resolve() == model.resolve():
        raise CellsError(f"{folder} is the model itself; choose another --output_dir")
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / "export.txt").exists()
    ):
        raise CellsError(f"{folder} holds something that is no export; choose an empty --output_dir")

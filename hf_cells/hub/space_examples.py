"""Example images of an app: the model's own, else simulated ones; never an image of the data it was trained on."""

import io
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .card import read_json

MOST = 4
_FOLDER = "examples"
# Small enough to be made while somebody waits, large enough for every split to have every class.
_SIMULATED: dict[str, dict[str, Any]] = {
    "dsb2018": {"n_train": 12},
    "hep2": {"n_train": 24},
    "glomeruli": {"n_train": 6, "size_range": (160, 240)},
    "hpa_single_cell": {"n_train": 6, "size": (512, 512)},
}


def write_examples(model_folder: Path, results: Mapping[str, Any], folder: Path) -> list[list[str]]:
    """Write up to four examples into `folder/examples`.

    Args:
        model_folder: Its `examples/*.png`, which may be published with the model, come first.
        results: Of the model; its dataset says what to simulate. Other data give no examples.
        folder: Of the app.

    Returns:
        Of each example its files, relative to `folder`: one, or one of each channel.
    """
    own = sorted(model_folder.glob(f"{_FOLDER}/*.png"))[:MOST]
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    if own:
        return [[_copy(path, folder)] for path in own]
    name = str((results.get("dataset") or {}).get("name"))
    if name not in _SIMULATED:
        return []
    processor = model_folder / "preprocessor_config.json"
    channels = (
        read_json(processor, "save the model again").get("channel_names") if processor.is_file() else None
    )
    return _simulate(name, channels, folder)


def _copy(path: Path, folder: Path) -> str:
    shutil.copyfile(path, folder / _FOLDER / path.name)
    return f"{_FOLDER}/{path.name}"


def _simulate(name: str, channels: list[str] | None, folder: Path) -> list[list[str]]:
    from ..data.loading import load_dataset
    from ..data.samples import ImageRows
    from ..simulate import SIMULATORS

    with tempfile.TemporaryDirectory() as place:
        data = SIMULATORS[name](Path(place) / name, **_SIMULATED[name])
        images = load_dataset(name, data_dir=data, split="all", cache_dir=Path(place) / "cache")
        written = []
        for number, index in enumerate(_varied(images), start=1):
            image = ImageRows(images)[index]["image"]
            planes = {f"_{channel}": image[channel] for channel in channels or []} or {"": image}
            paths = [f"{_FOLDER}/simulated_{number}{suffix}.png" for suffix in planes]
            for path, stored in zip(paths, planes.values(), strict=True):
                (folder / path).write_bytes(_png(stored))
            written.append(paths)
    return written


def _varied(images: Any) -> list[int]:
    """Rows of different classes, or looks, in turn."""
    column = next((name for name in ("label", "labels", "modality") if name in images.column_names), None)
    of: dict[Any, list[int]] = defaultdict(list)
    for index, value in enumerate(images[column] if column else range(len(images))):
        of[str(value)].append(index)
    turns = [(rank, turn) for turn, rows in enumerate(of.values()) for rank in range(len(rows))]
    rows = list(of.values())
    return [rows[turn][rank] for rank, turn in sorted(turns)[:MOST]]


def _png(stored: bytes | str) -> bytes:
    """The stored bytes where they are a PNG, else the pixels as one."""
    if isinstance(stored, bytes) and stored.startswith(b"\x89PNG"):
        return stored
    from ..models.image_reading import read_image

    stream = io.BytesIO()
    Image.fromarray(read_image(stored)).save(stream, format="PNG")
    return stream.getvalue()

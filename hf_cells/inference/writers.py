"""Write predictions as files that other programs open: label images, masks, overlays, rows of objects."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from ..files import atomic_write
from .objects import object_table

OBJECT_COLUMNS = (
    "image",
    "object_id",
    "label",
    "score",
    "area",
    "centroid_y",
    "centroid_x",
    "min_row",
    "min_col",
    "max_row",
    "max_col",
    "mean_intensity",
    "eccentricity",
    "solidity",
)
_HIGHEST_IN_PNG = 65_535


def write_label_image(path: str | os.PathLike[str], labels: np.ndarray) -> Path:
    """Write a label image as 16-bit PNG, or as 32-bit TIFF beside it where an id is over 65,535.

    Args:
        path: Ends in `.png`, which becomes `.tif` for a TIFF.
        labels: (H, W) integers, 0 is background.

    Returns:
        The path that was written.
    """
    path = Path(path)
    if labels.max(initial=0) > _HIGHEST_IN_PNG:
        path = path.with_suffix(".tif")
        with atomic_write(path) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib")
    else:
        _write_png(path, labels.astype(np.uint16))
    return path


def write_semantic_mask(path: str | os.PathLike[str], mask: np.ndarray) -> Path:
    """Write a (H, W) image of class numbers up to 255 as 8-bit PNG."""
    if mask.max(initial=0) > 255:
        raise ValueError(f"{path}: class {mask.max()} does not fit an 8-bit mask; use at most 256 classes")
    return _write_png(Path(path), mask.astype(np.uint8))


def write_overlay(path: str | os.PathLike[str], overlay: np.ndarray) -> Path:
    """Write a (H, W, 3) uint8 picture as PNG."""
    return _write_png(Path(path), overlay)


def _write_png(path: Path, pixels: np.ndarray) -> Path:
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=3)
    return path


def object_rows(
    image_name: str,
    labels: np.ndarray,
    image: np.ndarray | None,
    scores: np.ndarray,
    label_ids: np.ndarray,
    id2label: Mapping[int, str],
) -> list[dict[str, Any]]:
    """Measure the objects of one image: a row of `OBJECT_COLUMNS` for each, see `objects.object_table`.

    Args:
        image_name: Goes into the column `image`.
        labels: (H, W) integers with ids 1..n, 0 is background.
        image: (H, W) or (H, W, C), for the mean intensity.
        scores: (n,) scores of the objects 1, 2, …
        label_ids: (n,) classes of the objects 1, 2, …
        id2label: Class names.

    Raises:
        ValueError: When an object has no score or class.
    """
    table = object_table(labels, image)
    named = min(len(scores), len(label_ids))
    if table["object_id"].max(initial=0) > named:
        raise ValueError(f"{image_name}: {table['object_id'].max()} objects, but {named} scores and classes")
    index = table["object_id"] - 1
    columns = {
        **table,
        "score": np.asarray(scores, dtype=np.float64)[index],
        "label": np.array([id2label.get(int(k), str(k)) for k in label_ids], dtype=object)[index],
    }
    values = zip(*(columns[name].tolist() for name in OBJECT_COLUMNS[1:]))
    return [dict(zip(OBJECT_COLUMNS, (image_name, *map(_short, row)))) for row in values]


def _short(value: Any) -> Any:
    """Keep six digits: more are noise, and a table of them is hard to read."""
    return float(f"{value:.6g}") if isinstance(value, float) else value

"""A picture of some rows of a dataset for its card, without a name of any image."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ..data.display import stretch_contrast
from ..data.samples import ImageRows, truth_of
from ..inference.explain_pictures import font_of
from ..inference.overlay import draw_classes, draw_instances
from ..models.image_reading import read_image

_MOST, _COLUMNS, _SIDE, _GAP, _CAPTION = 8, 4, 320, 8, 26


def draw_samples(splits: Mapping[str, datasets.Dataset], path: Path) -> None:
    """Write a PNG of up to eight images of different classes or looks, truth drawn on them, class below.

    Args:
        splits: Datasets with the columns of this package.
        path: PNG to write.
    """
    tiles = list(_tiles(next(iter(splits.values()))))
    rows = -(-len(tiles) // _COLUMNS)
    width = min(len(tiles), _COLUMNS) * (_SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, rows * (_SIDE + _CAPTION + _GAP) + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), font_of(_SIDE)
    for place, (picture, caption) in enumerate(tiles):
        row, column = divmod(place, _COLUMNS)
        x, y = _GAP + column * (_SIDE + _GAP), _GAP + row * (_SIDE + _CAPTION + _GAP)
        fitted = ImageOps.contain(picture, (_SIDE, _SIDE), Image.Resampling.BICUBIC)
        sheet.paste(fitted, (x + (_SIDE - fitted.width) // 2, y))
        draw.text((x, y + _SIDE + 4), caption, "black", font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _tiles(data: datasets.Dataset) -> Iterator[tuple[Image.Image, str]]:
    images = ImageRows(data)
    for index, caption in _chosen(data):
        row = images[index]
        pixels = read_image(row["image"])
        yield Image.fromarray(_drawn(pixels, row)), caption


def _drawn(pixels: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
    if row.get("instance_labels") is not None:
        return draw_instances(pixels, truth_of(dict(row)))
    if row.get("semantic_mask") is not None:
        return draw_classes(pixels, truth_of(dict(row)))
    return stretch_contrast(pixels)


def _chosen(data: datasets.Dataset) -> list[tuple[int, str]]:
    """Rows of every class, or look, in turn, with its name."""
    feature = data.features.get("label")
    column = next((name for name in ("label", "modality") if name in data.column_names), None)
    of: dict[Any, list[int]] = defaultdict(list)
    for index, value in enumerate(data[column] if column else [""] * len(data)):
        of[value].append(index)
    turns = [(rank, turn, index) for turn, rows in enumerate(of.values()) for rank, index in enumerate(rows)]
    values = list(of)
    chosen = [(index, values[turn]) for _, turn, index in sorted(turns)[:_MOST]]
    return [(index, _caption(value, feature)) for index, value in chosen]


def _caption(value: Any, feature: Any) -> str:
    if isinstance(value, int):
        return str(feature.int2str(value)) if value >= 0 else "no class"
    return value or ""

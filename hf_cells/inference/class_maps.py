"""Maps of several classes: colour maps, annotated pictures with a legend, and counts of objects."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import atomic_write
from ..metrics import class_regions
from .overlay import ON_BRIGHT, draw_outlines

_PAPER, _INK = (255, 255, 255), (32, 33, 36)


def class_palette(config: Any) -> np.ndarray:
    """Colours of the classes of a model, (num_labels, 3) uint8; black and Okabe & Ito's where it knows none."""
    known = getattr(config, "class_colors", None) or {}
    names = [config.id2label[key] for key in sorted(config.id2label, key=int)]
    chosen = [(0, 0, 0), *(tuple(ON_BRIGHT[index % len(ON_BRIGHT)]) for index in range(len(names) - 1))]
    return np.array([known.get(name, chosen[index]) for index, name in enumerate(names)], np.uint8)


def write_colour_map(path: str | os.PathLike[str], mask: np.ndarray, palette: np.ndarray) -> Path:
    """Write a (H, W) map of classes as a PNG whose values are the classes and whose palette is theirs."""
    path = Path(path)
    picture = Image.fromarray(mask.astype(np.uint8)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette(palette.astype(np.uint8).tobytes())
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)
    return path


def count_objects(mask: np.ndarray, num_labels: int, split: bool = True) -> list[int]:
    """Count the objects of the classes 1..num_labels - 1, see `hf_cells.metrics.class_regions`."""
    _, classes = class_regions(mask, split=split)
    return np.bincount(classes, minlength=num_labels)[1:num_labels].tolist()


def draw_annotated(
    image: np.ndarray,
    regions: np.ndarray,
    classes: np.ndarray,
    palette: np.ndarray,
    names: Mapping[int, str],
) -> np.ndarray:
    """Outline every object in the colour of its class and name the classes with their counts below.

    Args:
        image: (H, W) or (H, W, C) of any type.
        regions: (H, W) objects 1..n, 0 elsewhere.
        classes: (n,) class of each.
        palette: (num_labels, 3) uint8.
        names: Name of each class, background included.

    Returns:
        (h, w, 3) uint8: the picture as `draw_instances` sizes it, a legend under it.
    """
    colours = np.concatenate([np.zeros((1, 3), np.uint8), palette[classes]])
    canvas = draw_outlines(image, regions, colours)
    counts = np.bincount(classes, minlength=len(palette))
    entries = [(f"{names[k]} {counts[k]}", palette[k]) for k in range(1, len(palette))]
    return np.concatenate([canvas, _legend(entries, canvas.shape[1])])


def _legend(entries: Sequence[tuple[str, np.ndarray]], width: int) -> np.ndarray:
    """Swatches with text, (h, width, 3) uint8, in as many columns as there is room for."""
    size = int(np.clip(width / 55, 13, 34))
    font: Any = ImageFont.load_default(size)
    margin = size // 2
    cell = max(int(font.getlength(text)) for text, _ in entries) + 2 * size + margin
    columns = max(1, min(len(entries), (width - margin) // cell))
    rows = -(-len(entries) // columns)
    picture = Image.new("RGB", (width, int(1.6 * size) * rows + 2 * margin), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (text, colour) in enumerate(entries):
        row, column = divmod(index, columns)
        x, y = margin + column * cell, margin + int(1.6 * size) * row
        draw.rectangle((x, y, x + size, y + size), tuple(int(v) for v in colour), outline=_INK)
        draw.text((x + size + margin // 2, y + size / 2), text, _INK, font, anchor="lm")
    return np.asarray(picture)

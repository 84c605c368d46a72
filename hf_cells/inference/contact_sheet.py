"""A contact sheet: what was classified, on one page, the images that the model is least sure of first."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..data.display import stretch_contrast
from ..files import atomic_write
from ..models.image_reading import read_image
from .outputs import FILE_ERRORS

MOST_TILES = 60
_DPI, _WIDTH = 150, 1350
_COLUMNS = (5, 10)  # at least, at most
_GAP, _HEADER, _CAPTION, _FOOTER = 10, 52, 26, 34  # pixels
_PAPER, _MOUNT = 255, 238
_INK, _FAINT = "#202124", "#5F6368"


class Tile(NamedTuple):
    """An image of the sheet.

    Attributes:
        path: Its file.
        group: What the model calls it.
        score: How sure it is, 0 to 1.
        row: Where it stands in the table, counted as spreadsheets do.
    """

    path: Path
    group: str
    score: float
    row: int


def write_contact_sheet(
    tiles: Sequence[Tile], path: str | os.PathLike[str], order: Sequence[str] = ()
) -> None:
    """Draw up to 60 images by group, the least sure of each first, with score and row below.

    Each image is as `stretch_contrast` shows it. Names are not drawn, as they may identify a case.

    Args:
        tiles: All images, at least one.
        path: PNG to write, 1350 px wide.
        order: Groups that come first, such as the classes of the model; the others follow, the largest first.

    Raises:
        CellsError: It cannot be written.
    """
    groups = choose_tiles(tiles, order)
    total = {name: sum(tile.group == name for tile in tiles) for name in groups}
    columns = min(max(_COLUMNS[0], *map(len, groups.values()), 1), _COLUMNS[1])
    side = (_WIDTH - _GAP) // columns - _GAP
    heights = [_HEADER + -(-len(members) // columns) * (side + _CAPTION) for members in groups.values()]
    height = sum(heights) + _FOOTER
    canvas = np.full((height, _WIDTH, 3), _PAPER, np.uint8)
    figure = Figure(figsize=(_WIDTH / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        style = {"color": _INK, "va": "center", "parse_math": False, **style}
        figure.text(x / _WIDTH, 1 - y / height, text, **style)

    top = 0
    for (name, members), needed in zip(groups.items(), heights):
        shown = f"{total[name]} images" if len(members) == total[name] else f"{len(members)} of {total[name]}"
        write(_GAP, top + 0.55 * _HEADER, name, size=11, weight="bold")
        write(_WIDTH - _GAP, top + 0.55 * _HEADER, shown, size=8, ha="right", color=_FAINT)
        for place, tile in enumerate(members):
            row, column = divmod(place, columns)
            x, y = _GAP + column * (side + _GAP), top + _HEADER + row * (side + _CAPTION)
            canvas[y : y + side, x : x + side] = _mounted(tile.path, side)
            write(x, y + side + 11, f"{tile.score:.2f}", size=7)
            write(x + side, y + side + 11, str(tile.row), size=6, ha="right", color=_FAINT)
        top += needed
    note = "least sure first  ·  left: probability of what was predicted  ·  right: row in evaluation.csv"
    write(_GAP, height - 0.5 * _FOOTER, note, size=7, color=_FAINT)
    figure.figimage(canvas)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")


def choose_tiles(
    tiles: Sequence[Tile], order: Sequence[str] = (), most: int = MOST_TILES
) -> dict[str, list[Tile]]:
    """Choose the least sure images of every group, fairly: what a small group leaves over, the others take.

    Returns:
        Groups with their chosen images, the least sure first.
    """
    groups: dict[str, list[Tile]] = defaultdict(list)
    for tile in sorted(tiles, key=lambda tile: (tile.score, tile.row)):
        groups[tile.group].append(tile)
    place = {name: index for index, name in enumerate(order)}
    names = sorted(groups, key=lambda name: (place.get(name, len(order)), -len(groups[name]), name))
    turns = [(rank, turn) for turn, name in enumerate(names) for rank in range(len(groups[name]))]
    taken = sorted(turns)[:most]
    chosen = {name: [groups[name][r] for r, t in taken if t == turn] for turn, name in enumerate(names)}
    return {name: members for name, members in chosen.items() if members}


def _mounted(path: Path, side: int) -> np.ndarray:
    """Return the image, whole, in the middle of a grey square; one that has gone meanwhile is left grey."""
    mount = Image.new("RGB", (side, side), (_MOUNT,) * 3)
    try:
        picture = Image.fromarray(stretch_contrast(read_image(path)))
    except FILE_ERRORS:
        return np.asarray(mount)
    longest = max(picture.size)
    width, height = (
        max(1, round(length * side / longest)) for length in picture.size
    )  # a line keeps a pixel
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    mount.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(mount)

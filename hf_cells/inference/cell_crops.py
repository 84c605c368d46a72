"""Single cells of a field as crops, one file per colour, and their rows of the table `cells.csv`."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from .nuclei_cells import touches_border

CELL_COLUMNS = (
    "cell_id",
    "parent_image_id",
    "cell_number",
    "size_y",
    "size_x",
    "edge_of_img",
    "Label",
    "min_row",
    "min_col",
    "max_row",
    "max_col",
)


def cell_rows(parent: str, cells: np.ndarray, label: str) -> list[dict[str, Any]]:
    """Describe the cells of a field: a row of `CELL_COLUMNS` for each.

    Args:
        parent: ID of the field.
        cells: (H, W) labels 1..n.
        label: Of the field, such as "7|1": each of its cells has it, weakly.

    Returns:
        Rows by cell number. `size_y` and `size_x` are the sides of the box `min_row`, `min_col`, `max_row`, `max_col`
        (half-open, in pixels of the field); `edge_of_img` says that the cell touches the border of the field.
    """
    on_border = touches_border(cells)
    rows = []
    for number, place in enumerate(ndimage.find_objects(cells), start=1):
        if place is None:
            continue
        down, across = place
        values = (
            f"{parent}_cell_{number}",
            parent,
            number,
            down.stop - down.start,
            across.stop - across.start,
            bool(on_border[number]),
            label,
            down.start,
            across.start,
            down.stop,
            across.stop,
        )
        rows.append(dict(zip(CELL_COLUMNS, values)))
    return rows


def write_crops(
    folder: Path, rows: list[dict[str, Any]], cells: np.ndarray, channels: dict[str, np.ndarray]
) -> None:
    """Write `<parent>_cell_<n>_<colour>.png` of every row: the box of the cell, 0 outside the cell.

    Crops are 8- or 16-bit as the field is; float images become 16-bit, their maximum 65,535.

    Args:
        folder: Where; it exists.
        rows: Of `cell_rows`.
        cells: (H, W) labels.
        channels: (H, W) image of each colour.
    """
    planes = {colour: _storable(plane) for colour, plane in channels.items()}
    for row in rows:
        box = np.s_[row["min_row"] : row["max_row"], row["min_col"] : row["max_col"]]
        inside = cells[box] == row["cell_number"]
        for colour, plane in planes.items():
            crop = np.where(inside, plane[box], 0).astype(plane.dtype)
            # Not atomic one by one: a field counts only when its mark is written, after all of its crops.
            Image.fromarray(crop).save(folder / f"{row['cell_id']}_{colour}.png", compress_level=1)


def _storable(plane: np.ndarray) -> np.ndarray:
    if plane.dtype.kind != "f":
        return plane
    top = max(float(plane.max(initial=0)), 1e-12)
    return np.rint(np.clip(plane / top, 0, 1) * 65_535).astype(np.uint16)

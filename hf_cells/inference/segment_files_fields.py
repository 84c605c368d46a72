"""Fields of view on disk: `<ID>_<colour>.png` (or TIFF) below a folder, and the CSV that names and labels them."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import CellsError
from ..models.image_reading import read_image

COLOURS = ("red", "green", "blue", "yellow")  # microtubules, protein, nuclei, ER
_SUFFIXES = ("png", "tif", "tiff")
_NAME = re.compile(rf"(?P<id>.+)_(?P<colour>{'|'.join(COLOURS)})\.({'|'.join(_SUFFIXES)})", re.IGNORECASE)


@dataclass(frozen=True)
class FieldFiles:
    """A field: its ID, its label as the CSV has it ("" without one) and the files of its colours.

    `doubles` names a second file of a colour, which makes the field unreadable: nobody knows which one is meant.
    """

    field_id: str
    label: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    doubles: tuple[Path, ...] = ()


def find_fields(
    input_dir: Path, table: Path | None, leave_out: Iterable[Path] = (), *, check_labels: bool = False
) -> list[FieldFiles]:
    """List the fields of a folder, with those of its subfolders.

    Args:
        input_dir: Holds the images.
        table: CSV with the columns `ID` and, where labels are known, `Label`: its fields in its order, whether they
            have files or not. Without one, all fields that have a file, by name.
        leave_out: Folders that are not searched.
        check_labels: Refuse labels that the atlas does not have; who only predicts does not need them.

    Raises:
        CellsError: The folder or the CSV is missing or empty, or has not these columns, or a field comes twice.
    """
    files, doubles = _files_by_field(input_dir, tuple(leave_out))
    labels = _read_table(table, check_labels) if table is not None else dict.fromkeys(sorted(files), "")
    if not files:
        raise CellsError(
            f"{input_dir}: holds no field; files are named <ID>_red.png, _green, _blue and _yellow (PNG or TIFF)"
        )
    return [
        FieldFiles(name, label, files.get(name, {}), tuple(doubles.get(name, ())))
        for name, label in labels.items()
    ]


def read_field(one: FieldFiles) -> dict[str, np.ndarray]:
    """Read the four colours at their depth.

    Returns:
        (H, W) uint8, uint16 or float32 of each colour. Of a colour image (a stain shown in its colour), each pixel
        is its brightest channel.

    Raises:
        CellsError: A colour is missing or there twice, or is of another size than the others.
        ValueError: A file cannot be read.
    """
    if one.doubles:
        raise CellsError(f"{one.field_id}: {one.doubles[0]} is a second file of its colour; remove one")
    missing = [colour for colour in COLOURS if colour not in one.files]
    if len(missing) == len(COLOURS):
        raise CellsError(
            f"{one.field_id}: has no image; add {one.field_id}_red.png and the others, or strike its row"
        )
    if missing:
        beside = next(iter(one.files.values()))
        names = ", ".join(f"{one.field_id}_{colour}{beside.suffix}" for colour in missing)
        raise CellsError(
            f"{one.field_id}: {names} is missing in {beside.parent}; add it or leave the field out"
        )
    planes = {colour: _plane(read_image(one.files[colour])) for colour in COLOURS}
    first = one.files[COLOURS[0]]
    for colour, plane in planes.items():
        if plane.shape != planes[COLOURS[0]].shape:
            sizes = [f"{width} x {height}" for height, width in (plane.shape, planes[COLOURS[0]].shape)]
            raise CellsError(
                f"{one.files[colour]}: is {sizes[0]} pixels, but {first.name} {sizes[1]}; "
                "export all colours at one size"
            )
    return planes


def _plane(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    return pixels[..., :3].max(axis=-1)


def _files_by_field(
    folder: Path, leave_out: tuple[Path, ...]
) -> tuple[dict[str, dict[str, Path]], dict[str, list[Path]]]:
    if not folder.is_dir():
        raise CellsError(
            f"{folder}: no such folder; give the one that holds <ID>_red.png and the other colours"
        )
    hidden = {path.resolve() for path in leave_out}
    files: dict[str, dict[str, Path]] = {}
    doubles: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (Path(place) / name).resolve() not in hidden
        )
        for name in sorted(names):
            match = _NAME.fullmatch(name)
            if match is None or name.startswith("."):
                continue
            colours = files.setdefault(match["id"], {})
            path = Path(place) / name
            if colours.setdefault(match["colour"].lower(), path) != path:
                doubles.setdefault(match["id"], []).append(path)
    return files, doubles


def _read_table(path: Path, check_labels: bool) -> dict[str, str]:
    # Imported here: it loads `datasets`, which the processes that segment do not need.
    from ..data.hpa_tables import find_column, read_hpa_table, read_ids, read_label_numbers

    table = read_hpa_table(path)
    identity, label = find_column(table, ("ID",)), find_column(table, ("Label",))
    if identity is None:
        raise CellsError(
            f"{path}: needs the columns ID,Label and a row for every field; it has {', '.join(table.columns)}"
        )
    ids = read_ids(table, identity)
    for row, name in enumerate(ids):
        if "/" in name or "\\" in name or name in (".", ".."):
            raise CellsError(
                f"{table.where(row)}: the ID {name!r} is no name of a field; it is the files' name before _red.png"
            )
    if label is None:
        return dict.fromkeys(ids, "")
    if check_labels:
        read_label_numbers(table, label, ids)
    return dict(zip(ids, table.cells(label), strict=True))

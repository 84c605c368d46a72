"""Fields and single cells of the Human Protein Atlas on disk: tables, files of channels, masks."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from ._reading import Source, decode_image, read_csv

CLASS_NAMES = (
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Intermediate filaments",
    "Actin filaments",
    "Microtubules",
    "Mitotic spindle",
    "Centrosome",
    "Plasma membrane",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Vesicles and punctate cytosolic patterns",
    "Negative",
)
COLOURS = ("red", "green", "blue", "yellow")
MASKS = ("nucleus", "cell")
ONE_CHANNEL = ("L", "I;16", "I;16B", "I;16L", "I", "1")
PLANE_FILE = re.compile(rf"^(.+)_({'|'.join(COLOURS + MASKS)})\.(?:png|tiff?)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Which items to find.

    Attributes:
        cells: Crops of cells instead of fields.
        planes: Files that each must have: colours, and a mask of MASKS after them.
        drop_border: Leave out cells that the border of their field cuts.
        skip_missing: Leave out rows without any file, and fields without a mask, instead of refusing the data.
    """

    cells: bool
    planes: tuple[str, ...]
    drop_border: bool = False
    skip_missing: bool = False


@dataclass
class Item:
    """A field or a cell: its labels, where its planes are, and what the tables tell."""

    image_id: str
    where: str
    labels: list[int]
    parent: str
    unit: str  # what must not be divided: the antibody, or the field
    line: str | None = None  # the cell line, where it is known
    split: str | None = None
    fold: int | None = None
    cell: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[Source, str]] = field(default_factory=dict)


def find_items(path: str, sources: Sequence[Source], wanted: Wanted) -> list[Item]:
    """Find the fields or cells of the tables with their files, sorted by ID.

    Args:
        path: The data, for messages.
        sources: The folder and zips that hold them.
        wanted: What to look for.

    Raises:
        FileNotFoundError: There is no table, or a row has no files.
        ValueError: A table is wrong, or a colour is missing.
    """
    files: dict[str, dict[str, tuple[Source, str]]] = defaultdict(dict)
    tables: list[tuple[str, str, list[dict[str, str]]]] = []
    for source in sources:
        for name in source.names():
            match = PLANE_FILE.match(PurePosixPath(name).name)
            if match and match[2].lower() in (*COLOURS, *wanted.planes):
                add_plane(files[match[1]], match[2].lower(), source, name)
            elif name.lower().endswith(".csv"):
                where = source.locate(name)
                tables.append((where, name, read_csv(where, source.read(name))))
    stains = read_stains([rows for _, _, rows in tables])
    items: dict[str, Item] = {}
    tables.sort(key=lambda table: not any("fold" in row for row in table[2][:1]))  # with folds before without
    for where, name, rows in tables:
        for item in read_table(where, name, rows, wanted.cells, stains):
            other = items.setdefault(item.image_id, item)
            if other is not item and (
                other.where == where or other.fold is None or other.labels != item.labels
            ):
                raise ValueError(f"{where}: {item.image_id} is listed already in {other.where}; keep one row")
    if not items:
        columns = "cell_id,parent_image_id,Label" if wanted.cells else "ID,Label"
        made = "; make it with `hf-cells segment`" if wanted.cells else ""
        raise FileNotFoundError(f"{path}: no CSV with the columns {columns} found{made}")
    return [
        items[name] for name in sorted(attach_files(path, items, files, wanted))
        if not (wanted.drop_border and items[name].cell.get("at_border"))
    ]  # fmt: skip


def add_plane(planes: dict[str, tuple[Source, str]], plane: str, source: Source, name: str) -> None:
    """Add a file; a zip beside a folder may hold the same file again, a folder may not."""
    there = planes.setdefault(plane, (source, name))
    if there[0] is source and there[1] != name:
        raise ValueError(f"{source.locate(name)}: is there already as {source.locate(there[1])}; keep one")


def read_stains(tables: Sequence[list[dict[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return antibody and cell line ("" where unknown) by ID from a table that has both ID and antibody."""
    for rows in tables:
        if rows and {"id", "antibody"} <= rows[0].keys() and "split" not in rows[0]:
            return {
                row["id"].strip(): (row["antibody"].strip(), (row.get("cell_line") or "").strip())
                for row in rows
            }
    return {}


def read_table(
    where: str, name: str, rows: list[dict[str, str]], cells: bool, stains: Mapping[str, tuple[str, str]]
) -> Iterator[Item]:
    """Read the items of a table, or none when it is another kind of table."""
    columns = rows[0].keys() if rows else {}
    needed = {"cell_id", "parent_image_id", "label"} if cells else {"id", "label"}
    if not needed <= set(columns) or (not cells and "cell_number" in columns):
        return
    split = "test" if not cells and PurePosixPath(name).stem.lower() == "test" else None
    for row in rows:
        image_id = (row["cell_id"] if cells else row["id"] or "").strip()
        parent = (row["parent_image_id"] or "").strip() if cells else image_id
        if not image_id or not parent:
            raise ValueError(f"{where}: has a row without an ID; mend or remove it")
        antibody, line = stains.get(parent, ("", ""))
        yield Item(
            image_id,
            where,
            read_labels(where, image_id, row["label"]),
            parent,
            antibody or parent,
            line or None,
            split,
            read_number(where, image_id, row, "fold"),
            read_cell(where, image_id, row) if cells else {},
        )


def read_labels(where: str, image_id: str, text: str | None) -> list[int]:
    """Read `a|b` as sorted label numbers.

    Raises:
        ValueError: None is there, or one is no number from 0 to 18.
    """
    labels = set()
    for part in (text or "").split("|"):
        if not part.strip().isdecimal() or int(part) >= len(CLASS_NAMES):
            raise ValueError(
                f"{where}: label {part.strip()!r} of {image_id} is none of 0 to {len(CLASS_NAMES) - 1} "
                f"({CLASS_NAMES[0]} to {CLASS_NAMES[-1]}); write the numbers of the labels with | between them"
            )
        labels.add(int(part))
    return sorted(labels)


def read_number(where: str, image_id: str, row: Mapping[str, str], column: str) -> int | None:
    """Read a whole number, None where the column or the cell is empty."""
    text = (row.get(column) or "").strip()
    if not text:
        return None
    if not re.fullmatch(r"-?\d+(\.0*)?", text):
        raise ValueError(f"{where}: {column} of {image_id} is {text!r}; write a whole number")
    return int(float(text))


def read_cell(where: str, image_id: str, row: Mapping[str, str]) -> dict[str, Any]:
    """Read what the table of `hf-cells segment` tells of a cell."""
    at_border = (row.get("edge_of_img") or "").strip().lower()
    if at_border not in ("", "0", "1", "0.0", "1.0", "true", "false"):
        raise ValueError(f"{where}: edge_of_img of {image_id} is {at_border!r}; write True or False")
    sides = [read_number(where, image_id, row, name) for name in ("min_col", "min_row", "max_col", "max_row")]
    return {
        "cell_number": read_number(where, image_id, row, "cell_number"),
        "height": read_number(where, image_id, row, "size_y"),
        "width": read_number(where, image_id, row, "size_x"),
        "at_border": at_border in ("1", "1.0", "true") if at_border else None,
        "box": [side for side in sides if side is not None],
    }


def attach_files(
    path: str,
    items: Mapping[str, Item],
    files: Mapping[str, Mapping[str, tuple[Source, str]]],
    wanted: Wanted,
) -> list[str]:
    """Set `files` of every item in the order of the planes; return the IDs that have them."""
    colours = [plane for plane in wanted.planes if plane in COLOURS]
    shown = {image_id for image_id, planes in files.items() if not planes.keys().isdisjoint(COLOURS)}
    present = [image_id for image_id in items if image_id in shown]
    absent = [image_id for image_id in items if image_id not in shown]
    if absent and (not wanted.skip_missing or not present):
        raise FileNotFoundError(
            f"{items[absent[0]].where}: {len(absent)} of {len(items)} IDs have no files under {path}, the first is "
            f"{absent[0]} ({absent[0]}_{colours[0]}.png); put them back, or set skip_missing=true"
        )
    if absent:
        logger.warning(f"{path}: {len(absent)} of {len(items)} IDs have no files and are left out")
    for mask in set(wanted.planes) - set(colours):
        present = with_masks(path, present, files, mask, wanted.skip_missing)
    for image_id in present:
        own = files[image_id]
        if lacking := [colour for colour in colours if colour not in own]:
            source, name = next(iter(own.values()))
            raise FileNotFoundError(
                f"{source.locate(name)}: {image_id} has no {lacking[0]} channel beside it; put "
                f"{image_id}_{lacking[0]}.png back, or leave it out with the option channels"
            )
        items[image_id].files = {plane: own[plane] for plane in wanted.planes}
    return present


def with_masks(
    path: str,
    present: list[str],
    files: Mapping[str, Mapping[str, tuple[Source, str]]],
    mask: str,
    skip_missing: bool,
) -> list[str]:
    """Return the fields that have the mask; the atlas' own have none.

    Raises:
        FileNotFoundError: One has none, and `skip_missing` is not set or nothing would remain.
    """
    masked = [image_id for image_id in present if mask in files[image_id]]
    if not masked:
        raise FileNotFoundError(
            f"{path}: has no masks/<ID>_{mask}.png: fields of the Human Protein Atlas come without masks; take fields "
            "of `hf-cells simulate hpa_single_cell`, or put masks there, as `hf-cells segment` writes them"
        )
    if lacking := sorted(set(present) - set(masked)):
        if not skip_missing:
            raise FileNotFoundError(
                f"{path}: {len(lacking)} of {len(present)} fields have no mask, the first is {lacking[0]} "
                f"({lacking[0]}_{mask}.png); put them there, or set skip_missing=true"
            )
        logger.warning(f"{path}: {len(lacking)} of {len(present)} fields have no mask and are left out")
    return masked


def read_planes(item: Item) -> dict[str, tuple[bytes, Image.Image]]:
    """Read the planes of an item, as stored and decoded, and check that they fit one another.

    Raises:
        ValueError: A plane is damaged, in colour, or of another size or depth than the first.
    """
    planes: dict[str, tuple[bytes, Image.Image]] = {}
    first: tuple[str, tuple[int, int], bool] | None = None
    for plane, (source, name) in item.files.items():
        data, where = source.read(name), source.locate(name)
        image = decode_image(data, where)
        if image.mode not in ONE_CHANNEL:
            raise ValueError(f"{where}: is an image in colour ({image.mode}); save the {plane} plane as grey")
        deep = image.mode.startswith("I")
        if first is None:
            first = where, image.size, deep
        if image.size != first[1]:
            size, other = (f"{height}x{width}" for width, height in (image.size, first[1]))
            raise ValueError(f"{where}: is {size} but {first[0]} is {other}; all planes need one size")
        if deep != first[2] and plane in COLOURS:  # a mask has the depth that its labels need
            raise ValueError(
                f"{where}: has another bit depth than {first[0]}; save both with 8 or with 16 bits"
            )
        planes[plane] = data, image
    return planes

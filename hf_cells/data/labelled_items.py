"""Which images a user's own labelled folder has and what they show, read without opening one of them."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from ..dataset_scripts._reading import FolderSource
from ..errors import CellsError
from .folders import IMAGE_SUFFIXES, SPLIT_FOLDERS, find_group
from .label_tables import GROUP_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS, LabelTable, match_images, read_table

SPLIT_OF = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}
TABLE_OPTIONS = ("image_column", "label_column", "group_column", "split_column", "label_separator")
SEPARATOR = "|"
LITTER = ("Thumbs.db", "desktop.ini")

logger = datasets.logging.get_logger(__name__)


@dataclass
class Item:
    """One image: its path from the folder, its classes, and its group and split where they are known."""

    name: str
    classes: tuple[str, ...]
    group: str | None = None
    split: str | None = None
    image_id: str = ""


def read_items(root: Path, config: Any) -> tuple[list[Item], bool]:
    """Read the images, classes, groups and splits of a folder.

    Args:
        root: The folder.
        config: A `LabelledFolderConfig`.

    Returns:
        The items in the order of their paths, and whether images may have several labels.

    Raises:
        CellsError: The folder, the table or an option is not as `labelled_folders` describes it.
    """
    names = FolderSource(os.fspath(root)).names()
    images = [name for name in names if is_image(name)]
    if not images:
        raise CellsError(f"{root}: holds no images; put {', '.join(IMAGE_SUFFIXES)} files into it")
    others = [n for n in names if not is_image(n) and "/" in n and PurePosixPath(n).name not in LITTER]
    if others:
        logger.warning(f"{root}: {len(others)} files are no images, such as {others[0]}, and are left out")
    _check_split_folders(root, images)
    table = _choose_table(root, names, config.labels)
    if table is not None:
        items, several = _from_table(root, images, read_table(table), config)
    else:
        if given := [option for option in TABLE_OPTIONS if getattr(config, option)]:
            raise CellsError(f"{root}: has no table for {given[0]}; give it as labels=<table>")
        items, several = _from_class_folders(root, images), False
    if config.groups is not None:
        if config.group_column:
            raise CellsError("groups and group_column both say what the group is; give one of them")
        for item in items:
            item.group = find_group(root / item.name, config.groups, root)
    _set_image_ids(items)
    _check_classes(table or root, items)
    return sorted(items, key=lambda item: item.name), several


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names as people do: numbers by value, other names with the numbers in them by value."""
    names = list(names)
    if all(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))

    def key(name: str) -> tuple[list[Any], str]:
        parts = re.split(r"(\d+)", name.casefold())  # text and digits take turns
        return [int(part) if index % 2 else part for index, part in enumerate(parts)], name

    return sorted(names, key=key)


def is_image(name: str) -> bool:
    """Tell an image by its suffix."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def tables_in(names: Iterable[str]) -> list[str]:
    """Return the tables at the top of a folder."""
    return [name for name in names if "/" not in name and name.lower().endswith((".csv", ".tsv"))]


def split_folder(name: str) -> str:
    """Return the split folder that a path begins with, in lower case, or an empty string."""
    first, slash, _ = name.partition("/")
    return first.casefold() if slash and first.casefold() in SPLIT_OF else ""


def below_split(name: str) -> str:
    """Return a path without the split folder that it begins with."""
    return name.partition("/")[2] if split_folder(name) else name


def _from_class_folders(root: Path, images: list[str]) -> list[Item]:
    """Read the class from the folder of every image, and the split from the folder above where there is one."""
    made = [name for name in images if split_folder(name) and "/" in below_split(name)]
    tops = {name.split("/")[0] for name in images if "/" in name}
    if not made and tops and all(top.casefold() in SPLIT_OF for top in tops):
        raise CellsError(
            f"{root}: {', '.join(sorted(tops))} hold images but no class folders; "
            f"move the images into {root / min(tops)}/<Class>/, or put a table labels.csv into {root}"
        )
    items = []
    for name in images:
        split = SPLIT_OF.get(split_folder(name)) if made else None
        if made and split is None:
            raise CellsError(f"{root / made[0]} is in a split folder and {name} is not; move one of the two")
        class_name, in_class, rest = (below_split(name) if made else name).partition("/")
        if not in_class:
            raise CellsError(
                f"{root / name}: lies in no class folder; move it into {(root / name).parent}/<Class>/, "
                f"or put a table with the columns filename,label into {root}"
            )
        if inner := [part for part in rest.split("/")[:-1] if part.casefold() in SPLIT_OF]:
            raise CellsError(
                f"{root / name}: the split folder {inner[0]} lies within the class folder {class_name}; "
                f"give the folder that holds the splits, or write <split>/<Class>/"
            )
        items.append(Item(name, (class_name,), split=split))
    _check_class_folders([root / top for top in sorted(tops)] if made else [root], items)
    _check_stems(root, images)
    return items


def _check_class_folders(tops: list[Path], items: list[Item]) -> None:
    classes = {item.classes[0] for item in items}
    for top in tops:
        for folder in _subfolders(top):
            if folder not in classes:
                raise CellsError(
                    f"{top / folder}: is a class folder without images ({', '.join(IMAGE_SUFFIXES)}); "
                    "put images into it or take it away"
                )


def _check_stems(root: Path, images: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in images:
        other = seen.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise CellsError(f"{root / name}: has the same stem as {other}; keep one of the two")


def _from_table(root: Path, images: list[str], table: LabelTable, config: Any) -> tuple[list[Item], bool]:
    """Read labels, groups and splits from a table that has one row per image."""
    column = table.find_column(LABEL_COLUMNS, "label_column", config.label_column)
    if column is None:
        raise CellsError(
            f"{table.path}: none of the columns {', '.join(table.columns)} is known to hold labels; "
            "say label_column=<name>, or labels=folders for class folders"
        )
    files = match_images(table, images, config.image_column, root)
    splits = _splits_of_rows(table, files, config.split_column)
    by_column = None
    if config.groups is None:
        by_column = table.find_column(GROUP_COLUMNS, "group_column", config.group_column)
    groups = table.cells(by_column) if by_column else [""] * len(files)
    cells = table.cells(column)
    separator = config.label_separator
    if separator is None and any(SEPARATOR in cell for cell in cells):
        separator = SEPARATOR
    rows: dict[str, int] = {}
    items = []
    for row, (name, cell) in enumerate(zip(files, cells)):
        if not cell and not separator:
            raise CellsError(f"{table.where(row)}: has no label; fill it in, or remove the row and {name}")
        if name in rows:
            what = f"has a row in line {table.lines[rows[name]]} already"
            if cells[rows[name]] != cell:
                what = f"is {cell!r} here and {cells[rows[name]]!r} in line {table.lines[rows[name]]}"
            raise CellsError(f"{table.where(row)}: {name} {what}; keep one row per image")
        rows[name] = row
        classes = [part.strip() for part in cell.split(separator)] if separator else [cell]
        items.append(Item(name, tuple(filter(None, classes)), groups[row] or None, splits[row]))
    if alone := [name for name in images if name not in rows]:
        raise CellsError(
            f"{root / alone[0]}: has no row in {table.path} ({len(alone)} such images); "
            "add rows or move the images elsewhere"
        )
    return items, bool(separator)


def _splits_of_rows(table: LabelTable, files: list[str], given: str | None) -> list[str | None]:
    """Return the split of every row: from its column, else from the folders train/, test/ … of the images."""
    column = table.find_column(SPLIT_COLUMNS, "split_column", given)
    cells = table.cells(column) if column else []
    if any(cells):
        for row, cell in enumerate(cells):
            if cell.casefold() not in SPLIT_OF:
                raise CellsError(
                    f"{table.where(row)}: {cell!r} in the column {column!r} is no split; write train, validation "
                    "or test, or set split_column to another column, or to nothing for a split by seed"
                )
        return [SPLIT_OF[cell.casefold()] for cell in cells]
    inside = [name for name in files if split_folder(name)]
    outside = [name for name in files if not split_folder(name)]
    if inside and outside:
        raise CellsError(
            f"{table.path}: {inside[0]} is in a split folder and {outside[0]} is not; "
            "move one of the two, or add a column split"
        )
    return [SPLIT_OF.get(split_folder(name)) for name in files]


def _choose_table(root: Path, names: list[str], labels: str | None) -> Path | None:
    if labels == "folders":
        return None
    if labels:
        for path in (root / labels, Path(labels).expanduser()):
            if path.is_file():
                return path
        raise CellsError(f"{labels}: no such table, neither from here nor from {root}; check labels")
    tables = tables_in(names)
    if len(tables) > 1:
        raise CellsError(
            f"{root}: holds the tables {' and '.join(tables)}; say which has the labels, such as "
            f"labels={tables[0]}, or put all rows into one with a column split"
        )
    return root / tables[0] if tables else None


def _check_split_folders(root: Path, images: list[str]) -> None:
    """Refuse an empty split folder, and two of one split, such as val/ and validation/."""
    filled = {name.split("/")[0] for name in images if "/" in name}
    seen: dict[str, str] = {}
    for folder in _subfolders(root):
        split = SPLIT_OF.get(folder.casefold())
        if split and folder not in filled:
            raise CellsError(
                f"{root / folder}: holds no images; fill it, or take it away to cut a {split} split"
            )
        if split in seen:
            raise CellsError(f"{root}: {seen[split]} and {folder} are both {split}; keep one of the two")
        if split:
            seen[split] = folder


def _subfolders(folder: Path) -> list[str]:
    return sorted(e.name for e in folder.iterdir() if e.is_dir() and not e.name.startswith("."))


def _set_image_ids(items: list[Item]) -> None:
    """Call images by their stem or, where stems come twice, by their path, with suffix if it must be."""
    for spelling in (lambda name: PurePosixPath(name).stem, lambda name: os.path.splitext(name)[0], str):
        for item in items:
            item.image_id = spelling(item.name)
        if len({item.image_id for item in items}) == len(items):
            return


def _check_classes(where: Path, items: list[Item]) -> None:
    names = natural_order({name for item in items for name in item.classes})
    if len(names) < 2:
        only = f"only the class {names[0]!r}" if names else "no class at all"
        raise CellsError(f"{where}: has {only}; a classifier needs two or more")
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            raise CellsError(
                f"{where}: the classes {other!r} and {name!r} differ by spelling only; make them one"
            )

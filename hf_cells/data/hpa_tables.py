"""Tables of the Human Protein Atlas: fields (ID, Label) or their cells (cell_id, parent_image_id, Label)."""

from collections.abc import Sequence
from pathlib import Path

from ..dataset_scripts._hpa_items import read_labels
from ..errors import CellsError
from .label_tables import LabelTable, read_table


def read_hpa_table(path: Path) -> LabelTable:
    """Read a table as spreadsheets write it, see `read_table`.

    Raises:
        CellsError: There is no such file, or it is no table.
    """
    if not path.is_file():
        raise CellsError(f"{path}: no such table; check the path")
    return read_table(path, "ID,Label and a row per field")


def find_column(table: LabelTable, names: Sequence[str]) -> str | None:
    """Return the column with the first of these names that there is, in whatever case; None without one."""
    known = {column.lower(): column for column in table.columns}
    return next((known[name.lower()] for name in names if name.lower() in known), None)


def read_ids(table: LabelTable, column: str) -> list[str]:
    """Return the IDs of the rows.

    Raises:
        CellsError: A row has none, or two rows have one.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(table.cells(column)):
        if not name:
            raise CellsError(f"{table.where(row)}: has no {column}; fill it in or remove the row")
        if (earlier := first.setdefault(name, row)) != row:
            raise CellsError(
                f"{table.where(row)}: the {column} {name} comes twice, first in line {table.lines[earlier]}; "
                "keep one row"
            )
    return list(first)


def read_label_numbers(table: LabelTable, column: str, ids: Sequence[str]) -> list[list[int]]:
    """Return the labels of the rows, by the check that `load_dataset("hpa_single_cell")` makes.

    Raises:
        CellsError: A row has no label, or one that the atlas does not have.
    """
    try:
        return [
            read_labels(table.where(row), name, text)
            for row, (name, text) in enumerate(zip(ids, table.cells(column), strict=True))
        ]
    except ValueError as error:
        raise CellsError(str(error)) from None

"""The column `fold` of a table of fields or single cells: no field and no antibody is in two folds."""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CellsError
from ..files import atomic_write
from .fold_assignment import assign_folds
from .hpa_tables import find_column, read_hpa_table, read_ids, read_label_numbers
from .label_tables import LabelTable

FOLD = "fold"
_ID_COLUMNS, _PARENT_COLUMNS = ("cell_id", "id", "image_id"), ("parent_image_id", "parent", "field")
_LABEL_COLUMNS = ("label", "labels")
_NEIGHBOUR = "antibodies.csv"  # what a table of antibodies beside the labels is called
_ANTIBODY_COLUMNS = ("antibody",)


@dataclass(frozen=True)
class Folds:
    """What `write_folds` did.

    Attributes:
        folds: Fold of every row of the table.
        balance: Rows of each label in each fold: {label: [n of fold 0, n of fold 1, …]}.
        rows: Rows of each fold.
        groups: Groups of each fold.
        grouped_by: What was kept whole, in words.
    """

    folds: list[int]
    balance: dict[str, list[int]]
    rows: list[int]
    groups: list[int]
    grouped_by: str


def write_folds(
    train_csv: str | os.PathLike[str],
    output_csv: str | os.PathLike[str],
    n_folds: int = 5,
    *,
    group_column: str | None = None,
    groups_csv: str | os.PathLike[str] | None = None,
    folds_of: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Folds:
    """Add a column `fold` to a table of fields (ID, Label) or of their cells (cell_id, parent_image_id, Label).

    Cells of one field are never in two folds, nor are fields with one value in `group_column` or, where it is
    known, of one antibody.

    Args:
        train_csv: The table; labels are numbers of the atlas, joined by "|". A column `fold` that it has is replaced.
        output_csv: Where to write, with commas and in UTF-8 whatever the table has; may be the same file.
        n_folds: Number of folds.
        group_column: Column of the table whose values must stay whole too.
        groups_csv: Table with the columns ID and antibody; by default `antibodies.csv` beside `train_csv`
            where it is there.
        folds_of: Table with the columns ID and fold: fields and cells take the fold of their field there in place of
            a new one, so that a model of cells and one of fields leave out the same fields.
        seed: Of the order among equals.

    Raises:
        CellsError: A table is missing or lacks a column, an ID comes twice, a label is unknown, or there are fewer
            groups than folds.
    """
    path = Path(train_csv)
    table = read_hpa_table(path)
    identity, label = _column(table, _ID_COLUMNS), _column(table, _LABEL_COLUMNS)
    ids = read_ids(table, identity)
    parents = table.cells(find_column(table, _PARENT_COLUMNS) or identity)
    labels = [[str(number) for number in own] for own in read_label_numbers(table, label, ids)]
    ties = {"field": parents}
    if group_column is not None:
        ties[group_column] = table.cells(_column(table, (group_column,)))
    antibodies = _antibodies(path, groups_csv)
    if antibodies:
        ties["antibody"] = [antibodies.get(name, "") for name in parents]
    if folds_of is not None:
        folds = _known_folds(Path(folds_of), parents, n_folds)
    else:
        folds = assign_folds(_joined(list(ties.values())), labels, n_folds, seed)
    for what, values in ties.items():
        if folds_of is not None and (divided := _divided(values, folds)):
            raise CellsError(f"{folds_of}: the {what} {divided[0]} is in several folds; write the folds anew")
        _assert_whole(what, values, folds)

    kept = [index for index, name in enumerate(table.columns) if name.lower() != FOLD]
    with atomic_write(output_csv) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(table.columns[index] for index in kept), FOLD])
        for row, fold in zip(table.rows, folds, strict=True):
            writer.writerow([*(row[index] for index in kept), fold])
    return _summary(folds, labels, _joined(list(ties.values())), n_folds, " and no ".join(ties))


def _known_folds(path: Path, parents: Sequence[str], n_folds: int) -> list[int]:
    table = read_hpa_table(path)
    identity, fold = _column(table, _ID_COLUMNS), find_column(table, (FOLD,))
    if fold is None:
        raise CellsError(f"{path}: has no column {FOLD!r}; write it with `hf-cells folds`")
    known = dict(zip(read_ids(table, identity), table.cells(fold), strict=True))
    for parent in parents:
        value = known.get(parent, "")
        if not value.isdecimal() or int(value) >= n_folds:
            raise CellsError(
                f"{path}: the fold of {parent} is {value or 'missing'!r}; give every field one from 0 to {n_folds - 1}"
            )
    return [int(known[parent]) for parent in parents]


def _joined(ties: Sequence[Sequence[str]]) -> list[str]:
    """Name the groups that arise when rows with one value in any of the columns belong together."""
    root: dict[tuple[int, str], tuple[int, str]] = {}

    def find(node: tuple[int, str]) -> tuple[int, str]:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for values in zip(*ties, strict=True):
        nodes = [(column, value) for column, value in enumerate(values) if value]
        for node in nodes[1:]:
            root[find(node)] = find(nodes[0])
    return [find((0, value))[1] for value in ties[0]]


def _assert_whole(what: str, values: Sequence[str], folds: Sequence[int]) -> None:
    divided = _divided(values, folds)
    assert not divided, f"the {what} {divided[0]} is in several folds"


def _divided(values: Sequence[str], folds: Sequence[int]) -> list[str]:
    """Values that are in several folds."""
    homes: dict[str, set[int]] = defaultdict(set)
    for value, fold in zip(values, folds, strict=True):
        if value:
            homes[value].add(fold)
    return [value for value, found in homes.items() if len(found) > 1]


def _summary(
    folds: list[int], labels: Sequence[Collection[str]], groups: list[str], n_folds: int, grouped_by: str
) -> Folds:
    from .labelled_items import natural_order

    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for fold, own in zip(folds, labels, strict=True):
        for label in own:
            counts[label][fold] += 1
    rows, members = Counter(folds), Counter(dict(zip(groups, folds, strict=True)).values())
    return Folds(
        folds=folds,
        balance={label: [counts[label][fold] for fold in range(n_folds)] for label in natural_order(counts)},
        rows=[rows[fold] for fold in range(n_folds)],
        groups=[members[fold] for fold in range(n_folds)],
        grouped_by=grouped_by,
    )


def _antibodies(path: Path, groups_csv: str | os.PathLike[str] | None) -> dict[str, str]:
    place = Path(groups_csv) if groups_csv is not None else path.with_name(_NEIGHBOUR)
    if groups_csv is None and not place.is_file():
        return {}
    table = read_hpa_table(place)
    identity, antibody = (_column(table, names) for names in (_ID_COLUMNS, _ANTIBODY_COLUMNS))
    return dict(zip(table.cells(identity), table.cells(antibody), strict=True))


def _column(table: LabelTable, names: Sequence[str]) -> str:
    found = find_column(table, names)
    if found is None:
        raise CellsError(
            f"{table.path}: has no column {names[0]!r}; it has {', '.join(table.columns)}, and needed are ID and "
            "Label, or cell_id, parent_image_id and Label"
        )
    return found


def label_deviation(balance: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return by label how far the fold farthest from its share is from it, as a part of that share."""
    deviations = {}
    for label, counts in balance.items():
        share = sum(counts) / len(counts)
        deviations[label] = max(abs(count - share) for count in counts) / share
    return deviations

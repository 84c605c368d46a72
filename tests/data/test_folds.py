"""Folds: no group divided, labels spread, tables read and written, one clear line for each fault."""

import csv
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.data.fold_assignment import assign_folds
from hf_cells.data.folds import label_deviation, write_folds
from hf_cells.errors import CellsError


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_equal_items_are_dealt_evenly():
    folds = assign_folds([f"g{i}" for i in range(20)], [["a"]] * 10 + [["b"]] * 10, 5)
    assert np.bincount(folds[:10]).tolist() == np.bincount(folds[10:]).tolist() == [2] * 5


def test_rare_labels_are_spread_first():
    labels = [["common"]] * 95 + [["common", "rare"]] * 5
    folds = assign_folds([str(i) for i in range(100)], labels, 5)
    assert sorted(folds[95:]) == [0, 1, 2, 3, 4] and np.bincount(folds).tolist() == [20] * 5


ITEMS = st.lists(
    st.tuples(st.integers(0, 12), st.sets(st.sampled_from("abcd"), max_size=3)), min_size=4, max_size=60
)


@given(ITEMS, st.integers(2, 4), st.integers(0, 3))
@settings(max_examples=60)
def test_groups_stay_whole_and_every_fold_has_some(items, n_folds, seed):
    groups, labels = [f"g{group}" for group, _ in items], [own for _, own in items]
    if len(set(groups)) < n_folds:
        with pytest.raises(CellsError, match="do not fill"):
            assign_folds(groups, labels, n_folds, seed)
        return
    folds = assign_folds(groups, labels, n_folds, seed)
    assert folds == assign_folds(groups, labels, n_folds, seed)
    assert all(len({f for f, g in zip(folds, groups) if g == group}) == 1 for group in groups)
    assert set(folds) <= set(range(n_folds))


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    groups = [f"g{i // 3}" for i in range(90)]
    labels = [[str(x) for x in rng.choice(5, 2, replace=False)] for _ in groups]
    order = rng.permutation(90)
    first = dict(zip(groups, assign_folds(groups, labels, 3)))
    again = dict(
        zip(
            [groups[i] for i in order],
            assign_folds([groups[i] for i in order], [labels[i] for i in order], 3),
        )
    )
    assert first == again


def test_cells_keep_their_field_and_antibody_together(tmp_path):
    cells = [
        (f"f{field}_cell_{n}", f"f{field}", n, "|".join(map(str, {field % 4, n % 3})))
        for field in range(24)
        for n in range(1, 5)
    ]
    table = write(tmp_path / "cells.csv", ["cell_id", "parent_image_id", "cell_number", "Label"], cells)
    write(tmp_path / "antibodies.csv", ["ID", "antibody"], [(f"f{i}", f"A{i // 2}") for i in range(24)])
    made = write_folds(table, tmp_path / "out.csv", 4)
    assert made.grouped_by == "field and no antibody" and sum(made.groups) == 12
    rows = read(tmp_path / "out.csv")
    assert [row["cell_id"] for row in rows] == [cell[0] for cell in cells]
    homes = {}
    for row in rows:
        assert homes.setdefault(int(row["parent_image_id"][1:]) // 2, row["fold"]) == row["fold"]
    assert max(label_deviation(made.balance).values()) < 0.35
    counts = [sum(str(f) == row["fold"] and "3" in row["Label"].split("|") for row in rows) for f in range(4)]
    assert made.balance["3"] == counts and sum(made.rows) == 96


def test_groups_that_share_a_field_are_joined(tmp_path):
    rows = [
        ("a1", "a", "0", "x"),
        ("a2", "a", "0", "y"),
        ("b1", "b", "0", "y"),
        ("c1", "c", "0", "z"),
        ("d1", "d", "0", ""),
    ]
    table = write(tmp_path / "t.csv", ["cell_id", "parent_image_id", "Label", "plate"], rows)
    made = write_folds(table, tmp_path / "t.csv", 2, group_column="plate")
    folds = dict(zip(["a1", "a2", "b1", "c1", "d1"], made.folds))
    assert folds["a1"] == folds["a2"] == folds["b1"] and sum(made.groups) == 3
    assert [row["fold"] for row in read(tmp_path / "t.csv")] == [str(fold) for fold in made.folds]
    write_folds(tmp_path / "t.csv", tmp_path / "t.csv", 3)  # the old folds are replaced
    assert list(read(tmp_path / "t.csv")[0]) == ["cell_id", "parent_image_id", "Label", "plate", "fold"]


def test_faults_are_one_clear_line(tmp_path):
    def refuse(match, header=("ID", "Label"), rows=(("a", "0"), ("b", "1")), **options):
        table = write(tmp_path / "t.csv", header, rows)
        with pytest.raises(CellsError, match=match) as caught:
            write_folds(table, tmp_path / "out.csv", **{"n_folds": 2, **options})
        assert "\n" not in str(caught.value) and not (tmp_path / "out.csv").exists()

    refuse("no column 'label'", header=("ID", "what"))
    refuse("2 groups do not fill 3 folds", n_folds=3)
    refuse("n_folds is 1", n_folds=1)
    refuse("no column 'plate'", group_column="plate")
    refuse("has no rows; it needs a header such as ID,Label and a row per field", rows=())
    refuse("line 2: has 3 cells but the header has 2", rows=(("a", "0", "x"),))
    refuse("nowhere.csv: no such table", groups_csv=tmp_path / "nowhere.csv")
    for label in ("99", "Nucleus", "", "1|"):
        known = r"is none of 0 to 18 \(Nucleoplasm to Negative\); write the numbers"
        found = re.escape(repr(label.removeprefix("1|")))
        refuse(rf"t\.csv, line 3: label {found} of b {known}", rows=(("a", "0"), ("b", label)))
    refuse("line 4: the ID a comes twice, first in line 2; keep one row", rows=(("a", 0), ("b", 1), ("a", 0)))
    refuse("line 3: has no ID", rows=(("a", "0"), ("", "1")))
    cells = (("a_1", "a", "0"), ("a_2", "a", "0"), ("b_1", "b", "0"), ("a_2", "a", "0"))
    refuse("the cell_id a_2 comes twice", header=("cell_id", "parent_image_id", "Label"), rows=cells)
    with pytest.raises(CellsError, match="no such table"):
        write_folds(tmp_path / "none.csv", tmp_path / "out.csv")
    (tmp_path / "bytes.csv").write_bytes(b"ID,Label\n\xff\xfe\x00,1\n")
    with pytest.raises(CellsError, match="is neither UTF-8 nor UTF-16 text"):
        write_folds(tmp_path / "bytes.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_as_spreadsheets_write_them(tmp_path, separator, encoding):
    def save(name, rows):
        lines = [separator.join(row) + "\r\n" for row in rows]
        (tmp_path / name).write_bytes("".join(lines).encode(encoding))
        return tmp_path / name

    rows = [(f"ä{n}", f"{n % 2}|16", f"plate, {n}") for n in range(6)]
    table = save("t.csv", [("ID", "Label", "plate"), *rows])
    save("antibodies.csv", [("ID", "antibody"), *((row[0], f"A{n // 2}") for n, row in enumerate(rows))])
    made = write_folds(table, tmp_path / "folds.csv", 3)
    assert made.grouped_by == "field and no antibody" and set(made.balance) == {"0", "1", "16"}
    with (tmp_path / "folds.csv").open(newline="", encoding="utf-8") as file:
        header, *written = csv.reader(file)
    assert header == ["ID", "Label", "plate", "fold"]
    assert [tuple(row[:3]) for row in written] == rows and [int(row[3]) for row in written] == made.folds
    folds = save("f.csv", [("ID", "fold"), *((row[0], row[3]) for row in written)])
    assert write_folds(table, tmp_path / "again.csv", 3, folds_of=folds).folds == made.folds


def test_an_unwritable_folder_is_named(tmp_path):
    table = write(tmp_path / "t.csv", ("ID", "Label"), (("a", "0"), ("b", "1")))
    (tmp_path / "file").write_text("")
    with pytest.raises(CellsError, match="cannot write"):
        write_folds(table, tmp_path / "file" / "out.csv", 2)


def test_the_real_table_is_spread_within_four_percent(real_data, tmp_path):
    made = write_folds(real_data("hpa_kaggle2021_train.csv"), tmp_path / "folds.csv", 5)
    deviation = label_deviation(made.balance)
    assert max(value for label, value in deviation.items() if label != "18") < 0.04
    assert sorted(made.balance["18"]) == [6, 7, 7, 7, 7] and max(made.rows) - min(made.rows) < 20


# ---------------------------------------------------------------- folds of another table


def test_cells_take_the_folds_of_their_fields(tmp_path):
    fields = write(tmp_path / "train.csv", ("ID", "Label"), [(f"f{n}", str(n % 3)) for n in range(12)])
    cells = write(
        tmp_path / "cells.csv",
        ("cell_id", "parent_image_id", "Label"),
        [(f"f{n}_cell_{c}", f"f{n}", str(n % 3)) for n in range(12) for c in range(2)],
    )
    write_folds(fields, tmp_path / "fields.csv", 4, seed=3)
    made = write_folds(cells, tmp_path / "out.csv", 4, folds_of=tmp_path / "fields.csv")
    known = {row["ID"]: row["fold"] for row in read(tmp_path / "fields.csv")}
    assert [row["fold"] for row in read(tmp_path / "out.csv")] == [
        known[f"f{n}"] for n in range(12) for _ in range(2)
    ]
    assert made.rows == [6] * 4


def test_folds_that_cannot_be_taken_over_are_told(tmp_path):
    table = write(tmp_path / "t.csv", ("ID", "Label"), [("a", 1), ("b", 2), ("c", 2)])
    antibodies = write(tmp_path / "ab.csv", ("ID", "antibody"), [("a", "x"), ("b", "x"), ("c", "y")])
    for rows, header, message in (
        ([("a", 0), ("b", 1)], ("ID", "fold"), "the fold of c is 'missing'"),
        ([("a", 0), ("b", 1), ("c", 2)], ("ID", "fold"), "the fold of c is '2'"),
        ([("a", 0), ("b", 1), ("c", 1)], ("ID", "fold"), "antibody x is in several folds"),
        ([("a", 0)], ("ID", "Label"), "has no column 'fold'"),
        ([("a", 0), ("b", 0), ("c", 1), ("c", 0)], ("ID", "fold"), "the ID c comes twice"),
    ):
        folds = write(tmp_path / "folds.csv", header, rows)
        with pytest.raises(CellsError, match=message):
            write_folds(table, tmp_path / "o.csv", 2, folds_of=folds, groups_csv=antibodies)

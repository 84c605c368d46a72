"""Groups found in names and columns. All names of patients and cases here are invented."""

import csv
import hashlib
import uuid
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.data.group_patterns import (
    find_groupings,
    find_patterns,
    match_groups,
    plausible,
    running_numbers,
)
from hf_cells.errors import CellsError

FIRST = "^([^_]+)_"
SECOND = "^([^_]+(?:_[^_]+){1})_"


def hexadecimal(seed: object) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


NAMES = {
    "cases and slides": (
        [
            f"S-{2015 + case % 4}-{case:06d}_PAS_{slide}of2_{hexadecimal((case, slide, n))[:24]}.png"
            for case in range(30)
            for slide in (1, 2)
            for n in range(3)
        ],
        {FIRST: 30, "^([^_]+(?:_[^_]+){2})_": 60},
    ),
    "patient, image, cell": (
        [
            f"C{p}P{p // 9}thinF_IMG_2015061{p % 9}_1147{p:02d}a_cell_{n}.png"
            for p in range(40)
            for n in range(5)
        ],
        {FIRST: 40},
    ),
    "field and cell": ([f"field_{n // 20:03d}_cell_{n % 20}" for n in range(200)], {SECOND: 10}),
    "well, site, cell": (
        [f"{row}{c:02d}_s{s}_cell{n}" for row in "ABC" for c in (1, 2) for s in (1, 2) for n in range(3)],
        {FIRST: 6, SECOND: 12},
    ),
    "cells of images named by UUID": (
        [f"{uuid.UUID(int=7**n)}_{cell}" for n in range(20) for cell in range(4)],
        {FIRST: 20},
    ),
    "year and patient": (
        [f"{year}_P{p}_{n}" for year in (2019, 2020, 2021) for p in range(5) for n in range(4)],
        {SECOND: 15},
    ),
    "folders": (
        [f"patient{p}/slide{s}/{n:03d}.tif" for p in range(5) for s in (1, 2) for n in range(3)],
        {"^([^/]+)/": 5, "^([^/]+(?:/[^/]+){1})/": 10},
    ),
    "first names": ([f"{name}_{n}" for name in "abcdefghijkl" for n in range(4)], {FIRST: 12}),
    "patient after the number": ([f"{n:04d}_P{n * 7 % 9}" for n in range(90)], {"last": 9}),
    "no separator": (
        [f"C{c}P{p}F{f}" for c in range(6) for p in range(3) for f in range(3)],
        {"^((?:[A-Za-z]+\\d+){1})[A-Za-z]": 6, "^((?:[A-Za-z]+\\d+){2})[A-Za-z]": 18},
    ),
    "numbers": ([f"{n:05d}" for n in range(200)], {}),
    "one word and numbers": ([f"BloodImage_{n:05d}" for n in range(200)], {}),
    "splits": ([f"{split}_{n}" for split in ("train", "val", "test") for n in range(30)], {}),
    "hashes": ([hexadecimal(n) for n in range(200)], {}),
    "UUIDs": ([str(uuid.UUID(hexadecimal(n)[:32])) for n in range(200)], {}),
    "dates": ([f"201506{day:02d}_{n}" for day in range(10, 20) for n in range(5)], {}),
    "pairs of one patient": ([f"P1_{n}" for n in range(20)], {}),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("scheme", NAMES)
def test_patterns_find_specimens_and_nothing_else(scheme: str) -> None:
    names, expected = NAMES[scheme]
    found = {pattern: len(set(groups)) for pattern, groups in find_patterns(names).items()}
    if "last" in expected:
        assert list(found.values()) == [expected["last"]]
        ((pattern, groups),) = find_patterns(names).items()
        assert groups == [name.rpartition("_")[2] for name in names] and "P" not in pattern
    else:
        assert list(found.items()) == list(expected.items())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(2, 6), min_size=4, max_size=20),
    st.sampled_from(["_", "-", " ", "."]),
    st.randoms(use_true_random=False),
)
def test_the_pattern_gives_the_groups_back_in_any_order(sizes, separator, random) -> None:
    # Small beside the whole: a group of more than half of the images is none.
    names = [f"P{1000 + p}{separator}{n}" for p, size in enumerate(sizes) for n in range(size)]
    random.shuffle(names)
    pattern, groups = next(iter(find_patterns(names).items()))
    assert groups == [name.split(separator)[0] for name in names] == match_groups(names, pattern)


def test_a_pattern_holds_no_piece_of_a_name() -> None:
    for names, _ in NAMES.values():
        for pattern in find_patterns(names):
            assert not set(pattern) & (set("".join(names)) - set("AZaz0123456789_-./ "))


def test_classes_in_names_are_no_groups() -> None:
    names = [f"class{label}_{n}" for label in range(6) for n in range(10)]
    labels = [int(name[5]) for name in names]
    assert list(find_patterns(names).values()) == [[name.split("_")[0] for name in names]]
    assert find_patterns(names, labels) == {}
    assert find_patterns(names, [label // 2 for label in labels]) != {}  # parts of classes are


def test_what_is_plausible() -> None:
    assert plausible(["P1", "P1", "P2", "P2", "P3", "P3"])
    assert not plausible(["P1", "P1", "P2", "P2"])  # two groups are a side or a stain
    assert not plausible(["P1"] * 7 + ["P2", "P2", "P3", "P3"])  # one has most of the images
    assert not plausible([f"P{n}" for n in range(30)] + ["P1"])  # nearly all alone
    assert not plausible(["HE", "HE", "PAS", "PAS", "GIEMSA", "GIEMSA"])
    assert not plausible([None] * 6)


def test_columns_named_like_specimens_count() -> None:
    ids = [f"{n:03d}" for n in range(24)]
    columns = {
        "group": [f"g{n // 4}" for n in range(24)],
        "slide": [f"{n // 6}" for n in range(24)],
        "patient_id": [n // 8 for n in range(24)],
        "operator": [f"op{n // 6}" for n in range(24)],
        "donor": ["d1"] * 24,
    }
    found = find_groupings(ids, columns)
    assert [(one.source, one.count) for one in found] == [
        ("column group", 6),
        ("column patient_id", 3),
        ("column slide", 4),
    ]
    columns["group"] = [None] * 24
    assert [one.source for one in find_groupings(ids, columns)] == ["column patient_id", "column slide"]


def test_one_partition_is_told_once() -> None:
    names = [f"P{n // 5}_{n}" for n in range(40)]
    found = find_groupings(names, {"group": [f"case {n // 5}" for n in range(40)]})
    assert [one.source for one in found] == ["column group"]


def test_who_asks_is_answered() -> None:
    names = [f"B{n // 4}-x{n}" for n in range(12)]
    columns = {"group": ["g"] * 12, "plate": [str(n // 6) for n in range(12)]}
    (one,) = find_groupings(names, columns, asked="plate")
    assert (one.source, one.groups) == ("column plate", columns["plate"])
    (one,) = find_groupings(names, columns, asked=r"^B(\d)")
    assert one.groups == [str(n // 4) for n in range(12)]
    assert match_groups(["a1.png", "b"], r"\d") == ["1", None]
    with pytest.raises(CellsError, match="no column, and as a regular expression finds nothing in any of 12"):
        find_groupings(names, columns, asked="^Z")
    with pytest.raises(CellsError, match="is not a regular expression: .*; mend it"):
        find_groupings(names, columns, asked="(")


def test_running_numbers() -> None:
    np.testing.assert_array_equal(running_numbers(["00012", "3", "x/BM0041_a.png"]), [12, 3, 41])
    assert running_numbers(["1", "1", "2"]) is None  # train/1 and test/1 are two counts
    assert running_numbers(["A1B2", "A1B3"]) is None
    assert running_numbers(["a", "1"]) is None and running_numbers([]) is None


def test_cases_of_the_real_glomeruli_are_found(real_data) -> None:
    with real_data("glomeruli_public_full_5758.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = find_patterns([row["name"] for row in rows], [row["ground truth"] for row in rows])
    sizes = {pattern: len(set(groups)) for pattern, groups in found.items()}
    largest = max(Counter(found[FIRST]).values())
    # Numbers only: a name must not come into a test's output.
    assert sizes == {FIRST: 215, "^([^_]+(?:_[^_]+){2})_": 227} and largest == 430

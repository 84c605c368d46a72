"""Touching cells: discs whose number is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells import metrics
from hf_cells.metrics.semantic_objects import class_regions
from hf_cells.metrics.touching import split_touching


def discs(*centres, radius=10, shape=(120, 160), value=1):
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    for row, column in centres:
        mask[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = value
    return mask


ALONE = (100, 20)


@pytest.mark.parametrize("gap", [14, 16, 18, 19])
@pytest.mark.parametrize("angle", [0, 0.4, 0.8])
def test_two_discs_that_overlap_are_two(gap, angle):
    other = (40 + gap * np.sin(angle), 50 + gap * np.cos(angle))
    mask = discs((40, 50), other, ALONE)
    assert len(class_regions(mask, split=False)[1]) == 2
    regions, classes = class_regions(mask)
    assert classes.tolist() == [1, 1, 1] and np.unique(regions).tolist() == [0, 1, 2, 3]
    areas = np.bincount(regions.ravel())[1:]
    assert areas.max() <= 1.15 * areas[regions[ALONE] - 1]  # no part is more than a cell
    assert regions[40, 47] != regions[round(other[0]), round(other[1]) + 3]


def test_a_chain_and_a_cluster_of_cells():
    chain = [(30, 20 + 18 * k) for k in range(6)]
    cluster = [(70, 60), (70, 78), (86, 69)]
    assert len(class_regions(discs(*chain, *cluster, ALONE))[1]) == 10


def test_nothing_is_parted_where_no_cell_stands_alone():
    pair = discs((40, 50), (40, 67))
    assert len(class_regions(pair)[1]) == 1
    other_class = np.maximum(pair, discs(ALONE, value=2))  # a cell of another class says nothing of this one
    assert class_regions(other_class)[1].tolist() == [1, 2]


def test_what_is_long_but_has_no_neck_is_one():
    rows, columns = np.indices((120, 160))
    ellipse = ((rows - 40) / 8) ** 2 + ((columns - 80) / 24) ** 2 <= 1
    mask = np.maximum(discs(ALONE), ellipse.astype(np.uint8))
    assert len(class_regions(mask)[1]) == 2


def test_a_full_map_and_an_empty_one_stay():
    for value in (0, 1):
        regions = np.full((30, 30), value, np.int32)
        np.testing.assert_array_equal(split_touching(regions), regions)


def test_counts_are_nearer_to_the_cells_in_both_score_and_count():
    mask = discs((40, 50), (40, 67), ALONE)
    cells = discs((40, 50), value=1)
    cells[(discs((40, 67)) > 0) & (cells == 0)] = 2
    cells[discs(ALONE) > 0] = 3
    for split, error in ((True, 0), (False, 1)):
        row = metrics.score_semantic_objects(mask, mask, 2, cells, split=split)
        told = metrics.aggregate_semantic_objects([row])
        assert told["object_count_mean_absolute_error"] == error and told["object_f1_50"] == 1


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 119), st.integers(0, 159)), min_size=1, max_size=9))
def test_parts_lie_in_their_regions_and_lose_no_pixel(centres):
    mask = discs(*centres, ALONE)
    whole, _ = class_regions(mask, min_pixels=1, split=False)
    parts, classes = class_regions(mask, min_pixels=1)
    np.testing.assert_array_equal(parts > 0, whole > 0)
    assert np.unique(parts[parts > 0]).tolist() == list(range(1, len(classes) + 1))
    for number in range(1, len(classes) + 1):
        assert len(np.unique(whole[parts == number])) == 1

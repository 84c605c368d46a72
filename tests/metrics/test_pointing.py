"""The pointing game by hand, and properties that any map and boxes keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_cells.metrics import point_hits, pointing_metrics, score_pointing
from hf_cells.metrics.pointing import TOLERANCE


def test_a_box_ends_before_its_right_and_bottom():
    box = [[10, 20, 13, 22]]  # columns 10..12, rows 20..21
    assert [x for x in range(8, 16) if point_hits((20, x), box)] == [10, 11, 12]
    assert [y for y in range(18, 25) if point_hits((y, 12), box)] == [20, 21]


def test_the_tolerance_is_a_distance_to_the_nearest_pixel():
    box = [[10, 20, 13, 22]]
    assert point_hits((20, 12 + 15), box, 15) and not point_hits((20, 12 + 16), box, 15)
    assert point_hits((21 + 3, 12 + 4), box, 5) and not point_hits((21 + 4, 12 + 4), box, 5)


def test_any_object_of_the_class_counts_and_an_empty_map_misses():
    boxes = [[0, 0, 2, 2], [50, 50, 60, 60]]
    assert point_hits((55, 55), boxes) and not point_hits((30, 30), boxes)
    assert not point_hits(None, boxes, 1000) and not point_hits((1, 1), [])


def test_an_image_is_asked_for_the_classes_that_it_shows():
    row = score_pointing(
        [(5, 5), (90, 20), None, None],
        [[[0, 0, 10, 10]], [[0, 80, 10, 90]], [], [[40, 40, 60, 60]]],
        (100, 100),
    )
    np.testing.assert_array_equal(row, [[1, 1, 0], [0, 1, 0], [np.nan] * 3, [0, 0, 1]])
    assert TOLERANCE == 15


def test_classes_weigh_alike():
    absent = [np.nan] * 3
    rows = [[[1, 1, 0], absent], [[0, 1, 0], absent], [[0, 0, 1], [1, 1, 0]]]
    found = pointing_metrics(rows, ["ant", "bee"])
    assert found["per_class"]["ant"] == {
        "pointing_game": pytest.approx(1 / 3),
        "pointing_game_15px": pytest.approx(2 / 3),
        "pointing_game_centre": pytest.approx(1 / 3),
        "support": 3,
    }
    assert found["per_class"]["bee"]["support"] == 1
    assert found["pointing_game"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["pointing_game_15px"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["pointing_game_centre"] == pytest.approx(1 / 6)


def test_a_class_without_objects_says_nothing():
    found = pointing_metrics([[[1, 1, 1], [np.nan] * 3]], ["ant", "bee"])
    assert found["pointing_game"] == 1 and np.isnan(found["per_class"]["bee"]["pointing_game"])
    assert found["per_class"]["bee"]["support"] == 0
    nothing = pointing_metrics(np.full((2, 2, 3), np.nan), ["ant", "bee"])
    assert np.isnan(nothing["pointing_game"])


numbers = st.integers(0, 40)


@given(
    numbers,
    numbers,
    st.lists(st.tuples(numbers, numbers, st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
)
def test_without_tolerance_it_is_the_drawn_boxes(y, x, corners):
    boxes = [(left, top, left + w, top + h) for left, top, w, h in corners]
    drawn = np.zeros((60, 60), bool)
    for left, top, right, bottom in boxes:
        drawn[top:bottom, left:right] = True
    assert point_hits((y, x), boxes) == drawn[y, x]
    near = np.hypot(*(np.argwhere(drawn) - (y, x)).T).min()
    for tolerance in (0, 1, 3.5, 15):
        assert point_hits((y, x), boxes, tolerance) == (near <= tolerance)

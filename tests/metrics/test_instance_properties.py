"""What must hold of instance metrics whatever the images are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from label_pairs import disc_pair, renamed

from hf_cells.metrics import score_instances

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def label_pairs(draw):
    shape = draw(SHAPES)
    labels = arrays.arrays(np.int32, shape, elements=st.integers(0, 5))
    return draw(labels), draw(labels)


# Decided by the optimal value alone; the AJI family also depends on which of several equal optima is taken.
TIE_FREE = (
    "objects_true",
    "objects_pred",
    "true_positives",
    "iou_sums",
    "dsb_score",
    "pq_image",
    "dice2",
    "dice_per_image",
)
AJI_FAMILY = ("aji", "aji_plus", "aji_cellpose")


def assert_same(row, other, keys):
    for key in keys:
        if row[key] is None or other[key] is None:
            assert row[key] is other[key], key
        else:
            assert row[key] == pytest.approx(other[key], abs=1e-12, rel=0), key


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_scores_of_a_perfect_prediction(pair):
    labels, _ = pair
    row = score_instances(labels, labels)
    count = len(set(labels.ravel().tolist()) - {0})
    assert row["objects_true"] == row["objects_pred"] == count
    assert row["true_positives"] == [count] * 10
    assert row["iou_sums"] == [count] * 10
    assert row["dsb_score"] == pytest.approx(1.0)
    assert row["dice_per_image"] == 1.0
    for key in (*AJI_FAMILY, "dice2", "pq_image"):
        assert row[key] is None if count == 0 else row[key] == pytest.approx(1.0, abs=2e-6)


@given(label_pairs(), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_other_names_for_the_objects_change_nothing(pair, seed):
    rng = np.random.default_rng(seed)
    true, pred = pair
    assert_same(
        score_instances(true, pred), score_instances(renamed(true, rng), renamed(pred, rng)), TIE_FREE
    )


@pytest.mark.parametrize("seed", range(40))
def test_other_names_change_no_aji_where_no_two_overlaps_tie(seed):
    rng = np.random.default_rng(seed)
    true, pred = disc_pair(seed)
    row, other = score_instances(true, pred), score_instances(renamed(true, rng), renamed(pred, rng))
    assert 0 < row["aji"] < 1
    assert_same(row, other, AJI_FAMILY)


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_truth_and_prediction_may_be_swapped(pair):
    true, pred = pair
    row, other = score_instances(true, pred), score_instances(pred, true)
    assert (row["objects_true"], row["objects_pred"]) == (other["objects_pred"], other["objects_true"])
    assert_same(row, other, TIE_FREE[2:])


@pytest.mark.parametrize("seed", range(40))
def test_one_to_one_aji_is_symmetric_where_no_two_overlaps_tie(seed):
    true, pred = disc_pair(seed)
    assert_same(score_instances(true, pred), score_instances(pred, true), ("aji_plus", "aji_cellpose"))


def test_aji_lets_a_prediction_serve_twice_but_not_a_true_object():
    one, two = np.array([[7, 7, 7, 7]]), np.array([[1, 1, 2, 2]])
    assert score_instances(two, one)["aji"] == 4 / 8
    assert score_instances(one, two)["aji"] == 2 / 6


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_place_and_margin_do_not_matter(pair):
    true, pred = pair
    row = score_instances(true, pred)
    keys = (*TIE_FREE, *AJI_FAMILY)  # order of the labels is kept, so ties fall alike
    assert_same(row, score_instances(true.T, pred.T), keys)
    assert_same(row, score_instances(true[:, ::-1], pred[:, ::-1]), keys)
    assert_same(row, score_instances(np.pad(true, 2), np.pad(pred, 2)), keys)
    twice = np.ones((2, 2), int)
    assert_same(row, score_instances(np.kron(true, twice), np.kron(pred, twice)), TIE_FREE)


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_scores_stay_in_range_and_fall_with_the_threshold(pair):
    row = score_instances(*pair)
    hits = row["true_positives"]
    assert hits == sorted(hits, reverse=True)
    assert hits[0] <= min(row["objects_true"], row["objects_pred"])
    assert all(total <= count + 1e-9 for total, count in zip(row["iou_sums"], hits, strict=True))
    for key in ("dsb_score", "dice_per_image", "pq_image", "dice2", *AJI_FAMILY):
        assert row[key] is None or 0.0 <= row[key] <= 1.0
        assert row[key] is None or not math.isnan(row[key])

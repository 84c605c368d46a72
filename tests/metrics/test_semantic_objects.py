"""Objects of label maps: worked out by hand, and properties that no image may break."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as connected

from hf_cells import metrics
from hf_cells.metrics.semantic_objects import MIN_OBJECT_PIXELS, class_regions


def canvas(*squares, side=60):
    """Squares of (class, top, left, size)."""
    mask = np.zeros((side, side), np.uint8)
    for value, top, left, size in squares:
        mask[top : top + size, left : left + size] = value
    return mask


def score(true, pred, num_labels=3, **options):
    row = json.loads(json.dumps(metrics.score_semantic_objects(true, pred, num_labels, **options)))
    return metrics.aggregate_semantic_objects([row])


def test_regions_are_connected_within_a_class_and_specks_are_none():
    mask = canvas((1, 0, 0, 10), (2, 0, 10, 10), (1, 30, 0, 10), (1, 40, 10, 4), (1, 40, 30, 5))
    regions, classes = class_regions(mask)  # the 4x4 speck touches at a corner only, which does not connect
    assert classes.tolist() == [1, 1, 1, 2]
    assert np.unique(regions).tolist() == [0, 1, 2, 3, 4]
    assert [int((regions == n).sum()) for n in (1, 2, 3, 4)] == [100, 100, 25, 100]
    assert MIN_OBJECT_PIXELS == 20


def test_found_missed_and_invented_objects_by_hand():
    true = canvas((1, 0, 0, 10), (1, 20, 0, 10), (2, 40, 0, 10))
    pred = canvas((1, 0, 0, 10), (1, 20, 6, 10), (1, 0, 40, 10), (1, 40, 0, 10))
    found = score(true, pred)  # class 1: one of two found, three wrong; class 2: given class 1
    one, two = found["per_class"].values()
    assert (one["objects_true"], one["objects_pred"]) == (2, 4)
    assert one["f1_50"] == pytest.approx(2 * 1 / (2 + 4)) and one["recall_50"] == 0.5
    assert two["f1_50"] == 0 and two["class_accuracy"] == 0 and math.isnan(two["precision_50"])
    assert found["object_f1_50"] == pytest.approx((1 / 3 + 0) / 2)
    assert one["count_mean_absolute_error"] == 2 and two["count_mean_absolute_error"] == 1
    assert found["object_count_mean_absolute_error"] == 1.5
    # of the three objects the first is right, the second mostly background, the third of one wrong class
    assert found["object_class_accuracy"] == pytest.approx(1 / 3)
    assert found["object_consistency"] == pytest.approx(2 / 3)


def test_consistency_is_ninety_percent_of_one_class():
    true = canvas((1, 0, 0, 10))
    for columns, consistent in ((1, True), (2, False)):  # of ten columns are given class 2
        pred = true.copy()
        pred[:10, :columns] = 2
        assert score(true, pred)["object_consistency"] == float(consistent)
        assert score(true, pred)["object_class_accuracy"] == 1


def test_touching_cells_are_one_region_and_two_known_cells():
    true = canvas((1, 0, 0, 10), (1, 0, 10, 10))
    cells = canvas((1, 0, 0, 10), (2, 0, 10, 10))
    assert score(true, true)["objects_true"] == 1 == score(true, true)["object_f1_50"]
    known = score(true, true, true_objects=cells)
    assert known["objects_true"] == 2 and known["object_f1_50"] == 1
    assert known["object_count_mean_absolute_error"] == 1
    assert known["object_class_accuracy"] == known["object_consistency"] == 1


def test_what_is_ignored_counts_on_neither_side():
    true, pred = canvas((1, 0, 0, 10)), canvas((1, 0, 0, 10), (2, 30, 30, 10))
    true[30:40, 30:40] = 255
    assert score(true, pred)["objects_pred"] == 1
    assert score(true, pred)["object_f1_50"] == 1


def test_nothing_at_all_is_undefined_and_no_image_is_an_error():
    empty = score(canvas(), canvas())
    assert all(math.isnan(empty[k]) for k in ("object_f1_50", "object_class_accuracy", "object_consistency"))
    with pytest.raises(ValueError, match="no image was scored"):
        metrics.aggregate_semantic_objects([])
    with pytest.raises(ValueError, match="2 label names for 3 classes"):
        metrics.aggregate_semantic_objects(
            [metrics.score_semantic_objects(canvas(), canvas(), 3)], ["background", "a"]
        )


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_a_map_against_itself_is_perfect_and_regions_are_those_of_skimage(seed):
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 4, (6, 6)), np.ones((5, 5), int)).astype(np.uint8)
    regions, classes = class_regions(mask, split=False)
    assert len(classes) == connected(mask, background=0, connectivity=1).max() == regions.max()
    itself = score(mask, mask, 4)
    for name in ("object_f1_50", "object_class_accuracy", "object_consistency"):
        assert itself[name] == 1 or not mask.any()
    swapped = np.choose(mask, [0, 2, 3, 1])
    assert score(mask, swapped, 4)["object_class_accuracy"] == 0 or not mask.any()

"""Semantic metrics: equal to counting pixel by pixel, and to sums done by hand."""

import math

import numpy as np
import pytest
import references
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hf_cells.metrics import semantic


def random_masks(seed):
    rng = np.random.default_rng(seed)
    num_labels = int(rng.integers(2, 6))
    shape = tuple(rng.integers(1, 12, size=2))
    # Some classes are left out of the draw so that absent ones occur; dtype and ignored value vary.
    present = rng.integers(1, num_labels + 1)
    true = rng.integers(0, present, shape)
    pred = np.where(rng.random(shape) < 0.6, true, rng.integers(0, num_labels, shape))
    ignore_index = [255, None, 0, -100][seed % 4]
    if ignore_index in (255, -100):
        true = np.where(
            rng.random(shape) < rng.choice([0.0, 0.2, 1.0], p=[0.4, 0.55, 0.05]), ignore_index, true
        )
    dtype = np.int64 if ignore_index == -100 else [np.uint8, np.int32, np.int64][seed % 3]
    return true.astype(dtype), pred.astype(np.uint8), num_labels, ignore_index


@pytest.mark.parametrize("block", range(4))
def test_every_metric_equals_counting_pixel_by_pixel(block):
    for seed in range(block * 250, (block + 1) * 250):
        true, pred, num_labels, ignore_index = random_masks(seed)
        confusion = semantic.confusion_matrix(true, pred, num_labels, ignore_index)
        counts, right, total = references.class_counts(true, pred, num_labels, ignore_index)

        def ratio(top, bottom):
            return top / bottom if bottom else math.nan

        expected = {
            "iou_per_class": [ratio(tp, t + p - tp) for tp, t, p in counts],
            "dice_per_class": [ratio(2 * tp, t + p) for tp, t, p in counts],
            "precision_per_class": [ratio(tp, p) for tp, _, p in counts],
            "recall_per_class": [ratio(tp, t) for tp, t, _ in counts],
        }
        for name, values in expected.items():
            found = getattr(semantic, name)(confusion).tolist()
            assert found == pytest.approx(values, abs=1e-9, rel=0, nan_ok=True), f"seed {seed}, {name}"
        assert semantic.pixel_accuracy(confusion) == pytest.approx(ratio(right, total), abs=1e-9, nan_ok=True)
        present = [d for d in expected["dice_per_class"][1:] if not math.isnan(d)]
        image = math.nan if total == 0 else sum(present) / len(present) if present else 1.0
        assert semantic.image_dice(confusion) == pytest.approx(image, abs=1e-9, nan_ok=True)


def test_confusion_by_hand():
    true = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
    pred = np.array([[0, 1, 1, 1], [2, 0, 2, 0]], np.uint8)
    confusion = semantic.confusion_matrix(true, pred, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert semantic.pixel_accuracy(confusion) == 4 / 6
    assert semantic.iou_per_class(confusion).tolist() == [1 / 3, 2 / 3, 1 / 2]
    assert semantic.dice_per_class(confusion).tolist() == [1 / 2, 4 / 5, 2 / 3]
    assert semantic.image_dice(confusion) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_an_ignored_pixel_may_hold_any_prediction():
    assert semantic.confusion_matrix([0, 255], [0, 77], 2).tolist() == [[1, 0], [0, 0]]


def test_bool_masks_are_two_classes():
    mask = np.array([True, False, True])
    assert semantic.confusion_matrix(mask, ~mask, 2).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("true", "pred", "expected"),
    [([0, 0], [0, 0], 1.0), ([0, 0], [1, 0], 0.0), ([1, 0], [0, 0], 0.0), ([1, 1], [1, 0], 2 / 3)],
)
def test_dice_of_one_image(true, pred, expected):
    assert semantic.image_dice(semantic.confusion_matrix(true, pred, 2)) == pytest.approx(expected)


def test_an_image_of_ignored_pixels_has_no_score():
    confusion = semantic.confusion_matrix([255, 255], [0, 1], 2)
    assert math.isnan(semantic.image_dice(confusion)) and math.isnan(semantic.pixel_accuracy(confusion))


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((3, 2), int), "differ in shape"),
        (np.zeros(2, int), np.zeros(2), "predicted mask must hold integer labels"),
        (np.array([0, 3]), np.zeros(2, int), r"true labels span 0..3 but must lie in 0..1"),
        (np.zeros(2, int), np.array([-1, 0]), r"predicted labels span -1..0"),
    ],
)
def test_wrong_masks_are_refused(true, pred, message):
    with pytest.raises(ValueError, match=message):
        semantic.confusion_matrix(true, pred, 2)


def test_soft_dice_by_hand():
    assert semantic.soft_dice([[0.5, 0.5], [1.0, 0.0]], [[1, 0], [1, 0]]) == pytest.approx(
        (2 * 1.5 + 1) / (2 + 2 + 1)
    )
    assert semantic.soft_dice(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)) == 1.0
    assert semantic.soft_dice([0.25], [1], smooth=0.0) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="differ in shape"):
        semantic.soft_dice(np.zeros((2, 1, 4)), np.zeros((2, 4)))


@pytest.mark.parametrize("seed", range(100))
def test_soft_dice_equals_its_reference(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, size=3))
    probabilities = rng.random(shape).astype([np.float32, np.float64, np.float16][seed % 3])
    targets = (rng.random(shape) < rng.random()).astype([np.uint8, bool, np.float32][seed % 3])
    smooth = [1.0, 1e-3, 10.0][seed % 3]
    expected = references.soft_dice(probabilities, targets, smooth)
    assert semantic.soft_dice(probabilities, targets, smooth) == pytest.approx(expected, abs=1e-9, rel=0)


def test_soft_dice_of_a_batch_is_not_the_mean_over_its_images():
    targets = np.zeros((2, 10, 10))
    targets[0] = 1
    probabilities = np.stack([np.ones((10, 10)), np.full((10, 10), 0.5)])
    whole = semantic.soft_dice(probabilities, targets)
    per_image = np.mean([semantic.soft_dice(p, y) for p, y in zip(probabilities, targets, strict=True)])
    assert whole == pytest.approx(201 / 251) and per_image == pytest.approx((1 + 1 / 51) / 2)


MASKS = arrays.arrays(np.uint8, (6, 6), elements=st.integers(0, 1))


@given(MASKS, MASKS)
@settings(max_examples=100, deadline=None)
def test_dice_and_iou_of_a_class_obey_their_identity(true, pred):
    confusion = semantic.confusion_matrix(true, pred, 2)
    assert np.array_equal(confusion.T, semantic.confusion_matrix(pred, true, 2))
    iou, dice = semantic.iou_per_class(confusion), semantic.dice_per_class(confusion)
    assert np.allclose(dice, 2 * iou / (1 + iou), equal_nan=True)
    # On hard 0/1 "probabilities" without smoothing the soft Dice is the hard one.
    if true.any() or pred.any():
        assert semantic.soft_dice(pred, true, smooth=0.0) == pytest.approx(dice[1])

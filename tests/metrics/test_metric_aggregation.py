"""Rows and their aggregation: whole data sets against the references, resampling, degenerate sets."""

import json
import math

import numpy as np
import pytest
import references
from label_pairs import random_pair
from test_semantic_metrics import random_masks

from hf_cells import metrics

CONTRACT = {
    "dsb_score",
    "ap50_image_mean",
    "ap75_image_mean",
    "ap50_pooled",
    "ap75_pooled",
    "f1_50_pooled",
    "precision_50_pooled",
    "recall_50_pooled",
    "pq",
    "sq",
    "rq",
    "aji",
    "aji_plus",
    "dice_per_image",
    "count_mean_absolute_error",
    "objects_true",
    "objects_pred",
}


@pytest.mark.parametrize("seed", range(40))
def test_a_data_set_equals_its_reference(seed):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(int(s))[1:] for s in rng.integers(0, 10_000, size=rng.integers(1, 12))]
    scores = metrics.aggregate_instances(metrics.score_instances(*pair) for pair in pairs)
    expected = references.dataset(pairs)
    assert scores.keys() == expected.keys() and scores.keys() >= CONTRACT
    for key, value in expected.items():
        assert isinstance(scores[key], float)
        assert scores[key] == pytest.approx(value, abs=1e-9, rel=0, nan_ok=True), key


def test_any_resample_of_rows_is_the_score_of_the_resampled_images():
    pairs = [random_pair(seed)[1:] for seed in range(25)]
    rows = [metrics.score_instances(*pair) for pair in pairs]
    rng = np.random.default_rng(0)
    for _ in range(15):
        draw = rng.integers(0, len(rows), size=len(rows))
        scores = metrics.aggregate_instances([rows[i] for i in draw])
        assert scores == pytest.approx(references.dataset([pairs[i] for i in draw]), abs=1e-9, nan_ok=True)


def test_rows_survive_json_to_the_last_bit():
    rows = [metrics.score_instances(*random_pair(seed)[1:]) for seed in range(150)]
    assert any(row["aji"] is None for row in rows)
    text = json.dumps(rows, allow_nan=False)
    assert len(text) / len(rows) < 1000
    assert metrics.aggregate_instances(json.loads(text)) == metrics.aggregate_instances(rows)


def test_pooled_and_image_mean_ap_differ_on_the_same_predictions():
    hit = metrics.score_instances([[1]], [[1]])
    miss = metrics.score_instances([[0, 0, 0, 0]], [[1, 2, 3, 4]])
    scores = metrics.aggregate_instances([hit, miss])
    assert scores["ap50_image_mean"] == 0.5
    assert scores["ap50_pooled"] == 1 / 5
    assert scores["count_mean_absolute_error"] == 2.0
    assert (scores["objects_true"], scores["objects_pred"]) == (1.0, 5.0)


def test_an_image_without_objects_is_left_out_of_means_that_it_does_not_define():
    nothing = metrics.score_instances(np.zeros((4, 4), int), np.zeros((4, 4), int))
    half = metrics.score_instances([[1, 1, 1, 1]], [[0, 0, 5, 5]])
    alone, both = metrics.aggregate_instances([half]), metrics.aggregate_instances([half, nothing])
    for key in ("aji", "aji_plus", "ap50_image_mean", "pq_image_mean", "ap50_pooled", "pq"):
        assert alone[key] == both[key]
    assert both["dsb_score"] == 0.5 and alone["dsb_score"] == 0.0
    empty = metrics.aggregate_instances([nothing])
    assert empty["dsb_score"] == empty["dice_per_image"] == 1.0
    assert empty["pq"] == empty["ap50_pooled"] == empty["count_mean_absolute_error"] == 0.0
    assert math.isnan(empty["aji"]) and math.isnan(empty["ap50_image_mean"])


@pytest.mark.parametrize("aggregate", [metrics.aggregate_instances, metrics.aggregate_semantic])
def test_no_image_is_an_error(aggregate):
    with pytest.raises(ValueError, match="no image was scored"):
        aggregate([])


@pytest.mark.parametrize("seed", range(60))
def test_semantic_scores_of_a_data_set_equal_their_reference(seed):
    rng = np.random.default_rng(seed)
    num_labels = int(rng.integers(2, 5))
    images = []
    for _ in range(rng.integers(1, 6)):
        shape = tuple(rng.integers(1, 9, size=2))
        true = rng.integers(0, rng.integers(1, num_labels + 1), shape)
        pred = np.where(rng.random(shape) < 0.5, true, rng.integers(0, num_labels, shape))
        images.append((np.where(rng.random(shape) < 0.1, 255, true), pred))
    rows = json.loads(
        json.dumps([metrics.score_semantic(t, p, num_labels) for t, p in images], allow_nan=False)
    )
    scores = metrics.aggregate_semantic(rows)

    whole = [np.concatenate([image.ravel() for image in side]) for side in zip(*images, strict=True)]
    counts, right, total = references.class_counts(*whole, num_labels, 255)
    iou = [tp / (t + p - tp) for tp, t, p in counts if t + p]
    dice = [2 * tp / (t + p) for tp, t, p in counts if t + p]
    assert scores["pixel_accuracy"] == pytest.approx(right / total if total else math.nan, nan_ok=True)
    assert scores["mean_iou"] == pytest.approx(sum(iou) / len(iou) if iou else math.nan, nan_ok=True)
    assert scores["mean_dice"] == pytest.approx(sum(dice) / len(dice) if dice else math.nan, nan_ok=True)
    assert [c["pixels_true"] for c in scores["per_class"].values()] == [t for _, t, _ in counts]
    assert [c["pixels_pred"] for c in scores["per_class"].values()] == [p for _, _, p in counts]
    recall = [tp / t if t else math.nan for tp, t, _ in counts]
    assert [c["recall"] for c in scores["per_class"].values()] == pytest.approx(recall, nan_ok=True)
    of_images = [row["dice_per_image"] for row in rows if row["dice_per_image"] is not None]
    mean = sum(of_images) / len(of_images) if of_images else math.nan
    assert scores["dice_per_image"] == pytest.approx(mean, nan_ok=True)


def test_semantic_dice_per_image_is_foreground_dice_for_two_classes():
    for seed in range(200):
        true, pred, num_labels, ignore_index = random_masks(seed)
        if num_labels == 2 and ignore_index is None:
            row = metrics.score_semantic(true, pred, 2, None)
            assert row["dice_per_image"] == pytest.approx(references.foreground_dice(true, pred))


def test_classes_are_named_or_numbered():
    rows = [metrics.score_semantic([[0, 1]], [[0, 0]], 2)]
    assert list(metrics.aggregate_semantic(rows)["per_class"]) == ["0", "1"]
    named = metrics.aggregate_semantic(rows, ["background", "nucleus"])["per_class"]
    assert named["nucleus"]["recall"] == 0.0 and named["background"]["precision"] == 0.5
    with pytest.raises(ValueError, match="1 label names for 2 classes"):
        metrics.aggregate_semantic(rows, ["nucleus"])


def test_classes_taken_as_one_by_hand():
    true, pred = np.array([[0, 1, 1, 2, 3, 3]]), np.array([[0, 2, 1, 1, 3, 0]])
    names = ["background", "lymphocyte", "monocyte", "platelet"]
    rows = [metrics.score_semantic(true, pred, 4)]
    scores = metrics.aggregate_semantic(rows, names, {"white": ["lymphocyte", "monocyte"]})
    assert list(scores["per_class_merged"]) == ["background", "white", "platelet"]
    assert scores["per_class_merged"]["white"]["iou"] == 1  # one taken for the other is no fault here
    assert scores["mean_iou_merged"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert scores["pixel_accuracy_merged"] == pytest.approx(5 / 6)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 6)
    assert scores["pixel_accuracy_all_background"] == pytest.approx(1 / 6)
    assert "mean_iou_merged" not in metrics.aggregate_semantic(rows, names)
    with pytest.raises(ValueError, match="a group has the class 'red'"):
        metrics.aggregate_semantic(rows, names, {"blood": ["red"]})


def test_dice_of_a_class_averages_over_the_images_that_have_it():
    images = [([[1, 1, 0]], [[1, 0, 0]]), ([[0, 0, 0]], [[0, 0, 0]]), ([[1, 0, 0]], [[1, 0, 0]])]
    scores = metrics.aggregate_semantic([metrics.score_semantic(t, p, 2) for t, p in images])
    assert scores["per_class"]["1"]["dice_image_mean"] == pytest.approx((2 / 3 + 1) / 2)

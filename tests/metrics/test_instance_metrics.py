"""Instance metrics: equal to the slow references on random pairs, and to sums done by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import references
from label_pairs import KINDS, disc_pair, random_pair, renamed

from hf_cells.metrics import assignment, instance, overlap
from hf_cells.metrics.overlap import label_overlap

SEEDS = range(1200)
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def equal(value, expected):
    return value == pytest.approx(expected, abs=1e-9, rel=0, nan_ok=True)


def test_the_random_pairs_visit_every_awkward_case():
    pairs = [random_pair(seed) for seed in SEEDS]
    assert min(Counter(kind for kind, _, _ in pairs).values()) >= 15
    assert {kind for kind, _, _ in pairs} == set(KINDS)
    assert {true.dtype for _, true, _ in pairs} == {
        np.dtype(d) for d in ("uint8", "uint16", "int32", "int64")
    }
    overlaps = [label_overlap(true, pred) for _, true, pred in pairs]
    two_partners = [o for o in overlaps if (o.iou == 0.5).sum() > len(instance.match_pairs(o, 0.5))]
    assert len(two_partners) >= 50  # an object whose two halves both reach IoU 0.5
    assert sum(int((o.true_ids != np.arange(1, o.n_true + 1)).any()) for o in overlaps) >= 300
    assert sum(int((true != 0).all()) for _, true, _ in pairs) >= 50


@pytest.mark.parametrize("block", range(6))
def test_every_metric_equals_its_reference(block):
    for seed in SEEDS[block * 200 : (block + 1) * 200]:
        kind, true, pred = random_pair(seed)
        found = label_overlap(true, pred)
        where = f"seed {seed}, {kind}"
        assert equal(
            found.iou_matrix(), references.iou_table(references.objects(true), references.objects(pred))
        ), where
        assert equal(instance.dsb_score(found), references.dsb(true, pred)), where
        assert equal(
            instance.cellpose_aggregated_jaccard_index(found), references.cellpose_aji(true, pred)
        ), where
        assert equal(instance.aggregated_jaccard_index(found), references.aji(true, pred)), where
        assert equal(instance.aggregated_jaccard_index_plus(found), references.aji_plus(true, pred)), where
        assert equal(instance.panoptic_quality(found), references.hovernet_pq(true, pred)), where
        assert equal(instance.dice2(found), references.dice2(true, pred)), where
        assert equal(instance.foreground_dice(found), references.foreground_dice(true, pred)), where
        expected_ap = [references.cellpose_ap(true, pred, t) for t in (0.5, 0.75, 0.9)]
        assert equal(instance.average_precision(found).tolist(), expected_ap), where


@pytest.mark.parametrize("block", range(4))
def test_matching_equals_stardist_at_every_threshold(block):
    for seed in SEEDS[block * 300 : (block + 1) * 300]:
        kind, true, pred = random_pair(seed)
        found = label_overlap(true, pred)
        for threshold in (0.1, 0.3, *THRESHOLDS, 1.0):
            tp, fp, fn, iou_sum = references.stardist(true, pred, threshold)
            result = instance.matching(found, threshold)
            where = f"seed {seed}, {kind}, threshold {threshold}"
            assert (result.true_positives, result.n_pred, result.n_true) == (tp, tp + fp, tp + fn), where
            for name, expected in references.stardist_scores(tp, fp, fn, iou_sum).items():
                assert equal(getattr(result, name), expected), f"{where}, {name}"


def test_pooling_adds_counts_over_images():
    pairs = [random_pair(seed)[1:] for seed in range(60)]
    pooled = instance.pool(instance.matching(label_overlap(t, p), 0.7) for t, p in pairs)
    summed = [sum(column) for column in zip(*(references.stardist(t, p, 0.7) for t, p in pairs), strict=True)]
    for name, expected in references.stardist_scores(*summed).items():
        assert equal(getattr(pooled, name), expected)


def test_one_hit_one_half_one_extra_by_hand():
    found = label_overlap([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]], [[1, 1, 1, 1, 0, 3, 3, 0, 0, 5]])
    assert found.iou.tolist() == [1.0, 0.5]
    assert found.pred_ids.tolist() == [1, 3, 5]
    half = instance.matching(found, 0.5)  # IoU exactly 0.5 is a match for StarDist and Cellpose
    assert (half.true_positives, half.n_true, half.n_pred) == (2, 2, 3)
    assert equal(half.accuracy, 2 / 3) and equal(half.f1, 4 / 5)
    assert equal(half.precision, 2 / 3) and half.recall == 1.0
    assert equal(half.panoptic_quality, 1.5 / 2.5)
    assert equal(half.mean_true_score, 0.75) and equal(half.mean_matched_score, 0.75)
    assert equal(instance.average_precision(found).tolist(), [2 / 3, 1 / 4, 1 / 4])
    # ... and none for the competition and HoVer-Net: one hit, two extras, one missed.
    assert instance.dsb_true_positives(found).tolist() == [1] * 10
    assert equal(instance.dsb_score(found), 1 / (4 + 1e-9))
    assert equal(instance.panoptic_quality(found), (1 / 2.5, 1 / (1 + 1e-6), 0.4 / (1 + 1e-6)))
    assert equal(instance.aggregated_jaccard_index(found), 6 / 9)  # 4 + 2 over 4 + 4 + the lone pixel
    assert equal(instance.dice2(found), 2 * (4 + 2) / (8 + 6))
    assert equal(instance.foreground_dice(found), 2 * 6 / (8 + 7))


def test_two_nuclei_merged_into_one_tell_the_three_aji_apart():
    found = label_overlap([[1, 1, 1, 2, 2, 2]], [[7, 7, 7, 7, 7, 7]])
    assert equal(instance.aggregated_jaccard_index(found), 6 / 12)  # both take object 7
    assert equal(instance.aggregated_jaccard_index_plus(found), 3 / 9)  # one takes it, 3 pixels are left over
    assert equal(instance.cellpose_aggregated_jaccard_index(found), 3 / 6)  # over the foreground
    assert instance.matching(found, 0.5).true_positives == 1
    assert equal(instance.matching(found, 0.5).panoptic_quality, 0.5 / 1.5)
    assert instance.dsb_score(found) == 0.0


def test_a_match_goes_before_a_higher_sum_of_iou_in_cellpose_aji_only():
    # Objects of 30 pixels share 21 (IoU 21/39); the 9 left on either side are the other two (IoU 9/30).
    found = label_overlap([[1] * 30 + [2] * 9], [[2] * 9 + [1] * 30])
    assert equal(instance.cellpose_aggregated_jaccard_index(found), 21 / 39)
    assert equal(instance.aggregated_jaccard_index_plus(found), 18 / 60)
    assert equal(instance.matching(found, 0.5).iou_sum, 21 / 39)


def test_iou_equal_to_a_threshold_follows_each_source():
    found = label_overlap([[1] * 20], [[1] * 12 + [0] * 8])  # IoU 0.6
    assert instance.matching(found, 0.6).true_positives == 1
    assert instance.dsb_true_positives(found).tolist() == [1, 1] + [0] * 8  # strictly above


@pytest.mark.parametrize(
    ("true", "pred", "dsb", "others"),
    [([[0, 0]], [[0, 0]], 1.0, math.nan), ([[0, 0]], [[0, 3]], 0.0, 0.0), ([[2, 0]], [[0, 0]], 0.0, 0.0)],
)
def test_empty_images(true, pred, dsb, others):
    found = label_overlap(true, pred)
    assert instance.dsb_score(found) == dsb
    assert instance.foreground_dice(found) == dsb
    assert instance.matching(found).accuracy == 0.0
    for metric in (
        instance.aggregated_jaccard_index,
        instance.aggregated_jaccard_index_plus,
        instance.cellpose_aggregated_jaccard_index,
        instance.dice2,
        lambda o: instance.panoptic_quality(o)[2],
        lambda o: instance.average_precision(o)[0].item(),
    ):
        assert equal(metric(found), others)


def test_the_official_score_of_an_image_without_objects_can_be_had():
    nothing = label_overlap(np.zeros((4, 4), int), np.zeros((4, 4), int))
    assert instance.dsb_score(nothing, both_empty=0.0) == 0.0
    assert instance.dsb_score(label_overlap([[1]], [[1]]), both_empty=0.0) == pytest.approx(1.0)


def test_overlap_names_the_objects_and_their_areas():
    found = label_overlap(
        np.array([[0, 900, 900], [0, 7, 7]], np.uint16), np.array([[5, 5, 5], [0, 0, 2]], np.int64)
    )
    assert found.true_ids.tolist() == [7, 900] and found.true_areas.tolist() == [2, 2]
    assert found.pred_ids.tolist() == [2, 5] and found.pred_areas.tolist() == [1, 3]
    assert list(zip(found.rows.tolist(), found.cols.tolist(), found.intersections.tolist(), strict=True)) == [
        (0, 0, 1),
        (1, 1, 2),
    ]


def test_labels_of_any_size_mean_the_same():
    labels = np.array([[0, 1, 1, 2], [3, 3, 0, 2]])
    huge = np.array([0, 5, 70_000, 2**40])[labels]
    found = label_overlap(labels, huge)
    assert found.pred_ids.tolist() == [5, 70_000, 2**40]
    assert found.iou.tolist() == [1.0, 1.0, 1.0]
    assert label_overlap(huge[:1, 1:3], labels[:1, 1:3]).true_ids.tolist() == [5]  # no background pixel
    assert label_overlap(labels > 0, huge > 0).n_true == 1  # bool masks are one object


@pytest.mark.parametrize("seed", range(40))
def test_sorting_and_chunked_counting_equal_the_dense_table(seed, monkeypatch):
    _, true, pred = random_pair(seed)
    dense = label_overlap(true, pred)
    monkeypatch.setattr(overlap, "_CHUNK", 7)
    chunked = label_overlap(true, pred)
    monkeypatch.setattr(overlap, "_DENSE_TABLE", 0)
    sorted_ = label_overlap(true, pred)
    for name in ("true_ids", "pred_ids", "true_areas", "pred_areas", "rows", "cols", "intersections"):
        assert np.array_equal(getattr(dense, name), getattr(chunked, name))
        assert np.array_equal(getattr(dense, name), getattr(sorted_, name))


def test_assignment_by_connected_groups_reaches_the_same_optimum(monkeypatch):
    rng = np.random.default_rng(0)
    cases = [random_pair(seed)[1:] for seed in range(150)] + [disc_pair(seed) for seed in range(30)]
    for true, pred in cases:
        found = label_overlap(true, pred)
        gain = rng.random(len(found.rows)) + 0.01  # random gains do not tie
        whole = assignment.assign(found, gain)
        with monkeypatch.context() as small:
            small.setattr(assignment, "_DENSE_ASSIGNMENT", -1)
            assert np.array_equal(assignment.assign(found, gain), whole)


def test_a_slide_with_thousands_of_objects_is_scored():
    rows, cols = np.indices((800, 800))
    true = rows // 8 * 100 + cols // 8 + 1  # 10,000 touching squares
    pred = renamed(true[:, :400], np.random.default_rng(0), highest=2**20)
    pred = np.concatenate([pred, np.zeros((800, 400), np.int64)], axis=1)
    found = label_overlap(true, pred)
    assert (found.n_true, found.n_pred) == (10_000, 5_000)
    assert instance.matching(found).true_positives == 5_000
    assert equal(instance.aggregated_jaccard_index_plus(found), 0.5)
    assert equal(instance.cellpose_aggregated_jaccard_index(found), 0.5)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "differ in shape"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "true labels must be integers"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "predicted labels must not be negative"),
    ],
)
def test_wrong_label_images_are_refused(true, pred, message):
    with pytest.raises(ValueError, match=message):
        label_overlap(true, pred)


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5])
def test_thresholds_outside_the_unit_interval_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        instance.matching(label_overlap([[1]], [[1]]), threshold)

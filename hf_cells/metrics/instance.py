"""Instance-segmentation metrics, each as its source defines it, on one shared `Overlap`.

    overlap = label_overlap(true_labels, pred_labels)
    dsb_score(overlap), matching(overlap, 0.5).f1, aggregated_jaccard_index_plus(overlap)

Same name, different number: "AP" is pooled over images by StarDist and averaged over them by Cellpose and the
2018 Data Science Bowl, and "AJI" is one thing for MoNuSeg and HoVer-Net and another for Cellpose. Every
function here says whose it is. Undefined values (nothing to find and nothing found) are NaN unless stated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hf_cells.metrics.assignment import assign
from hf_cells.metrics.overlap import FloatArray, IntArray, Overlap

# As in the source, rounding errors included (0.6000000000000001, …).
DSB_THRESHOLDS: FloatArray = np.arange(0.5, 1.0, 0.05)
MATCHING_THRESHOLDS: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


# ---------------------------------------------------------------- 2018 Data Science Bowl


def dsb_true_positives(overlap: Overlap) -> IntArray:
    """Count the true objects with exactly one prediction of IoU > t, for t in `DSB_THRESHOLDS`.

    Objects of a label image do not overlap, so above IoU 0.5 no object has two partners: pairs are matches.

    Returns:
        (10,) counts.
    """
    return np.count_nonzero(overlap.iou[:, None] > DSB_THRESHOLDS, axis=0)


def dsb_score(overlap: Overlap, both_empty: float = 1.0) -> float:
    """Score one image as the 2018 Data Science Bowl does: mean over t of TP / (TP + FP + FN + 1e-9).

    IoU strictly above t, t = np.arange(0.5, 1, 0.05). The dataset's score is the mean over images.

    Source: Caicedo 2019; https://github.com/carpenterlab/2019_caicedo_dsb `evaluation.py::measures_at`.

    Args:
        overlap: of the image.
        both_empty: score of an image without true and without predicted objects. The official code yields
            0.0 there (0 / 1e-9), which would punish a correct answer; set 0.0 to follow it to the letter.
            Empty truth with predictions scores 0.0 either way.
    """
    if overlap.is_empty:
        return both_empty
    true_positives = dsb_true_positives(overlap)
    return float(np.mean(true_positives / (overlap.n_true + overlap.n_pred - true_positives + 1e-9)))


# ---------------------------------------------------------------- StarDist


@dataclass(frozen=True)
class Matching:
    """Counts of matched objects at one threshold, and the scores that StarDist derives from them.

    A score whose denominator is zero is 0.0, as in StarDist.

    Source: https://github.com/stardist/stardist `stardist/matching.py`; panoptic quality of
    Kirillov et al., CVPR 2019, eq. 1.
    """

    true_positives: int
    n_true: int
    n_pred: int
    iou_sum: float
    """Sum of the IoU of the matched pairs."""

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN), which StarDist's papers call average precision."""
        return _ratio(self.true_positives, self.n_true + self.n_pred - self.true_positives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.true_positives, self.n_pred)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.true_positives, self.n_true)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); the recognition quality RQ of panoptic quality."""
        return _ratio(2 * self.true_positives, self.n_true + self.n_pred)

    @property
    def mean_true_score(self) -> float:
        """Sum of matched IoU over the number of true objects."""
        return _ratio(self.iou_sum, self.n_true)

    @property
    def mean_matched_score(self) -> float:
        """Mean IoU of the matched pairs; the segmentation quality SQ of panoptic quality."""
        return _ratio(self.iou_sum, self.true_positives)

    @property
    def panoptic_quality(self) -> float:
        """Sum of matched IoU over TP + FP / 2 + FN / 2."""
        return _ratio(self.iou_sum, (self.n_true + self.n_pred) / 2)


def match_pairs(overlap: Overlap, threshold: float = 0.5) -> IntArray:
    """Match objects one to one with IoU >= threshold, as many as possible, then with the highest IoU.

    From 0.5 upwards no assignment problem is left. Two partners of one object at IoU >= 0.5 can only be its
    two halves, each lying inside it at IoU exactly 0.5 (the areas leave no other solution), so keeping the
    first partner of every true object and then of every prediction gives StarDist's counts and IoU sums
    exactly. Below 0.5 the assignment is solved with StarDist's cost.

    Returns:
        (n_matches,) indices into the pairs of `overlap`.

    Raises:
        ValueError: threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"IoU threshold must lie in (0, 1], not {threshold}")
    if threshold < 0.5:
        assigned = assign(overlap, _matching_gain(overlap, threshold))
        return assigned[overlap.iou[assigned] >= threshold]
    pairs = np.flatnonzero(overlap.iou >= threshold)
    pairs = pairs[_first_of_each(overlap.rows[pairs])]
    return pairs[_first_of_each(overlap.cols[pairs])]


def matching(overlap: Overlap, threshold: float = 0.5) -> Matching:
    """Match one image's objects at IoU >= threshold (see `match_pairs`) and count."""
    pairs = match_pairs(overlap, threshold)
    return Matching(len(pairs), overlap.n_true, overlap.n_pred, float(overlap.iou[pairs].sum()))


def pool(matchings: Iterable[Matching]) -> Matching:
    """Add up the counts of many images (StarDist's `matching_dataset` with `by_image=False`)."""
    items = list(matchings)
    return Matching(
        true_positives=sum(m.true_positives for m in items),
        n_true=sum(m.n_true for m in items),
        n_pred=sum(m.n_pred for m in items),
        iou_sum=math.fsum(m.iou_sum for m in items),
    )


# ---------------------------------------------------------------- Cellpose


def average_precision(overlap: Overlap, thresholds: Iterable[float] = (0.5, 0.75, 0.9)) -> FloatArray:
    """Average precision of one image as Cellpose defines it: TP / (TP + FP + FN) at IoU >= threshold.

    Averaged over images afterwards; NaN without any object, as in Cellpose (skip those images: `np.nanmean`).
    Cellpose returns float32 and counts objects by the highest label (from version 4.2 by the distinct labels
    less one); here every label but 0 that owns a pixel is an object, and the result is float64.

    Source: https://github.com/MouseLand/cellpose `cellpose/metrics.py::average_precision`.

    Returns:
        (n_thresholds,) scores.
    """
    scores = [math.nan if overlap.is_empty else matching(overlap, t).accuracy for t in thresholds]
    return np.array(scores, dtype=np.float64)


def cellpose_aggregated_jaccard_index(overlap: Overlap) -> float:
    """Cellpose's AJI: pixels shared by one-to-one assigned objects over the union of both foregrounds.

    Not the AJI of MoNuSeg (see `aggregated_jaccard_index`). Pairs below IoU 0.5 count too.
    NaN without any object.

    Source: https://github.com/MouseLand/cellpose `cellpose/metrics.py::aggregated_jaccard_index`.
    """
    if overlap.is_empty:
        return math.nan
    assigned = assign(overlap, _matching_gain(overlap, 0.5))
    foreground = overlap.true_areas.sum() + overlap.pred_areas.sum() - overlap.intersections.sum()
    return float(overlap.intersections[assigned].sum() / foreground)


# ---------------------------------------------------------------- HoVer-Net (MoNuSeg)


def aggregated_jaccard_index(overlap: Overlap) -> float:
    """AJI: every true object takes its best prediction, even one already taken; leftovers enlarge the union.

    NaN without any object, 0.0 with objects on one side only (the source fails there).

    Source: Kumar et al. 2017 (MoNuSeg); https://github.com/vqdang/hover_net `stats_utils.py::get_fast_aji`.
    """
    if overlap.is_empty:
        return math.nan
    # Best prediction of each true object; among equals the lowest label, as argmax takes.
    order = np.lexsort((overlap.cols, -_smoothed_iou(overlap), overlap.rows))
    return _aggregated_jaccard(overlap, order[_first_of_each(overlap.rows[order])])


def aggregated_jaccard_index_plus(overlap: Overlap) -> float:
    """AJI+: as AJI, but objects are paired one to one so that the sum of IoU is highest.

    NaN without any object.

    Source: Graham et al. 2019; https://github.com/vqdang/hover_net `stats_utils.py::get_fast_aji_plus`.
    """
    if overlap.is_empty:
        return math.nan
    return _aggregated_jaccard(overlap, assign(overlap, _smoothed_iou(overlap)))


def panoptic_quality(overlap: Overlap) -> tuple[float, float, float]:
    """Panoptic quality of one image as HoVer-Net computes it: pairs of IoU strictly above 0.5.

    NaN without any object. `Matching.panoptic_quality` is StarDist's, which includes IoU 0.5 and has no 1e-6.

    Source: https://github.com/vqdang/hover_net `stats_utils.py::get_fast_pq`.

    Returns:
        Detection quality TP / (TP + FP / 2 + FN / 2), segmentation quality sum(IoU) / (TP + 1e-6), and
        their product.
    """
    if overlap.is_empty:
        return math.nan, math.nan, math.nan
    matched = overlap.iou[overlap.iou > 0.5]
    detection = len(matched) / ((overlap.n_true + overlap.n_pred) / 2)
    segmentation = float(matched.sum() / (len(matched) + 1e-6))
    return detection, segmentation, detection * segmentation


def dice2(overlap: Overlap) -> float:
    """Ensemble Dice: 2 sum(intersection) / sum(area + area) over all pairs of objects that touch.

    NaN without any object, 0.0 if no two objects share a pixel (the source divides by zero there).

    Source: https://github.com/vqdang/hover_net `stats_utils.py::get_fast_dice_2`.
    """
    if overlap.is_empty:
        return math.nan
    shared = overlap.intersections.sum()
    return _ratio(2 * int(shared), int(overlap.unions.sum() + shared))


def foreground_dice(overlap: Overlap) -> float:
    """Hard Dice of the two foregrounds, objects merged; 1.0 if both are empty, as nothing is wrong."""
    if overlap.is_empty:
        return 1.0
    shared = int(overlap.intersections.sum())
    return 2 * shared / int(overlap.true_areas.sum() + overlap.pred_areas.sum())


# ---------------------------------------------------------------- helpers


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else 0.0


def _first_of_each(values: IntArray) -> IntArray:
    """Return the position of the first occurrence of every distinct value, in order of appearance."""
    return np.sort(np.unique(values, return_index=True)[1])


def _smoothed_iou(overlap: Overlap) -> FloatArray:
    """Return HoVer-Net's pairwise IoU, whose 1e-6 decides between pairs of equal IoU."""
    return overlap.intersections / (overlap.unions + 1e-6)


def _matching_gain(overlap: Overlap, threshold: float) -> FloatArray:
    """Return StarDist's gain of a pair: being a match counts first, its IoU decides between equals."""
    n_matched = max(1, min(overlap.n_true, overlap.n_pred))
    return (overlap.iou >= threshold).astype(np.float64) + overlap.iou / (2 * n_matched)


def _aggregated_jaccard(overlap: Overlap, pairs: IntArray) -> float:
    """Intersections over unions of the given pairs, whole areas of objects in no pair added to the union."""
    alone_true, alone_pred = np.ones(overlap.n_true, dtype=bool), np.ones(overlap.n_pred, dtype=bool)
    alone_true[overlap.rows[pairs]] = False
    alone_pred[overlap.cols[pairs]] = False
    union = (
        overlap.unions[pairs].sum()
        + overlap.true_areas[alone_true].sum()
        + overlap.pred_areas[alone_pred].sum()
    )
    return float(overlap.intersections[pairs].sum() / union)

"""Classification metrics: what a decision got right, how well the probabilities rank, and how true they are.

Everything is computed in float64 and equals scikit-learn where both are defined. A number that the data
cannot give (a class without an image, an empty split) is NaN, without a warning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_cells.metrics.ranking import ranking_areas
from hf_cells.metrics.reliability import expected_calibration_error
from hf_cells.metrics.semantic import confusion_matrix

FloatArray = NDArray[np.float64]


def classification_metrics(
    labels: ArrayLike, probabilities: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]
) -> dict[str, Any]:
    """Measure a classifier that gives every image one of K classes.

    Macro means are over classes: `macro_precision` and `macro_f1` over those that occur in truth or
    prediction, a class that is there but never predicted counting 0 (scikit-learn's default);
    `mean_class_accuracy` over those in the truth. One-vs-rest areas leave out classes for which they are not
    defined. With two classes a macro mean covers both of them.

    Args:
        labels: (N,) integers in [0, K).
        probabilities: (N, K) in [0, 1].
        predicted: (N,) integers in [0, K): the decision, which need not be the most probable class.
        class_names: K names, for `per_class`.

    Returns:
        accuracy: share of images with the right class (also the weighted recall).
        mean_class_accuracy: mean recall, also called balanced accuracy.
        macro_precision, macro_f1: means over classes; weighted_precision, weighted_f1: means over images.
        matthews_corrcoef: in [-1, 1] (Gorodkin 2004); 0 when truth or prediction has one class only.
        roc_auc_macro: mean one-vs-rest area under the ROC curve.
        mean_average_precision: mean one-vs-rest average precision.
        brier_score: mean over images of the SUM over classes of squared errors, in [0, 2] (Brier 1950); for two
            classes it is twice the score of one of them.
        log_loss: mean of -ln of the probability of the true class, which is clipped at 2.2e-16.
        expected_calibration_error: of the most probable class, 15 bins (Guo et al. 2017).
        per_class: {name: {precision, recall, f1, support, roc_auc, average_precision}}.

    Raises:
        ValueError: Shapes differ, a label is out of range, or a probability is outside [0, 1].
    """
    truth = _class_ids(labels, "labels")
    p = _checked_probabilities(probabilities, (len(truth), len(class_names)))
    decided = decision_metrics(truth, predicted, class_names)
    targets = truth[:, None] == np.arange(len(class_names))
    auc, ap = _areas(targets, p, decided["per_class"])
    images, top = np.arange(len(truth)), p.argmax(axis=1)
    eps = np.finfo(np.float64).eps
    per_class = decided.pop("per_class")
    return {
        **decided,
        "roc_auc_macro": auc,
        "mean_average_precision": ap,
        "brier_score": _mean(((p - targets) ** 2).sum(axis=1)),
        "log_loss": _mean(-np.log(p[images, truth].clip(eps, 1 - eps))),
        "expected_calibration_error": expected_calibration_error(p[images, top], top == truth),
        "per_class": per_class,
    }


def multilabel_metrics(
    labels: ArrayLike, probabilities: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]
) -> dict[str, Any]:
    """Measure a classifier that gives an image any number of K labels.

    Args:
        labels: (N, K) 0 or 1.
        probabilities: (N, K) in [0, 1].
        predicted: (N, K) 0 or 1: the decision.
        class_names: K names, for `per_class`.

    Returns:
        mean_average_precision, roc_auc_macro: means over labels for which they are defined.
        f1_macro: mean over labels that occur in truth or prediction; f1_micro: from counts pooled over labels.
        exact_match: share of images with all labels right; hamming_loss: share of wrong (image, label) pairs.
        brier_score: mean squared error over (image, label) pairs, in [0, 1].
        expected_calibration_error: of all (image, label) pairs, 15 bins.
        per_class: {name: {precision, recall, f1, support, roc_auc, average_precision}}.

    Raises:
        ValueError: Shapes differ, or a probability is outside [0, 1].
    """
    truth = np.asarray(labels, dtype=bool)
    p = _checked_probabilities(probabilities, (len(truth), len(class_names)))
    decided = decision_metrics(truth, np.asarray(predicted, dtype=bool), class_names)
    auc, ap = _areas(truth, p, decided["per_class"])
    per_class = decided.pop("per_class")
    return {
        "mean_average_precision": ap,
        "roc_auc_macro": auc,
        **decided,
        "brier_score": _mean((p - truth) ** 2),
        "expected_calibration_error": expected_calibration_error(p, truth),
        "per_class": per_class,
    }


def decision_metrics(labels: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> dict[str, Any]:
    """Compute what needs no probability: the part of the two functions above that a threshold can change.

    Args:
        labels: (N,) integers, or (N, K) bool for several labels an image.
        predicted: Like `labels`.
        class_names: K names.

    Returns:
        From accuracy to matthews_corrcoef, or from f1_macro to hamming_loss, and `per_class` without areas.

    Raises:
        ValueError: Shapes differ, or a label is out of range.
    """
    if np.ndim(labels) == 2:
        return _several_decided(np.asarray(labels), np.asarray(predicted), class_names)
    truth, chosen = _class_ids(labels, "labels"), _class_ids(predicted, "predicted")
    if truth.shape != chosen.shape:
        raise ValueError(f"{len(truth)} labels for {len(chosen)} predicted; give one of each per image")
    confusion = confusion_matrix(truth, chosen, len(class_names), ignore_index=None)
    hits, support, claimed = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = _rates(hits, support, claimed)
    return {
        "accuracy": _mean(truth == chosen),
        "mean_class_accuracy": _mean(recall),
        "macro_precision": _mean(precision),
        "macro_f1": _mean(f1),
        "weighted_precision": _weighted(precision, support),
        "weighted_f1": _weighted(f1, support),
        "matthews_corrcoef": _matthews(hits.sum(), support, claimed),
        "per_class": _per_class(class_names, precision, recall, f1, support),
    }


def _several_decided(truth: NDArray, chosen: NDArray, class_names: Sequence[str]) -> dict[str, Any]:
    shape = (len(truth), len(class_names))
    if truth.shape != shape or chosen.shape != shape:
        raise ValueError(f"labels {truth.shape} and predicted {chosen.shape} must be {shape} both")
    hits, support, claimed = (truth & chosen).sum(axis=0), truth.sum(axis=0), chosen.sum(axis=0)
    precision, recall, f1 = _rates(hits, support, claimed)
    pooled = _rates(hits.sum(keepdims=True), support.sum(keepdims=True), claimed.sum(keepdims=True))
    return {
        "f1_macro": _mean(f1),
        "f1_micro": float(pooled[2][0]),
        "exact_match": _mean((truth == chosen).all(axis=1)),
        "hamming_loss": _mean(truth != chosen),
        "per_class": _per_class(class_names, precision, recall, f1, support),
    }


def _class_ids(values: ArrayLike, name: str) -> NDArray[np.int64]:
    ids = np.asarray(values)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise ValueError(f"{name} must be (N,) integers, not {ids.dtype} of shape {ids.shape}")
    return ids.astype(np.int64)


def _checked_probabilities(probabilities: ArrayLike, shape: tuple[int, int]) -> FloatArray:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.shape != shape:
        raise ValueError(
            f"probabilities have shape {p.shape}; {shape[0]} images of {shape[1]} classes need {shape}"
        )
    # Softmax in float32 overshoots 1 by a few units in the last place; NaN fails both comparisons.
    if p.size and not (p.min() >= -1e-6 and p.max() <= 1 + 1e-6):
        raise ValueError("probabilities must be finite and in [0, 1]; apply softmax or sigmoid to the logits")
    return p.clip(0, 1)


def _rates(hits: NDArray, support: NDArray, claimed: NDArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision, recall and F1 of each class; see `classification_metrics` for what is undefined."""
    occurs = support + claimed > 0
    precision = np.where(occurs, hits / np.maximum(claimed, 1), np.nan)
    recall = np.where(support > 0, hits / np.maximum(support, 1), np.nan)
    f1 = np.where(occurs, 2 * hits / np.maximum(support + claimed, 1), np.nan)
    return precision, recall, f1


def _areas(targets: NDArray, p: FloatArray, per_class: dict[str, dict[str, Any]]) -> tuple[float, float]:
    """Mean one-vs-rest area under the ROC curve and mean average precision; those of each class go to its row."""
    areas = [ranking_areas(*column) for column in zip(targets.T, p.T, strict=True)]
    for row, (auc, ap) in zip(per_class.values(), areas, strict=True):
        row |= {"roc_auc": auc, "average_precision": ap}
    return _mean([auc for auc, _ in areas]), _mean([ap for _, ap in areas])


def _matthews(hits: int, support: NDArray, claimed: NDArray) -> float:
    """Multi-class correlation of truth and prediction, from the margins of the confusion matrix."""
    total = int(support.sum())
    if not total:
        return math.nan
    spread = (total**2 - int(support @ support)) * (total**2 - int(claimed @ claimed))
    return (int(hits) * total - int(support @ claimed)) / math.sqrt(spread) if spread else 0.0


def _mean(values: ArrayLike) -> float:
    """Mean of what is defined; NaN where nothing is."""
    array = np.asarray(values, dtype=np.float64).ravel()
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else math.nan


def _weighted(values: FloatArray, support: NDArray) -> float:
    total = support.sum()
    return float(np.nan_to_num(values) @ support / total) if total else math.nan


def _per_class(
    names: Sequence[str], precision: FloatArray, recall: FloatArray, f1: FloatArray, support: NDArray
) -> dict[str, dict[str, float | int]]:
    columns = (precision.tolist(), recall.tolist(), f1.tolist(), support.tolist())
    rows = zip(*columns, strict=True)
    return {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True))
        for name, row in zip(names, rows, strict=True)
    }

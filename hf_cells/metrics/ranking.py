"""Curves and areas over all thresholds of one class against the rest: ROC and precision-recall."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rates at every threshold that changes a decision, from "none is positive" to "all are".

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite; higher means more likely 1. Equal scores are decided together.

    Returns:
        False positive rate, true positive rate and threshold (score >= threshold is positive), each
        (M + 1,) for M distinct scores, the first threshold infinite. A rate is NaN where its class is absent.
    """
    hits, false_alarms, thresholds = _counts(labels, scores)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a class is absent
        return false_alarms / false_alarms[-1], hits / hits[-1], thresholds


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive outranks a negative, ties counting half (Hanley 1982).

    NaN unless both classes are there.
    """
    return ranking_areas(labels, scores)[0]


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision and recall at every threshold that changes a decision.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.

    Returns:
        Precision, recall and threshold, (M + 1,) each, recall rising from 0. Where nothing is positive yet the
        precision is 1 by convention. Recall is NaN without a positive.
    """
    hits, false_alarms, thresholds = _counts(labels, scores)
    precision = np.ones_like(hits)
    precision[1:] = hits[1:] / (hits[1:] + false_alarms[1:])
    with np.errstate(invalid="ignore"):
        return precision, hits / hits[-1], thresholds


def average_precision_score(labels: ArrayLike, scores: ArrayLike) -> float:
    """Precision at each threshold weighed by the recall it adds, without interpolation (as scikit-learn).

    NaN without a positive.
    """
    return ranking_areas(labels, scores)[1]


def ranking_areas(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """`roc_auc` and `average_precision_score` from one sorting."""
    hits, false_alarms, _ = _counts(labels, scores)
    auc = ap = math.nan
    if hits[-1]:
        ap = float(np.diff(hits) @ (hits[1:] / (hits[1:] + false_alarms[1:])) / hits[-1])
        if false_alarms[-1]:
            auc = float(np.trapezoid(hits, false_alarms) / (hits[-1] * false_alarms[-1]))
    return auc, ap


def _counts(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """True and false positives at and above each distinct score, falling; (0, 0) at infinity comes first."""
    positive, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.shape != values.shape or positive.ndim != 1:
        raise ValueError(f"labels {positive.shape} and scores {values.shape} must be (N,) both")
    order = np.argsort(-values)
    values = values[order]
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])  # last of each tie
    hits = np.cumsum(positive[order], dtype=np.float64)[ends]
    return (
        np.append(0.0, hits),
        np.append(0.0, ends + 1 - hits),
        np.append(np.inf, values[ends]),
    )

"""Semantic-segmentation metrics: the hard ones read one confusion matrix, the soft Dice probabilities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def confusion_matrix(
    true_mask: ArrayLike, pred_mask: ArrayLike, num_labels: int, ignore_index: int | None = 255
) -> IntArray:
    """Count pixels by true label (row) and predicted label (column).

    Args:
        true_mask: class of every pixel, any shape, integers (or bool) in [0, num_labels) or `ignore_index`.
        pred_mask: same shape, integers in [0, num_labels) wherever the truth is not ignored.
        num_labels: number of classes, background included.
        ignore_index: true value of pixels that do not count; None counts all.

    Returns:
        (num_labels, num_labels) counts.

    Raises:
        ValueError: shapes differ, masks are not integers, or a label is out of range.
    """
    true, pred = np.asarray(true_mask), np.asarray(pred_mask)
    if true.shape != pred.shape:
        raise ValueError(
            f"masks differ in shape: truth {true.shape}, prediction {pred.shape}; "
            "resize the prediction to the truth before scoring"
        )
    true, pred = _flat_integers(true, "true"), _flat_integers(pred, "predicted")
    if ignore_index is not None:
        counted = true != ignore_index
        if not counted.all():
            true, pred = true[counted], pred[counted]
    _check_range(true, num_labels, "true")
    _check_range(pred, num_labels, "predicted")
    cells = true.astype(np.int64) * num_labels + pred
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels).astype(np.int64)


def pixel_accuracy(confusion: ArrayLike) -> float:
    """Share of pixels with the right label; NaN without a counted pixel."""
    matrix = np.asarray(confusion)
    return _divide(np.trace(matrix), matrix.sum()).item()


def iou_per_class(confusion: ArrayLike) -> FloatArray:
    """TP / (TP + FP + FN) of every class, (num_labels,); NaN for a class that occurs nowhere."""
    matrix = np.asarray(confusion)
    hits = np.diagonal(matrix)
    return _divide(hits, matrix.sum(axis=0) + matrix.sum(axis=1) - hits)


def dice_per_class(confusion: ArrayLike) -> FloatArray:
    """2 TP / (2 TP + FP + FN) of every class, (num_labels,); NaN for a class that occurs nowhere."""
    matrix = np.asarray(confusion)
    return _divide(2 * np.diagonal(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def precision_per_class(confusion: ArrayLike) -> FloatArray:
    """TP / (TP + FP) of every class, (num_labels,); NaN for a class that is never predicted."""
    matrix = np.asarray(confusion)
    return _divide(np.diagonal(matrix), matrix.sum(axis=0))


def recall_per_class(confusion: ArrayLike) -> FloatArray:
    """TP / (TP + FN) of every class, (num_labels,); NaN for a class without a true pixel."""
    matrix = np.asarray(confusion)
    return _divide(np.diagonal(matrix), matrix.sum(axis=1))


def image_dice(confusion: ArrayLike) -> float:
    """Hard Dice of one image: mean over the classes but background (label 0) in its truth or prediction.

    1.0 for an image of background alone on both sides, which is also the limit of the smoothed Dice below;
    NaN if every pixel is ignored.
    """
    matrix = np.asarray(confusion)
    if matrix.sum() == 0:
        return math.nan
    dice = dice_per_class(matrix)[1:]
    present = dice[~np.isnan(dice)]
    return float(present.mean()) if len(present) else 1.0


def soft_dice_sums(probabilities: ArrayLike, targets: ArrayLike) -> tuple[float, float, float]:
    """Return sum(y * p), sum(y) and sum(p), in float64: what `soft_dice` needs and what adds up over batches.

    Raises:
        ValueError: shapes differ.
    """
    p = np.asarray(probabilities, dtype=np.float64).ravel()
    y = np.asarray(targets, dtype=np.float64).ravel()
    if np.shape(probabilities) != np.shape(targets):
        raise ValueError(
            f"probabilities {np.shape(probabilities)} and targets {np.shape(targets)} differ in shape: "
            "select one class and drop the channel axis"
        )
    return float(y @ p), float(y.sum()), float(p.sum())


def soft_dice(probabilities: ArrayLike, targets: ArrayLike, smooth: float = 1.0) -> float:
    """Smoothed Dice on probabilities, the whole batch flattened into one vector.

    (2 sum(y p) + smooth) / (sum(y) + sum(p) + smooth): the Keras `dice_coef` of many U-Net notebooks.
    A large object weighs more than a small one and an empty image costs nothing, so it is neither the mean
    over images nor a hard score (`image_dice`).

    Args:
        probabilities: values in [0, 1], any shape.
        targets: same shape, 0 or 1.
        smooth: added to both sides; 1 in the notebooks.
    """
    shared, true_sum, pred_sum = soft_dice_sums(probabilities, targets)
    return (2 * shared + smooth) / (true_sum + pred_sum + smooth)


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Divide in float64 with NaN where the denominator is zero."""
    bottom = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def _flat_integers(mask: NDArray, which: str) -> NDArray:
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    if not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(
            f"{which} mask must hold integer labels, not {mask.dtype}: take the argmax or a threshold first"
        )
    return mask.ravel()


def _check_range(labels: NDArray, num_labels: int, which: str) -> None:
    if labels.size == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_labels:
        raise ValueError(
            f"{which} labels span {low}..{high} but must lie in 0..{num_labels - 1} (num_labels={num_labels})"
        )

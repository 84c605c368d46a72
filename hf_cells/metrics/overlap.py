"""How the objects of two label images overlap: counted once, read by every instance metric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Above this many cells a dense table costs more memory and time than sorting the pixels.
_DENSE_TABLE = 2**23
# Pixels counted at a time: bounds the temporaries on a whole-slide image to some 100 MB.
_CHUNK = 2**22


@dataclass(frozen=True)
class Overlap:
    """Sparse contingency table of two label images, background (0) left out.

    Attributes:
        true_ids: (n_true,) labels of the true objects, ascending.
        pred_ids: (n_pred,) labels of the predicted objects, ascending.
        true_areas: (n_true,) pixels of each true object.
        pred_areas: (n_pred,) pixels of each predicted object.
        rows: (n_pairs,) index into `true_ids` of each pair that shares a pixel, in row-major order.
        cols: (n_pairs,) index into `pred_ids` of the same pairs.
        intersections: (n_pairs,) pixels that each pair shares, at least 1.
    """

    true_ids: IntArray
    pred_ids: IntArray
    true_areas: IntArray
    pred_areas: IntArray
    rows: IntArray
    cols: IntArray
    intersections: IntArray

    @property
    def n_true(self) -> int:
        """Number of true objects."""
        return len(self.true_areas)

    @property
    def n_pred(self) -> int:
        """Number of predicted objects."""
        return len(self.pred_areas)

    @property
    def is_empty(self) -> bool:
        """Whether neither image has an object, where most metrics are undefined."""
        return self.n_true == 0 and self.n_pred == 0

    @cached_property
    def unions(self) -> IntArray:
        """(n_pairs,) pixels in either object of each pair."""
        return self.true_areas[self.rows] + self.pred_areas[self.cols] - self.intersections

    @cached_property
    def iou(self) -> FloatArray:
        """(n_pairs,) intersection over union of each pair."""
        return self.intersections / self.unions

    def iou_matrix(self) -> FloatArray:
        """Return the dense (n_true, n_pred) matrix of intersection over union."""
        matrix = np.zeros((self.n_true, self.n_pred))
        matrix[self.rows, self.cols] = self.iou
        return matrix


def label_overlap(true_labels: ArrayLike, pred_labels: ArrayLike) -> Overlap:
    """Count the pixels that every true object shares with every predicted object.

    Labels need not be sequential; 0 is always background, also in an image without a background pixel
    (where some reference implementations take the lowest label for it).

    Args:
        true_labels: label image of any shape, non-negative integers (or bool), 0 = background.
        pred_labels: label image of the same shape.

    Raises:
        ValueError: shapes differ, labels are not integers, or one is negative.
    """
    true, pred = np.asarray(true_labels), np.asarray(pred_labels)
    if true.shape != pred.shape:
        raise ValueError(
            f"label images differ in shape: truth {true.shape}, prediction {pred.shape}; "
            "resize the prediction to the truth with nearest-neighbour interpolation"
        )
    true, true_names = _bounded_labels(true, "true")
    pred, pred_names = _bounded_labels(pred, "predicted")
    height, width = int(true.max(initial=0)) + 1, int(pred.max(initial=0)) + 1

    cells, counts = _count_pairs(true, pred, height, width)
    rows, cols = np.divmod(cells, width)
    true_areas = np.bincount(rows, weights=counts, minlength=height).astype(np.int64)
    pred_areas = np.bincount(cols, weights=counts, minlength=width).astype(np.int64)
    true_ids, true_index = _objects(true_areas)
    pred_ids, pred_index = _objects(pred_areas)
    shared = (rows > 0) & (cols > 0)
    return Overlap(
        true_ids=true_ids if true_names is None else true_names[true_ids],
        pred_ids=pred_ids if pred_names is None else pred_names[pred_ids],
        true_areas=true_areas[true_ids],
        pred_areas=pred_areas[pred_ids],
        rows=true_index[rows[shared]],
        cols=pred_index[cols[shared]],
        intersections=counts[shared],
    )


def _bounded_labels(labels: NDArray, which: str) -> tuple[NDArray, IntArray | None]:
    """Return flat labels no larger than the image has pixels, and the original names if they were renamed."""
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{which} labels must be integers, not {labels.dtype}: use .astype('int32')")
    flat = labels.ravel()
    if flat.size and flat.min() < 0:
        raise ValueError(f"{which} labels must not be negative: lowest is {flat.min()}; background is 0")
    if flat.max(initial=0) <= max(flat.size, 1024):
        return flat, None
    # Zero is put in front so that index 0 stays background when no pixel is.
    names = np.unique(np.append(flat, flat.dtype.type(0)))
    return np.searchsorted(names, flat), names.astype(np.int64)


def _count_pairs(true: NDArray, pred: NDArray, height: int, width: int) -> tuple[IntArray, IntArray]:
    """Return the occupied cells (true * width + pred, ascending) of the table and their counts."""
    if height * width > _DENSE_TABLE:
        cells, counts = np.unique(true.astype(np.int64) * width + pred, return_counts=True)
        return cells, counts.astype(np.int64)
    table = np.zeros(height * width, dtype=np.int64)
    for start in range(0, true.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        # int32 holds every cell of a dense table and halves the traffic of this memory-bound step.
        table += np.bincount(
            true[part].astype(np.int32) * np.int32(width) + pred[part].astype(np.int32), minlength=table.size
        )
    cells = np.flatnonzero(table)
    return cells, table[cells]


def _objects(areas: IntArray) -> tuple[IntArray, IntArray]:
    """Return the labels that own a pixel, background excluded, and the map from label to rank."""
    present = areas > 0
    present[0] = False
    return np.flatnonzero(present), np.cumsum(present) - 1

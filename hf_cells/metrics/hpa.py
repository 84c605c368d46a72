"""The metric of the 2021 Human Protein Atlas single-cell challenge: mAP of segmented and labelled cells.

The rules are those of the OpenImages instance segmentation challenge as the TensorFlow object detection API applies
them (`OpenImagesChallengeEvaluator`, `per_image_evaluation.py`, `metrics.py`), with a matching IoU of 0.6:

- Detections of a class are taken by falling score. One whose best overlapping true object of the class has an IoU of
  at least 0.6 is a hit when that object is not taken yet; all others are false.
- Detections of a class that was not verified for the image are ignored. Verified are the classes of its true objects
  and those that are named besides.
- A true object that stands for a group (`group_of`) is found by any detection of which 0.6 lies within it; all those
  count as one hit, with the best of their scores.
- Average precision is the area under the precision-recall curve with its monotone envelope; the mean is taken over
  the classes that have true objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

IOU_THRESHOLD = 0.6
NUM_CLASSES = 19
IOU_TYPES = ("mask", "box")

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CellStatements:
    """Which cells of one image show which classes: the truth, or what a model says.

    Attributes:
        shape: Height and width of the image.
        runs: Pixels of each cell, `(m, 2)` start and end (exclusive) of runs down the columns, pixels from 0.
        cells: (n,) index into `runs` of each statement.
        classes: (n,) its class.
        scores: (n,) its confidence; of no meaning for a truth.
        group_of: (n,) whether it speaks of a group of cells; only of a truth.
    """

    shape: tuple[int, int]
    runs: Sequence[IntArray]
    cells: IntArray
    classes: IntArray
    scores: FloatArray
    group_of: NDArray[np.bool_]


def true_cells(
    labels: ArrayLike, classes: Sequence[Collection[int]], group_of: Collection[int] = ()
) -> CellStatements:
    """Truth of an image.

    Args:
        labels: (H, W) integers, 0 background, 1..n cells.
        classes: Classes of each cell 1..n.
        group_of: Numbers of those that stand for a group of cells.

    Raises:
        ValueError: There are other cells in `labels` than in `classes`.
    """
    image = np.asarray(labels)
    pairs = [(cell, label) for cell, own in enumerate(classes) for label in sorted(set(own))]
    cells, names = np.array(pairs, np.int64).reshape(-1, 2).T
    return CellStatements(
        shape=_shape(image),
        runs=_all_runs(image, len(classes)),
        cells=cells,
        classes=names,
        scores=np.ones(len(pairs)),
        group_of=np.isin(cells + 1, list(group_of)),
    )


def predicted_cells(labels: ArrayLike, scores: ArrayLike) -> CellStatements:
    """What a model says of an image.

    Args:
        labels: (H, W) integers, 0 background, 1..n cells.
        scores: (n, K) confidence of every class for each cell; NaN says nothing.

    Raises:
        ValueError: There are other cells in `labels` than in `scores`.
    """
    image, table = np.asarray(labels), np.asarray(scores, np.float64)
    cells, classes = np.nonzero(~np.isnan(table))
    return CellStatements(
        shape=_shape(image),
        runs=_all_runs(image, len(table)),
        cells=cells,
        classes=classes,
        scores=table[cells, classes],
        group_of=np.zeros(len(cells), bool),
    )


def score_cells(
    truth: CellStatements,
    prediction: CellStatements,
    *,
    verified: Collection[int] = (),
    iou_type: str = "mask",
    iou_threshold: float = IOU_THRESHOLD,
) -> dict[int, dict[str, Any]]:
    """Match one image.

    Args:
        truth: The true cells.
        prediction: What is said of cells; cells may overlap.
        verified: Further classes that were looked for in the image; `range(19)` when all were.
        iou_type: "mask", or "box" for the overlap of the cells' bounding boxes.
        iou_threshold: From which overlap on two cells are one.

    Returns:
        By class: `scores` and `hits` (1 true, 0 false) of the detections that count, and `objects`, the number
        of true ones.

    Raises:
        ValueError: The images differ in size, or `iou_type` is unknown.
    """
    if iou_type not in IOU_TYPES:
        raise ValueError(f"iou_type={iou_type!r} is unknown; choose {' or '.join(IOU_TYPES)}")
    if truth.shape != prediction.shape:
        raise ValueError(f"the truth is of {truth.shape} pixels and the prediction of {prediction.shape}")
    shared, true_areas, pred_areas = overlaps(truth.runs, prediction.runs, truth.shape, iou_type)
    union = true_areas[:, None] + pred_areas[None] - shared
    iou = shared / np.maximum(union, 1)
    ioa = shared / np.maximum(pred_areas[None], 1)
    statistics: dict[int, dict[str, Any]] = {}
    for label in sorted({*map(int, truth.classes), *map(int, verified)}):
        real, said = np.flatnonzero(truth.classes == label), np.flatnonzero(prediction.classes == label)
        said = said[np.argsort(-prediction.scores[said], kind="stable")]
        said = said[pred_areas[prediction.cells[said]] > 0]
        alone, groups = real[~truth.group_of[real]], real[truth.group_of[real]]
        columns = prediction.cells[said]
        hits = _match(iou[np.ix_(truth.cells[alone], columns)], iou_threshold)
        scores = prediction.scores[said]
        of_groups, best = _match_groups(
            ioa[np.ix_(truth.cells[groups], columns)], scores, ~hits, iou_threshold
        )
        counted = ~of_groups
        statistics[label] = {
            "scores": [*scores[counted].tolist(), *best],
            "hits": [*hits[counted].astype(int).tolist(), *[1] * len(best)],
            "objects": len(real),
        }
    return statistics


def aggregate_cells(
    images: Iterable[Mapping[int, Mapping[str, Any]]], num_classes: int = NUM_CLASSES
) -> dict[str, Any]:
    """Pool the images.

    Args:
        images: What `score_cells` returned for each.
        num_classes: K.

    Returns:
        `mean_average_precision` (NaN without a true object), `average_precision` [K] (NaN for a class without)
        and `objects` [K].
    """
    scores: list[list[float]] = [[] for _ in range(num_classes)]
    hits: list[list[int]] = [[] for _ in range(num_classes)]
    objects = [0] * num_classes
    for image in images:
        for label, found in image.items():
            scores[label] += found["scores"]
            hits[label] += found["hits"]
            objects[label] += found["objects"]
    values = [
        interpolated_average_precision(own, true, n)
        for own, true, n in zip(scores, hits, objects, strict=True)
    ]
    known = [value for value in values if not np.isnan(value)]
    mean = float(np.mean(known)) if known else float("nan")
    return {"mean_average_precision": mean, "average_precision": values, "objects": objects}


def interpolated_average_precision(scores: ArrayLike, hits: ArrayLike, objects: int) -> float:
    """Area under precision over recall with its monotone envelope (Pascal VOC 2010 and later).

    Args:
        scores: (n,) of the detections, in any order.
        hits: (n,) 1 for true ones.
        objects: Number of true objects; without one the value is NaN.
    """
    if objects == 0:
        return float("nan")
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    true = np.cumsum(np.asarray(hits, np.float64)[order])
    precision = np.concatenate([true / np.arange(1, len(true) + 1), [0.0]])
    recall = np.concatenate([[0.0], true / objects, [1.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * envelope).sum())


def overlaps(
    true_runs: Sequence[IntArray],
    pred_runs: Sequence[IntArray],
    shape: tuple[int, int],
    iou_type: str = "mask",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shared pixels of every true and predicted cell, (n, m), and the pixels of each, (n,) and (m,).

    With iou_type="box" of their bounding boxes instead, which are whole pixels, the last one included.
    """
    true_boxes, pred_boxes = (_boxes(runs, shape) for runs in (true_runs, pred_runs))
    top = np.maximum(true_boxes[:, None, :2], pred_boxes[None, :, :2])
    bottom = np.minimum(true_boxes[:, None, 2:], pred_boxes[None, :, 2:])
    shared = np.maximum(bottom - top, 0).prod(-1).astype(np.float64)
    if iou_type == "box":
        return shared, *((b[:, 2:] - b[:, :2]).prod(-1).astype(np.float64) for b in (true_boxes, pred_boxes))
    for row, column in zip(*np.nonzero(shared), strict=True):
        shared[row, column] = _shared_pixels(true_runs[row], pred_runs[column])
    areas = (np.array([np.diff(own).sum() for own in runs], np.float64) for runs in (true_runs, pred_runs))
    return shared, *areas


def _shared_pixels(a: IntArray, b: IntArray) -> int:
    """Pixels in both: how many of b lie before the ends of a's runs, less those before their starts."""
    before = np.concatenate([[0], np.cumsum(b[:, 1] - b[:, 0])])

    def covered(position: IntArray) -> IntArray:
        run = np.searchsorted(b[:, 0], position, side="right")  # runs that have begun
        last = np.maximum(run - 1, 0)
        cut = np.maximum(b[last, 1] - np.maximum(position, b[last, 0]), 0)  # what of the last is still ahead
        return np.where(run > 0, before[run] - cut, 0)

    return int((covered(a[:, 1]) - covered(a[:, 0])).sum())


def _boxes(runs: Sequence[IntArray], shape: tuple[int, int]) -> IntArray:
    """(n, 4) top, left, bottom and right, the last two exclusive."""
    boxes = np.zeros((len(runs), 4), np.int64)
    for box, own in zip(boxes, runs, strict=True):
        if not len(own):
            continue
        left, right = own[:, 0] // shape[0], (own[:, 1] - 1) // shape[0]
        top, bottom = own[:, 0] % shape[0], (own[:, 1] - 1) % shape[0]
        over = right > left  # a run over the end of a column touches both ends of the image
        top, bottom = np.where(over, 0, top), np.where(over, shape[0] - 1, bottom)
        box[:] = top.min(), left.min(), bottom.max() + 1, right.max() + 1
    return boxes


def _match(iou: FloatArray, threshold: float) -> NDArray[np.bool_]:
    """Hits among the detections (columns, by falling score) of an (objects, detections) table."""
    hits, taken = np.zeros(iou.shape[1], bool), np.zeros(iou.shape[0], bool)
    if not iou.shape[0]:
        return hits
    for detection, found in enumerate(iou.argmax(0)):
        if iou[found, detection] >= threshold and not taken[found]:
            hits[detection] = taken[found] = True
    return hits


def _match_groups(
    ioa: FloatArray, scores: FloatArray, free: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.bool_], list[float]]:
    """Which detections lie in a group, and the best score in each group that has one."""
    inside = np.zeros(len(scores), bool)
    if not ioa.shape[0] or not len(scores):
        return inside, []
    home = ioa.argmax(0)
    inside = free & (ioa[home, np.arange(len(scores))] >= threshold)
    return inside, [float(scores[inside & (home == group)].max()) for group in sorted(set(home[inside]))]


def _shape(labels: NDArray[Any]) -> tuple[int, int]:
    if labels.ndim != 2:
        raise ValueError(f"labels have the shape {labels.shape}; give (height, width)")
    return int(labels.shape[0]), int(labels.shape[1])


def _all_runs(labels: NDArray[Any], n: int) -> list[IntArray]:
    """Runs of cells 1..n down the columns, in one pass; an absent cell has none."""
    if labels.size and (labels.min() < 0 or labels.max() > n):
        raise ValueError(f"labels number cells from {labels.min()} to {labels.max()}, and {n} are described")
    flat = labels.ravel(order="F")
    starts = (
        np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, int)
    )
    runs = np.stack([starts, np.append(starts[1:], flat.size)], axis=1).astype(np.int64)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    bounds = np.searchsorted(values[order], np.arange(1, n + 2))
    return [runs[order[first:last]] for first, last in pairwise(bounds)]

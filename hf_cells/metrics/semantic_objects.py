"""Objects in label maps: found, counted, and of one class?

The rule: an object is a connected region (4-neighbourhood) of one class with at least `MIN_OBJECT_PIXELS` pixels, in
truth and prediction alike; cells of one class that touch are parted on both sides, see `split_touching`. Where the
truth knows its cells one by one, counts and consistency are taken against these instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from hf_cells.metrics.instance import matching
from hf_cells.metrics.overlap import label_overlap
from hf_cells.metrics.touching import split_touching

Row = dict[str, Any]

MIN_OBJECT_PIXELS = 20  # smaller regions are specks: a platelet at the usual magnification has sixty pixels
ONE_CLASS = 0.9


def class_regions(
    mask: ArrayLike, min_pixels: int = MIN_OBJECT_PIXELS, split: bool = True
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the objects of a label map.

    Args:
        mask: (H, W) class of every pixel, 0 = background.
        min_pixels: smaller regions are left out.
        split: part touching cells of a class, see `hf_cells.metrics.touching.split_touching`.

    Returns:
        Regions (H, W), numbered 1..n class by class, 0 elsewhere; and the class of each, (n,).
    """
    mask = np.asarray(mask)
    regions = np.zeros(mask.shape, np.int32)
    classes: list[int] = []
    for value in np.unique(mask[mask > 0]).tolist():
        found, count = ndimage.label(mask == value)
        if split:
            found = split_touching(found)
            count = int(found.max())
        kept = np.flatnonzero(np.bincount(found.ravel(), minlength=count + 1)[1:] >= min_pixels) + 1
        number = np.zeros(count + 1, np.int32)
        number[kept] = np.arange(1, len(kept) + 1) + len(classes)
        np.maximum(regions, number[found], out=regions)
        classes += [value] * len(kept)
    return regions, np.array(classes, np.int64)


def score_semantic_objects(
    true_mask: ArrayLike,
    pred_mask: ArrayLike,
    num_labels: int,
    true_objects: ArrayLike | None = None,
    ignore_index: int | None = 255,
    split: bool = True,
) -> Row:
    """Compute one image's sufficient statistics for the metrics of objects, per class but background.

    Args:
        true_mask: (H, W) class of every pixel, 0 = background.
        pred_mask: (H, W) predicted class.
        num_labels: number of classes, background included.
        true_objects: (H, W) number of the cell of every pixel, 0 = background; the connected regions without it.
        ignore_index: true value of pixels that do not count, on either side.
        split: part touching cells of a class on both sides, as `class_regions` does.

    Returns:
        JSON-able lists over the classes 1..num_labels - 1: `regions_true`, `regions_pred`, `matched` (IoU >= .5
        of a true and a predicted region of the class), `objects_true`, `right_class` and `one_class` (see
        `aggregate_semantic_objects`).
    """
    true, pred = np.asarray(true_mask), np.asarray(pred_mask)
    if ignore_index is not None:
        known = true != ignore_index
        true, pred = np.where(known, true, 0), np.where(known, pred, 0)
    true_regions, true_classes = class_regions(true, split=split)
    pred_regions, pred_classes = class_regions(pred, split=split)
    row: Row = {"regions_true": [], "regions_pred": [], "matched": []}
    for label in range(1, num_labels):
        own_true = np.append(False, true_classes == label)[true_regions] * true_regions
        own_pred = np.append(False, pred_classes == label)[pred_regions] * pred_regions
        found = matching(label_overlap(own_true, own_pred), 0.5)
        row["regions_true"].append(int((true_classes == label).sum()))
        row["regions_pred"].append(int((pred_classes == label).sum()))
        row["matched"].append(found.true_positives)
    objects = true_regions if true_objects is None else np.where(true > 0, np.asarray(true_objects), 0)
    return row | _consistency(objects, true, pred, num_labels)


def aggregate_semantic_objects(
    rows: Iterable[Mapping[str, Any]], label_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score a dataset from the rows of `score_semantic_objects`.

    Args:
        rows: of one dataset, all with the same number of classes.
        label_names: names of all classes, background first; the class numbers as text without them.

    Returns:
        | key | what |
        |---|---|
        | object_f1_50 | F1 of regions matched at IoU >= .5, mean over the classes with a true object |
        | object_class_accuracy | share of true objects most of whose pixels are given their class |
        | object_consistency | share of true objects 90 % of whose pixels are given one class, whichever |
        | object_count_mean_absolute_error | abs(predicted regions - true objects), mean over images and classes |
        | objects_true, objects_pred | totals |
        | per_class | name -> f1_50, precision_50, recall_50, objects_true, objects_pred, |
        |  | count_mean_absolute_error, class_accuracy, consistency; NaN where undefined |

    Raises:
        ValueError: there is no row, or the number of names is not the number of classes.
    """
    items = list(rows)
    if not items:
        raise ValueError("no image was scored: the split is empty")
    columns = {key: np.array([row[key] for row in items]) for key in items[0]}
    sums = {key: values.sum(axis=0) for key, values in columns.items()}
    names = (
        list(label_names) if label_names is not None else [str(i) for i in range(len(sums["matched"]) + 1)]
    )
    if len(names) != len(sums["matched"]) + 1:
        raise ValueError(f"{len(names)} label names for {len(sums['matched']) + 1} classes: name every class")
    errors = np.abs(columns["regions_pred"] - columns["objects_true"]).mean(axis=0)
    seen = sums["objects_true"] > 0
    both = sums["regions_true"] + sums["regions_pred"]
    table = {
        "f1_50": _share(2 * sums["matched"], both),
        "precision_50": _share(sums["matched"], sums["regions_pred"]),
        "recall_50": _share(sums["matched"], sums["regions_true"]),
        "objects_true": sums["objects_true"],
        "objects_pred": sums["regions_pred"],
        "count_mean_absolute_error": errors,
        "class_accuracy": _share(sums["right_class"], sums["objects_true"]),
        "consistency": _share(sums["one_class"], sums["objects_true"]),
    }
    total = sums["objects_true"].sum()
    f1 = table["f1_50"][(sums["regions_true"] > 0)]
    return {
        "object_f1_50": float(f1.mean()) if len(f1) else math.nan,
        "object_class_accuracy": float(sums["right_class"].sum() / total) if total else math.nan,
        "object_consistency": float(sums["one_class"].sum() / total) if total else math.nan,
        "object_count_mean_absolute_error": float(errors[seen].mean()) if seen.any() else math.nan,
        "objects_true": float(total),
        "objects_pred": float(sums["regions_pred"].sum()),
        "per_class": {
            name: {key: values[index].item() for key, values in table.items()}
            for index, name in enumerate(names[1:])
        },
    }


def _consistency(objects: NDArray, true: NDArray, pred: NDArray, num_labels: int) -> Row:
    """Classes that the pixels of each true object have and are given; specks do not count."""
    row: Row = {key: [0] * (num_labels - 1) for key in ("objects_true", "right_class", "one_class")}
    ids, place = np.unique(objects, return_inverse=True)
    place = place.reshape(-1)
    given = _table(place, pred, len(ids), num_labels)
    own = _table(place, true, len(ids), num_labels)
    for index in np.flatnonzero((ids > 0) & (given.sum(axis=1) >= MIN_OBJECT_PIXELS)):
        label = int(own[index, 1:].argmax()) + 1
        row["objects_true"][label - 1] += 1
        row["right_class"][label - 1] += int(given[index].argmax() == label)
        row["one_class"][label - 1] += int(given[index].max() >= ONE_CLASS * given[index].sum())
    return row


def _table(place: NDArray, mask: NDArray, count: int, num_labels: int) -> NDArray[np.int64]:
    """Pixels of each object by class, (count, num_labels)."""
    cells = place.astype(np.int64) * num_labels + mask.ravel()
    return np.bincount(cells, minlength=count * num_labels).reshape(count, num_labels)


def _share(numerator: NDArray, denominator: NDArray) -> NDArray[np.float64]:
    bottom = denominator.astype(np.float64)
    return np.divide(numerator, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)

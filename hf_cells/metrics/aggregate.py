"""From one image to a dataset: a row of plain numbers per image, and the scores of any list of rows.

A row holds counts and sums, never pixels, so rows can be written to JSON, gathered from many processes, and
resampled: `aggregate_*(rows[i] for i in draw)` is one bootstrap replicate.

Degenerate cases, in one place:

| image | DSB score | Dice | AJI, AJI+, AP per image, PQ per image, Dice2 | pooled counts |
|---|---|---|---|---|
| no object in truth and prediction | 1.0 | 1.0 | undefined: left out of the mean | adds nothing |
| objects on one side only | 0.0 | 0.0 | 0.0 | all FP or all FN |

A mean over no defined image is NaN; a pooled score with a zero denominator is 0.0, as in StarDist.
No row at all is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hf_cells.metrics import instance, semantic
from hf_cells.metrics.overlap import label_overlap

Row = dict[str, Any]

_AT_50 = instance.MATCHING_THRESHOLDS.index(0.5)
_AT_75 = instance.MATCHING_THRESHOLDS.index(0.75)
_MEANS_OVER_IMAGES = ("dsb_score", "aji", "aji_plus", "aji_cellpose", "pq_image", "dice2", "dice_per_image")


def score_instances(true_labels: ArrayLike, pred_labels: ArrayLike) -> Row:
    """Compute one image's sufficient statistics for every instance metric.

    Args:
        true_labels: (H, W) integers, 0 = background; labels need not be sequential.
        pred_labels: (H, W) integers, 0 = background.

    Returns:
        JSON-able: `objects_true`, `objects_pred`; `true_positives` and `iou_sums` at IoU >= .50, .55 … .95;
        and per-image scores (None where undefined) `dsb_score`, `aji`, `aji_plus`, `aji_cellpose`, `pq_image`
        (HoVer-Net), `dice2`, `dice_per_image` (hard foreground).

    Raises:
        ValueError: shapes differ, labels are not integers, or one is negative.
    """
    overlap = label_overlap(true_labels, pred_labels)
    matchings = [instance.matching(overlap, threshold) for threshold in instance.MATCHING_THRESHOLDS]
    return {
        "objects_true": overlap.n_true,
        "objects_pred": overlap.n_pred,
        "true_positives": [m.true_positives for m in matchings],
        "iou_sums": [m.iou_sum for m in matchings],
        "dsb_score": instance.dsb_score(overlap),
        "aji": _defined(instance.aggregated_jaccard_index(overlap)),
        "aji_plus": _defined(instance.aggregated_jaccard_index_plus(overlap)),
        "aji_cellpose": _defined(instance.cellpose_aggregated_jaccard_index(overlap)),
        "pq_image": _defined(instance.panoptic_quality(overlap)[2]),
        "dice2": _defined(instance.dice2(overlap)),
        "dice_per_image": instance.foreground_dice(overlap),
    }


def aggregate_instances(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Score a dataset from the rows of `score_instances`.

    Returns:
        | key | what |
        |---|---|
        | dsb_score | 2018 Data Science Bowl, mean over images |
        | ap50_image_mean, ap75_image_mean | Cellpose: AP of each image, mean over images |
        | ap50_pooled, ap75_pooled | StarDist: TP, FP, FN summed over images first |
        | f1_50_pooled, precision_50_pooled, recall_50_pooled | StarDist, IoU >= .5, pooled |
        | pq, sq, rq | StarDist panoptic, segmentation, recognition quality, IoU >= .5, pooled |
        | mean_true_score | StarDist: matched IoU over the number of true objects, IoU >= .5, pooled |
        | pq_image_mean | HoVer-Net: PQ of each image (IoU > .5), mean over images |
        | aji, aji_plus, dice2 | HoVer-Net, mean over images |
        | aji_cellpose | Cellpose's aggregated_jaccard_index, mean over images |
        | dice_per_image | hard foreground Dice, mean over images |
        | count_mean_absolute_error | mean over images of abs(predicted - true number of objects) |
        | objects_true, objects_pred | totals |

    Raises:
        ValueError: there is no row.
    """
    rows = _at_least_one(rows)
    n_true = np.array([row["objects_true"] for row in rows])
    n_pred = np.array([row["objects_pred"] for row in rows])
    true_positives = np.array([row["true_positives"] for row in rows])
    iou_sums = np.array([row["iou_sums"] for row in rows]).sum(axis=0)
    pooled = [
        instance.Matching(int(tp), int(n_true.sum()), int(n_pred.sum()), float(iou_sum))
        for tp, iou_sum in zip(true_positives.sum(axis=0), iou_sums, strict=True)
    ]
    at_50, at_75 = pooled[_AT_50], pooled[_AT_75]
    # float64 turns the None of an undefined score into NaN.
    means = {key: _mean(np.array([row[key] for row in rows], dtype=np.float64)) for key in _MEANS_OVER_IMAGES}
    union = (n_true + n_pred)[:, None] - true_positives
    precision_of_image = np.divide(true_positives, union, out=np.full(union.shape, np.nan), where=union > 0)
    return {
        "dsb_score": means["dsb_score"],
        "ap50_image_mean": _mean(precision_of_image[:, _AT_50]),
        "ap75_image_mean": _mean(precision_of_image[:, _AT_75]),
        "ap50_pooled": at_50.accuracy,
        "ap75_pooled": at_75.accuracy,
        "f1_50_pooled": at_50.f1,
        "precision_50_pooled": at_50.precision,
        "recall_50_pooled": at_50.recall,
        "pq": at_50.panoptic_quality,
        "sq": at_50.mean_matched_score,
        "rq": at_50.f1,
        "mean_true_score": at_50.mean_true_score,
        "pq_image_mean": means["pq_image"],
        "aji": means["aji"],
        "aji_plus": means["aji_plus"],
        "aji_cellpose": means["aji_cellpose"],
        "dice2": means["dice2"],
        "dice_per_image": means["dice_per_image"],
        "count_mean_absolute_error": float(np.abs(n_pred - n_true).mean()),
        "objects_true": float(n_true.sum()),
        "objects_pred": float(n_pred.sum()),
    }


def score_semantic(
    true_mask: ArrayLike, pred_mask: ArrayLike, num_labels: int, ignore_index: int | None = 255
) -> Row:
    """Compute one image's sufficient statistics for every hard semantic metric.

    Args:
        true_mask: (H, W) class of every pixel, 0 = background.
        pred_mask: (H, W) predicted class.
        num_labels: number of classes, background included.
        ignore_index: true value of pixels that do not count; None counts all.

    Returns:
        JSON-able: `confusion` (num_labels lists of num_labels counts, truth in rows) and `dice_per_image`
        (None if every pixel is ignored; see `semantic.image_dice`).

    Raises:
        ValueError: shapes differ, masks are not integers, or a label is out of range.
    """
    confusion = semantic.confusion_matrix(true_mask, pred_mask, num_labels, ignore_index)
    return {"confusion": confusion.tolist(), "dice_per_image": _defined(semantic.image_dice(confusion))}


def aggregate_semantic(
    rows: Iterable[Mapping[str, Any]],
    label_names: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Score a dataset from the rows of `score_semantic`, pixels pooled over images.

    Args:
        rows: of one dataset, all with the same number of classes.
        label_names: names for `per_class`; the class numbers as text without them.
        groups: name of a group -> names of the classes that are taken as one in a second scoring; classes in no
            group stay what they are.

    Returns:
        `pixel_accuracy`, and `pixel_accuracy_all_background`, what an answer of nothing but background has;
        `mean_iou` and `mean_dice` over the classes that occur, background included (the usual convention: read
        `per_class` where background is easy); `dice_per_image`, mean over images of the hard Dice without
        background; `per_class`, name -> `iou`, `dice`, `dice_image_mean` (mean over the images with the class in
        truth or prediction), `precision`, `recall` (NaN where undefined), `pixels_true`, `pixels_pred`.
        With groups also `pixel_accuracy_merged`, `mean_iou_merged`, `mean_dice_merged` and `per_class_merged`.

    Raises:
        ValueError: there is no row, the number of names is not the number of classes, or a group has an unknown
            class.
    """
    rows = _at_least_one(rows)
    confusions = np.array([row["confusion"] for row in rows])
    names = [str(i) for i in range(confusions.shape[-1])] if label_names is None else list(label_names)
    if len(names) != confusions.shape[-1]:
        raise ValueError(
            f"{len(names)} label names for {confusions.shape[-1]} classes: name every class, background too"
        )
    pooled = confusions.sum(axis=0)
    nothing_found = np.zeros_like(pooled)
    nothing_found[:, 0] = pooled.sum(axis=1)
    scores = {
        **_semantic_scores(confusions, names),
        "pixel_accuracy_all_background": semantic.pixel_accuracy(nothing_found),
        "dice_per_image": _mean(np.array([row["dice_per_image"] for row in rows], dtype=np.float64)),
    }
    if groups:
        merged = _semantic_scores(*_merged(confusions, names, groups))
        scores |= {f"{key}_merged": value for key, value in merged.items()}
    return scores


def _semantic_scores(confusions: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores of (n, K, K) confusion matrices, one an image."""
    pooled = confusions.sum(axis=0)
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    sizes = confusions.sum(axis=1) + confusions.sum(axis=2)
    of_images = np.divide(2 * hits, sizes, out=np.full(hits.shape, np.nan), where=sizes > 0)
    columns = {
        "iou": semantic.iou_per_class(pooled),
        "dice": semantic.dice_per_class(pooled),
        "dice_image_mean": np.array([_mean(column) for column in of_images.T]),
        "precision": semantic.precision_per_class(pooled),
        "recall": semantic.recall_per_class(pooled),
        "pixels_true": pooled.sum(axis=1),
        "pixels_pred": pooled.sum(axis=0),
    }
    return {
        "pixel_accuracy": semantic.pixel_accuracy(pooled),
        "mean_iou": _mean(columns["iou"]),
        "mean_dice": _mean(columns["dice"]),
        "per_class": {
            name: {key: values[index].item() for key, values in columns.items()}
            for index, name in enumerate(names)
        },
    }


def _merged(
    confusions: np.ndarray, names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, list[str]]:
    """Confusion matrices with the classes of each group added up, in the order of their first class."""
    group_of = {name: group for group, members in groups.items() for name in members}
    if unknown := sorted(group_of.keys() - set(names)):
        raise ValueError(f"a group has the class {unknown[0]!r}; the classes are {', '.join(names)}")
    merged = list(dict.fromkeys(group_of.get(name, name) for name in names))
    belongs = np.zeros((len(names), len(merged)), np.int64)
    for index, name in enumerate(names):
        belongs[index, merged.index(group_of.get(name, name))] = 1
    return belongs.T @ confusions @ belongs, merged


def _at_least_one(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    items = list(rows)
    if not items:
        raise ValueError("no image was scored: the split is empty")
    return items


def _defined(value: float) -> float | None:
    """None instead of NaN, which JSON does not know."""
    return None if math.isnan(value) else value


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values, NaN if there is none (`np.nanmean` would warn)."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan

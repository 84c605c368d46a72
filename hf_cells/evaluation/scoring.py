"""How an output of a segmentation pipeline is compared with the truth of a row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import metrics
from ..errors import CellsError
from ..models.image_reading import read_image

Statistics = dict[str, Any]


@dataclass(frozen=True)
class Scoring:
    """How one kind of output is compared with the truth.

    Attributes:
        output: Key of the prediction.
        headline: The metric that ranks images.
        truth: From a row (as of `ImageRows`) to (H, W) int32.
        score: From row, truth and prediction to the statistics of an image.
        aggregate: From the statistics of images to metrics, scalars and tables of classes.
        tables: Metric -> the table of `aggregate` that belongs to it.
    """

    output: str
    headline: str
    truth: Callable[[Mapping[str, Any]], np.ndarray]
    score: Callable[[Mapping[str, Any], np.ndarray, np.ndarray], Statistics]
    aggregate: Callable[[Sequence[Statistics]], dict[str, Any]]
    tables: Mapping[str, str] = field(default_factory=dict)


def choose_scoring(prediction: Mapping[str, Any], columns: Sequence[str], config: Any) -> Scoring:
    """Choose the metrics by what the pipeline returns, and the truth by what the split has."""
    if "instance_labels" in prediction:
        if "instance_labels" not in columns:
            raise CellsError(
                "the model predicts instances and the split has no column 'instance_labels'; "
                "load the configuration of the dataset that has instances"
            )
        return Scoring(
            output="instance_labels",
            headline="dsb_score",
            truth=lambda row: _label_image(row["instance_labels"]),
            score=lambda row, true, predicted: metrics.score_instances(true, predicted),
            aggregate=metrics.aggregate_instances,
        )
    if "semantic_mask" not in prediction:
        raise CellsError(
            f"the pipeline returned {', '.join(prediction)}; "
            "it must return 'instance_labels' or 'semantic_mask'"
        )
    names = class_names(config)
    if "semantic_mask" not in columns and not ("instance_labels" in columns and len(names) == 2):
        raise CellsError(
            f"the model predicts {len(names)} classes and the split has no column 'semantic_mask'; "
            "load the configuration of the dataset that has masks"
        )

    def truth(row: Mapping[str, Any]) -> np.ndarray:
        if "semantic_mask" in columns:
            return _label_image(row["semantic_mask"])
        return (_label_image(row["instance_labels"]) > 0).astype(np.int32)

    if len(names) == 2:
        return Scoring(
            output="semantic_mask",
            headline="dice_per_image",
            truth=truth,
            score=lambda row, true, predicted: metrics.score_semantic(true, predicted, 2),
            aggregate=lambda rows: metrics.aggregate_semantic(rows, names),
            tables={"mean_iou": "per_class"},
        )
    return Scoring(
        output="semantic_mask",
        headline="mean_iou",
        truth=truth,
        score=lambda row, true, predicted: _score_classes(row, true, predicted, len(names)),
        aggregate=lambda rows: _aggregate_classes(rows, names, getattr(config, "class_groups", None)),
        tables={"mean_iou": "per_class", "mean_iou_merged": "per_class_merged", "object_f1_50": "per_object"},
    )


def _score_classes(
    row: Mapping[str, Any], true: np.ndarray, predicted: np.ndarray, num_labels: int
) -> Statistics:
    """Pixels and objects of an image of several classes; the split may know its cells one by one."""
    cells = None if row.get("cell_labels") is None else _label_image(row["cell_labels"])
    return {
        **metrics.score_semantic(true, predicted, num_labels),
        "objects": metrics.score_semantic_objects(true, predicted, num_labels, cells),
    }


def _aggregate_classes(
    rows: Sequence[Statistics], names: Sequence[str], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, Any]:
    objects = metrics.aggregate_semantic_objects([row["objects"] for row in rows], names)
    per_object = objects.pop("per_class")
    return {**metrics.aggregate_semantic(rows, names, groups), **objects, "per_object": per_object}


def class_names(config: Any) -> list[str]:
    """Class names in the order of their ids (the keys are text when the config comes from plain JSON)."""
    return [str(name) for _, name in sorted(config.id2label.items(), key=lambda item: int(item[0]))]


def class_colours(config: Any) -> tuple[tuple[int, int, int], ...] | None:
    """Colours in the order of the class ids; None unless the model knows one for every class."""
    known, names = getattr(config, "class_colors", None) or {}, class_names(config)
    if not all(name in known for name in names):
        return None
    return tuple((int(r), int(g), int(b)) for r, g, b in (known[name] for name in names))


def _label_image(source: Any) -> np.ndarray:
    """(H, W) int32, from the bytes of a label image."""
    return read_image(source).astype(np.int32)


def precision_by_threshold(statistics: Sequence[Statistics]) -> list[dict[str, float]]:
    """AP = TP / (TP + FP + FN) against the IoU threshold, from the statistics of `score_instances`.

    Returns:
        For each threshold .50, .55 … .95: `threshold`, `ap_pooled` (StarDist: counts summed over images
        first) and `ap_image_mean` (Cellpose: mean over images with any object). NaN without any object.
    """
    hits = np.array([row["true_positives"] for row in statistics], dtype=float)
    objects = np.array([row["objects_true"] + row["objects_pred"] for row in statistics], dtype=float)
    hits, objects = hits[objects > 0], objects[objects > 0]
    unions = objects[:, None] - hits
    pooled = by_image = np.full(len(metrics.MATCHING_THRESHOLDS), np.nan)
    if len(objects):
        pooled, by_image = hits.sum(axis=0) / unions.sum(axis=0), (hits / unions).mean(axis=0)
    return [
        {"threshold": float(t), "ap_pooled": float(p), "ap_image_mean": float(m)}
        for t, p, m in zip(metrics.MATCHING_THRESHOLDS, pooled, by_image, strict=True)
    ]

"""Metrics of classes and cells, equal to their published definitions: numpy cores and `evaluate.Metric`s.

The wrappers are imported on first use, because `evaluate` takes seconds to load.
"""

from typing import TYPE_CHECKING, Any

from hf_cells.metrics.aggregate import (
    aggregate_instances,
    aggregate_semantic,
    score_instances,
    score_semantic,
)
from hf_cells.metrics.classification import classification_metrics, decision_metrics, multilabel_metrics
from hf_cells.metrics.instance import (
    DSB_THRESHOLDS,
    MATCHING_THRESHOLDS,
    Matching,
    aggregated_jaccard_index,
    aggregated_jaccard_index_plus,
    average_precision,
    cellpose_aggregated_jaccard_index,
    dice2,
    dsb_score,
    dsb_true_positives,
    foreground_dice,
    match_pairs,
    matching,
    panoptic_quality,
    pool,
)
from hf_cells.metrics.overlap import Overlap, label_overlap
from hf_cells.metrics.pointing import point_hits, pointing_metrics, score_pointing
from hf_cells.metrics.ranking import (
    average_precision_score,
    precision_recall_curve,
    ranking_areas,
    roc_auc,
    roc_curve,
)
from hf_cells.metrics.reliability import ReliabilityBins, expected_calibration_error, reliability_bins
from hf_cells.metrics.semantic import (
    confusion_matrix,
    dice_per_class,
    image_dice,
    iou_per_class,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    soft_dice,
    soft_dice_sums,
)
from hf_cells.metrics.semantic_objects import (
    MIN_OBJECT_PIXELS,
    aggregate_semantic_objects,
    class_regions,
    score_semantic_objects,
)

if TYPE_CHECKING:
    from hf_cells.metrics.evaluate_metrics import (
        ClassificationMetric,
        InstanceSegmentationMetric,
        SemanticSegmentationMetric,
        SoftDiceMetric,
    )

_WRAPPERS = (
    "ClassificationMetric",
    "InstanceSegmentationMetric",
    "SemanticSegmentationMetric",
    "SoftDiceMetric",
)

__all__ = [
    "DSB_THRESHOLDS",
    "MATCHING_THRESHOLDS",
    "MIN_OBJECT_PIXELS",
    "ClassificationMetric",
    "InstanceSegmentationMetric",
    "Matching",
    "Overlap",
    "ReliabilityBins",
    "SemanticSegmentationMetric",
    "SoftDiceMetric",
    "aggregate_instances",
    "aggregate_semantic",
    "aggregate_semantic_objects",
    "aggregated_jaccard_index",
    "aggregated_jaccard_index_plus",
    "average_precision",
    "average_precision_score",
    "cellpose_aggregated_jaccard_index",
    "class_regions",
    "classification_metrics",
    "confusion_matrix",
    "decision_metrics",
    "dice2",
    "dice_per_class",
    "dsb_score",
    "dsb_true_positives",
    "expected_calibration_error",
    "foreground_dice",
    "image_dice",
    "iou_per_class",
    "label_overlap",
    "match_pairs",
    "matching",
    "multilabel_metrics",
    "panoptic_quality",
    "pixel_accuracy",
    "point_hits",
    "pointing_metrics",
    "pool",
    "precision_per_class",
    "precision_recall_curve",
    "ranking_areas",
    "recall_per_class",
    "reliability_bins",
    "roc_auc",
    "roc_curve",
    "score_instances",
    "score_pointing",
    "score_semantic",
    "score_semantic_objects",
    "soft_dice",
    "soft_dice_sums",
]


def __getattr__(name: str) -> Any:
    if name not in _WRAPPERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hf_cells.metrics import evaluate_metrics

    return getattr(evaluate_metrics, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

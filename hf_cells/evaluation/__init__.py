"""Measuring: results.json, intervals, calibration, thresholds and figures."""

from ..models.loading import pipeline as load_pipeline
from .calibration import fit_temperature
from .classification import ClassificationEvaluation, evaluate_classification
from .classification_figures import draw_classification_figures
from .decisions import choose_decision_thresholds
from .examples import select_examples
from .figures import plot_curves, plot_score_by_stratum, plot_threshold_curve
from .gallery import plot_segmentation_examples
from .report import SHOWING_IMAGES, draw_figures
from .results import metrics_line, read_results, write_results
from .scoring import precision_by_threshold
from .segmentation import Evaluation, evaluate_segmentation
from .tuning import choose_thresholds

__all__ = [
    "SHOWING_IMAGES",
    "ClassificationEvaluation",
    "Evaluation",
    "choose_decision_thresholds",
    "choose_thresholds",
    "draw_classification_figures",
    "draw_figures",
    "evaluate_classification",
    "evaluate_segmentation",
    "fit_temperature",
    "load_pipeline",
    "metrics_line",
    "plot_curves",
    "plot_score_by_stratum",
    "plot_segmentation_examples",
    "plot_threshold_curve",
    "precision_by_threshold",
    "read_results",
    "select_examples",
    "write_results",
]

"""Measuring: results.json, intervals, calibration, thresholds and figures.

The names are loaded when they are first touched, so that reading a `results.json` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.loading import pipeline as load_pipeline
    from .calibration import fit_temperature
    from .classification import ClassificationEvaluation, evaluate_classification
    from .classification_figures import draw_classification_figures
    from .decisions import choose_decision_thresholds
    from .examples import select_examples
    from .figures import plot_curves, plot_score_by_stratum, plot_threshold_curve
    from .gallery import plot_segmentation_examples
    from .report import draw_figures
    from .results import metrics_line, read_results, write_results
    from .scoring import precision_by_threshold
    from .segmentation import Evaluation, evaluate_segmentation
    from .tuning import choose_thresholds

_MODULE_OF = {
    "ClassificationEvaluation": "classification",
    "Evaluation": "segmentation",
    "choose_decision_thresholds": "decisions",
    "choose_thresholds": "tuning",
    "draw_classification_figures": "classification_figures",
    "draw_figures": "report",
    "evaluate_classification": "classification",
    "evaluate_segmentation": "segmentation",
    "fit_temperature": "calibration",
    "metrics_line": "results",
    "plot_curves": "figures",
    "plot_score_by_stratum": "figures",
    "plot_segmentation_examples": "gallery",
    "plot_threshold_curve": "figures",
    "precision_by_threshold": "scoring",
    "read_results": "results",
    "select_examples": "examples",
    "write_results": "results",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name == "load_pipeline":
        from ..models.loading import pipeline as value
    elif name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

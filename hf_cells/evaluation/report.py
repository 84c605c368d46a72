"""The figures of an evaluation, for a run, a card, or the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .classification import ClassificationEvaluation
from .classification_figures import draw_classification_figures
from .examples import select_examples
from .figures import plot_score_by_stratum, plot_threshold_curve
from .gallery import plot_segmentation_examples
from .scoring import precision_by_threshold
from .segmentation import Evaluation


def draw_figures(
    measured: Evaluation | ClassificationEvaluation,
    pipe: Any,
    dataset: Any,
    folder: Path,
    splits: Mapping[str, Any] | None = None,
) -> None:
    """Draw image / truth / prediction, scores by modality, and for instances the precision by IoU threshold.

    For a classifier, the figures of `draw_classification_figures`.

    Args:
        measured: The evaluation.
        pipe: The pipeline that was measured; a few images are predicted again.
        dataset: The split that was measured.
        folder: Where the PNGs go; made when it is not there.
        splits: All splits by name, for the class balance.
    """
    if isinstance(measured, ClassificationEvaluation):
        draw_classification_figures(measured, dataset, folder, splits)
        return
    folder.mkdir(parents=True, exist_ok=True)
    plot_segmentation_examples(select_examples(measured, pipe, dataset), folder / "predictions.png")
    if len(measured.results.get("strata", {})) > 1:
        plot_score_by_stratum(measured.results, folder / "by_modality.png")
    if measured.headline == "dsb_score":
        plot_threshold_curve(precision_by_threshold(measured.statistics), folder / "precision_by_iou.png")

"""Figures of a classifier on a split: confusion, reliability, class balance, wrong predictions, and curves."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CellsError
from ..metrics import decision_metrics, expected_calibration_error, reliability_bins
from ..metrics.reliability import BINS
from .classification import ClassificationEvaluation
from .classified_images import label_names
from .error_gallery import plot_wrong_predictions
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, plot_score_by_stratum, save_figure
from .results import WHOLE_SPLIT
from .threshold_figures import plot_cost_curve, plot_ranking_curves

_SIDE_BY_SIDE = 8  # more classes than this get a row for each matrix
_PALE_BLUE = "#8FBBD9"


def draw_classification_figures(
    measured: ClassificationEvaluation,
    dataset: Any,
    folder: str | os.PathLike[str],
    splits: Mapping[str, Any] | None = None,
) -> None:
    """Draw every figure that the evaluation gives matter for.

    `confusion_matrix.png`, `reliability.png`, `ranking_curves.png`, `cost_curve.png` (of two classes the second,
    of more the one with the lowest recall), `class_balance.png`, `by_stratum.png` and, with images of the
    dataset in it, `wrong_predictions.png`.

    Args:
        measured: The evaluation.
        dataset: The split that was measured.
        folder: Where the PNGs go; made when it is not there.
        splits: All splits of the dataset by name, for the class balance; by default the measured one alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names, targets = measured.class_names, _targets(measured)
    if not measured.multi_label:
        plot_confusion_matrices(measured, folder / "confusion_matrix.png")
    plot_reliability(measured, folder / "reliability.png")
    there = [k for k in range(len(names)) if 0 < targets[:, k].sum() < len(targets)]
    if there:
        plot_ranking_curves(targets, measured.probabilities, names, folder / "ranking_curves.png")
        k = 1 if len(names) == 2 and 1 in there else min(there, key=lambda k: _recall(measured, k))
        decisions = {"argmax": measured.plain, "with thresholds": measured.predicted}
        if measured.multi_label:
            decisions = {"threshold 0.5": measured.plain, "own thresholds": measured.predicted}
        if not measured.results["decision"]["thresholds"]:
            decisions.popitem()
        one = {name: _is_class(decided, k) for name, decided in decisions.items()}
        plot_cost_curve(targets[:, k], measured.probabilities[:, k], one, names[k], folder / "cost_curve.png")
    counts = {measured.results["split"]["name"]: targets.sum(axis=0)}
    counts = {name: _count(split, names) for name, split in splits.items()} if splits else counts
    plot_class_balance(counts, names, folder / "class_balance.png")
    if len(measured.results.get("strata", {}).keys() - {WHOLE_SPLIT}) > 1:
        plot_score_by_stratum(measured.results, folder / "by_stratum.png")
    if measured.wrong():
        plot_wrong_predictions(measured, dataset, folder / "wrong_predictions.png")


def plot_confusion_matrices(measured: ClassificationEvaluation, path: str | os.PathLike[str]) -> None:
    """Counts of true against predicted classes, coloured by the share of the true class.

    Before and after thresholds; one matrix where the model has none.

    Raises:
        CellsError: When images have several labels.
    """
    if measured.multi_label:
        raise CellsError(
            "a confusion matrix is for one label an image; see the precision of each label instead"
        )
    names, confusion = measured.class_names, measured.results["confusion_matrix"]
    panels = [("argmax", measured.plain, np.array(confusion["argmax"]))]
    if measured.results["decision"]["thresholds"]:
        panels.append(("with thresholds", measured.predicted, np.array(confusion["predicted"])))
    beside = len(names) <= _SIDE_BY_SIDE
    height = max(3.6, 2.0 + 0.42 * len(names)) if beside else (2.0 + 0.3 * len(names)) * len(panels)
    figure = new_figure(height)
    grid = (1, len(panels)) if beside else (len(panels), 1)
    axes = figure.subplots(*grid, squeeze=False).ravel()
    for place, (axis, (title, decided, counts)) in enumerate(zip(axes, panels, strict=True)):
        scores = decision_metrics(measured.labels, decided, names)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axis.text(
                    column,
                    row,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    fontsize=9 if len(names) <= 12 else 8,
                    color="white" if shares[row, column] > 0.5 else "black",
                )
        axis.set_title(
            f"{title}\naccuracy {scores['accuracy']:.3f}, mean class accuracy {scores['mean_class_accuracy']:.3f}",
            fontsize=10,
        )
        axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names if place == 0 or not beside else [""] * len(names))
        axis.set_xlabel("predicted")
        if place == 0 or not beside:
            axis.set_ylabel("true")
        axis.tick_params(length=0)
    figure.colorbar(
        image, ax=list(axes), label="share of the true class", aspect=30 if beside else 70, pad=0.02
    )
    save_figure(figure, path)


def plot_reliability(measured: ClassificationEvaluation, path: str | os.PathLike[str]) -> None:
    """Stated probability against observed frequency in 15 bins, and how many forecasts each bin holds.

    The forecast is the most probable class, or each label of each image where an image has several.
    """
    p = measured.probabilities.astype(np.float64)
    if measured.multi_label:
        stated, happened = p.ravel(), measured.labels.ravel()
        what = ("probability of a label", "share of images with it", "labels")
    else:
        top = p.argmax(axis=1)
        stated, happened = p[np.arange(len(p)), top], top == measured.labels
        what = ("probability of the most probable class", "share that is right", "images")
    bins = reliability_bins(stated, happened)
    error = expected_calibration_error(stated, happened)
    edges = np.linspace(0, 1, BINS + 1)
    filled = bins.counts > 0
    figure = new_figure(height=5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(
        edges[:-1][filled],
        bins.frequency[filled],
        width=1 / BINS,
        align="edge",
        color=_PALE_BLUE,
        edgecolor=BLUE,
        linewidth=0.8,
        label=what[1],
    )
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.3, label="perfectly calibrated")
    upper.plot(
        bins.confidence[filled],
        bins.frequency[filled],
        "o",
        color=ORANGE,
        markersize=4.5,
        label="mean of each bin",
    )
    upper.set_ylabel(what[1])
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1.03)
    figure.suptitle(f"expected calibration error {error:.3f}", fontsize=10.5)
    upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)
    lower.bar(edges[:-1], bins.counts, width=1 / BINS, align="edge", color="#C9CDD2", edgecolor=GREY)
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylabel(what[2])
    lower.set_xlabel(what[0])
    save_figure(figure, path)


def plot_class_balance(
    counts: Mapping[str, np.ndarray], class_names: list[str], path: str | os.PathLike[str]
) -> None:
    """Images of each class in each split, and their share of the split.

    Args:
        counts: (K,) images per class, by split.
        class_names: K names.
        path: PNG to write.
    """
    few = len(class_names) <= 10
    bar = 0.2 if few else 0.15  # inches
    figure = new_figure(height=max(2.4, 1.0 + (bar * len(counts) + 0.1) * len(class_names)))
    axis = figure.subplots()
    width = 0.84 / len(counts)
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    for place, (split, images) in enumerate(counts.items()):
        positions = np.arange(len(class_names)) + (place - (len(counts) - 1) / 2) * width
        total = max(int(np.sum(images)), 1)
        axis.barh(
            positions,
            images,
            height=width * 0.92,
            color=colours[place % len(colours)],
            label=f"{split} ({np.sum(images):,})",
        )
        for position, count in zip(positions, images, strict=True):
            axis.annotate(
                f"{count:,} ({count / total:.1%})",
                (count, position),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5 if few else 7.5,
            )
    axis.set_yticks(range(len(class_names)), class_names)
    axis.set_ylim(len(class_names) - 0.4, -0.6)
    axis.margins(x=0.14)
    axis.set_xlabel("labels (share of the split's labels)")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2)
    save_figure(figure, path)


def _targets(measured: ClassificationEvaluation) -> np.ndarray:
    """(N, K) 0 or 1."""
    if measured.multi_label:
        return measured.labels.astype(np.int64)
    return np.eye(len(measured.class_names), dtype=np.int64)[measured.labels]


def _is_class(decided: np.ndarray, k: int) -> np.ndarray:
    return decided[:, k] if decided.ndim == 2 else decided == k


def _recall(measured: ClassificationEvaluation, k: int) -> float:
    return decision_metrics(measured.labels, measured.predicted, measured.class_names)["per_class"][
        measured.class_names[k]
    ]["recall"]


def _count(split: Any, names: list[str]) -> np.ndarray:
    """(K,) images of each class of the model in a split, without decoding one."""
    counts = Counter(name for labels in label_names(split) or () for name in labels or ())
    return np.array([counts[name] for name in names])

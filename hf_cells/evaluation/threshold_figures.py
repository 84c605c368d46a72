"""Figures over all thresholds of a classifier: ROC, precision-recall, and cost."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ..errors import CellsError
from ..metrics import precision_recall_curve, ranking_areas, roc_curve
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, save_figure

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", GREY)
_STYLES = ("-", "--", ":")
# How much of an axis is shown when the curves crowd into a corner.
_ZOOMS = (0.02, 0.05, 0.1, 0.2, 0.5)


def plot_ranking_curves(
    targets: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """ROC and precision-recall of each class against the rest, with their areas in the legend.

    Where all curves crowd into a corner, that corner is shown enlarged, and the axes say so.

    Args:
        targets: (N, K) 0 or 1.
        probabilities: (N, K).
        class_names: K names. Of two classes only the second is drawn: the first is its mirror image.
        path: PNG to write.

    Raises:
        CellsError: When no class is both there and absent, so that there is nothing to rank.
    """
    chosen = range(1, 2) if len(class_names) == 2 and _exclusive(targets) else range(len(class_names))
    ranked = [k for k in chosen if 0 < targets[:, k].sum() < len(targets)]
    if not ranked:
        raise CellsError("no class has images both of it and of others; evaluate a split with two classes")
    columns = 1 + len(ranked) // 24
    figure = new_figure(height=max(4.2, 1.0 + 0.21 * len(ranked) / columns))
    roc, recalled = figure.subplots(1, 2)
    curves = []
    for place, k in enumerate(ranked):
        style = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": _STYLES[place // len(_COLOURS) % len(_STYLES)],
            "linewidth": 1.7,
        }
        fpr, tpr, _ = roc_curve(targets[:, k], probabilities[:, k])
        precision, recall, _ = precision_recall_curve(targets[:, k], probabilities[:, k])
        found = np.append(True, np.diff(recall) > 0)  # the steps that the average precision adds up
        precision, recall = precision[found], recall[found]
        auc, ap = ranking_areas(targets[:, k], probabilities[:, k])
        roc.plot(fpr, tpr, label=f"{class_names[k]}  {_area(auc)} / {_area(ap)}", **style)
        recalled.step(recall, precision, where="pre", **style)
        curves.append((fpr, tpr, precision, recall))
    zoom = _zoom([np.maximum(fpr, 1 - tpr).min() for fpr, tpr, _, _ in curves])
    if zoom == 1:
        roc.plot([0, 1], [0, 1], color="#9E9E9E", linewidth=1, linestyle=(0, (2, 3)))
    _frame(roc, (0, zoom), (1 - zoom, 1), "false positive rate", "true positive rate")
    zoom = _zoom([1 - np.minimum(precision, recall).max() for _, _, precision, recall in curves])
    _frame(recalled, (1 - zoom, 1), (1 - zoom, 1), "recall", "precision")
    figure.legend(
        *roc.get_legend_handles_labels(),
        title="ROC AUC / average precision",
        loc="outside right center" if len(ranked) > 1 else "outside upper center",
        frameon=False,
        ncols=columns,
    )
    save_figure(figure, path)


def plot_cost_curve(
    positive: np.ndarray,
    scores: np.ndarray,
    decisions: Mapping[str, np.ndarray],
    class_name: str,
    path: str | os.PathLike[str],
) -> None:
    """Normalised expected cost of one class against the rest (Drummond & Holte 2006).

    From left to right positives become more frequent, or missing one dearer. A decision is a straight line
    from its false positive rate to its false negative rate; below all of them lies what the best threshold
    for each place would reach, above is what blind decisions cost.

    Args:
        positive: (N,) true where the image is of the class.
        scores: (N,) its probability.
        decisions: Named decisions, (N,) bool each; one line each.
        class_name: For the labels.
        path: PNG to write.

    Raises:
        CellsError: When the class, or the rest, has no image.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise CellsError(f"a cost curve needs images of {class_name} and of others; evaluate another split")
    fpr, tpr, _ = roc_curve(positive, scores)
    x = np.linspace(0, 1, 501)
    best = np.min([(1 - hit) * x + alarm * (1 - x) for alarm, hit in zip(fpr, tpr, strict=True)], axis=0)
    figure = new_figure(height=4.4)
    axis = figure.subplots()
    axis.plot(x, np.minimum(x, 1 - x), color=GREY, linestyle="--", linewidth=1.3, label="always or never")
    highest = best.max()
    for (name, decided), colour in zip(decisions.items(), (ORANGE, BLUE, PURPLE), strict=False):
        ends = [decided[~positive].mean(), (~decided[positive]).mean()]
        axis.plot([0, 1], ends, color=colour, linewidth=1.8, label=name)
        highest = max(highest, *ends)
    axis.fill_between(x, best, color=GREEN, alpha=0.15, linewidth=0)
    axis.plot(x, best, color=GREEN, linewidth=1.8, label="best threshold for each place")
    share = positive.mean()
    axis.axvline(share, color="black", linewidth=1, linestyle=":", label="this split, equal costs")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, min(0.52, max(1.25 * highest, 0.01)))
    axis.set_xlabel(f"probability cost of {class_name}: share of positives, weighted by the costs of errors")
    axis.set_ylabel("normalised expected cost")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    save_figure(figure, path)


def _exclusive(targets: np.ndarray) -> bool:
    return bool((targets.sum(axis=1) == 1).all())


def _area(value: float) -> str:
    """Three digits, and never 1.000 for what is less."""
    return f"{value:.3f}" if value == 1 or value < 0.9995 else ">0.999"


def _zoom(bends: Sequence[float]) -> float:
    """The length of axis to show: twice the way from the corner to where the farthest curve bends."""
    return next((zoom for zoom in _ZOOMS if 2 * max(bends) <= zoom), 1.0)


def _frame(axis: Axes, x: tuple[float, float], y: tuple[float, float], x_name: str, y_name: str) -> None:
    """Limits with a little air, so that a curve along an edge shows; enlarged axes say so."""
    for limits, name, setter, label in (
        (x, x_name, axis.set_xlim, axis.set_xlabel),
        (y, y_name, axis.set_ylim, axis.set_ylabel),
    ):
        length = limits[1] - limits[0]
        setter(limits[0] - 0.02 * length, limits[1] + 0.02 * length)
        label(name if length == 1 else f"{name} (enlarged)")

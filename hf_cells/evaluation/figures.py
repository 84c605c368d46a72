"""Figures for run folders and cards, drawn 900 px wide at 100 % (saved at 1.5 times that).

Colours are Okabe & Ito's (2008), which colour-blind readers tell apart. Figure objects only: no pyplot state.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ..errors import CellsError
from ..files import atomic_write
from .gallery import plot_segmentation_examples
from .results import HEADLINES, WHOLE_SPLIT

__all__ = ["plot_curves", "plot_score_by_stratum", "plot_segmentation_examples", "plot_threshold_curve"]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#5F6368"
_LINES = (BLUE, ORANGE, GREEN, PURPLE)
WIDTH_INCHES = 9.0
_DPI = 150


def plot_curves(
    history_csv: str | os.PathLike[str], path: str | os.PathLike[str], metrics: Sequence[str] | None = None
) -> None:
    """Loss, metrics and learning rate over the epochs of a run, the best value of each curve written on it.

    Args:
        history_csv: One line per epoch: `epoch`, `train_loss`, `learning_rate` and, of a run with validation,
            `validation_loss` and any `validation_<metric>` (with `train_<metric>` beside it where measured). An
            empty cell is no value.
        path: PNG to write.
        metrics: Names without the prefix; by default the three most telling ones that were measured.

    Raises:
        CellsError: When the history is missing, empty, or lacks a column.
    """
    history = _read_history(Path(history_csv))
    measured = [name for name in HEADLINES if f"validation_{name}" in history]
    for name in metrics or ():
        if f"validation_{name}" not in history:
            raise CellsError(
                f"{history_csv} has no column validation_{name}; it has {', '.join(measured) or 'no metrics'}"
            )
    chosen = list(metrics or measured[:3])

    figure = new_figure(height=6.2 if chosen else 4.4)
    ratios = [1.0, 1.15, 0.45] if chosen else [1.0, 0.45]
    axes = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios))
    epochs = history["epoch"]
    _curve(axes[0], epochs, history["train_loss"], "train", BLUE, dashed=True)
    if "validation_loss" in history:
        _curve(axes[0], epochs, history["validation_loss"], "validation", ORANGE, best="min", note=True)
    axes[0].set_ylabel("loss")
    if chosen:
        for name, colour in zip(chosen, _cycle(len(chosen)), strict=True):
            if f"train_{name}" in history:
                values = history[f"train_{name}"]
                _curve(axes[1], epochs, values, f"{name}, train", colour, best="max", dashed=True)
            values, first = history[f"validation_{name}"], name == chosen[0]
            _curve(axes[1], epochs, values, name, colour, best="max", note=first)
        axes[1].set_ylabel("validation metric")
    _curve(axes[-1], epochs, history["learning_rate"], "learning rate", GREY)
    axes[-1].set_ylabel("learning rate")
    axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes[:-1]:
        # Beside the curves, where a legend can never cover one.
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    save_figure(figure, path)


def plot_score_by_stratum(
    results: Mapping[str, Any], path: str | os.PathLike[str], metric: str | None = None
) -> None:
    """Bars of one metric per stratum with 95 % intervals, and the whole split as a line.

    Args:
        results: The contents of a `results.json` that has `strata`.
        path: PNG to write.
        metric: By default `dsb_score`, else the most telling one that is there.

    Raises:
        CellsError: When the results have no strata or not this metric.
    """
    strata = results.get("strata") or {}
    whole = results["metrics"]
    name = metric or next((key for key in HEADLINES if key in whole), None)
    rows = [
        (stratum, table[name])
        for stratum, table in strata.items()
        if name in table and stratum != WHOLE_SPLIT
    ]
    if name not in whole or not rows:
        raise CellsError(
            f"the results have no {name or 'metric'} by stratum; evaluate a split with modalities"
        )
    rows.sort(key=lambda row: np.nan_to_num(_number(row[1]["value"]), nan=-np.inf))

    figure = new_figure(height=1.3 + 0.42 * len(rows))
    axis = figure.subplots()
    for position, (_, entry) in enumerate(rows):
        value = _number(entry["value"])
        low, high = entry.get("ci") or (value, value)
        axis.barh(position, value, height=0.62, color="#8FBBD9", edgecolor=BLUE, linewidth=0.8)
        axis.plot([low, high], [position] * 2, color="black", linewidth=1.6, solid_capstyle="butt")
        axis.annotate(
            "n/a" if math.isnan(value) else f"{value:.2f}",
            (0 if math.isnan(value) else max(high, value), position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    overall = _number(whole[name]["value"])
    axis.axvline(overall, color=ORANGE, linewidth=1.6, label=f"all {whole[name]['n']} images: {overall:.2f}")
    if whole[name]["ci"]:
        axis.axvspan(*whole[name]["ci"], color=ORANGE, alpha=0.15, linewidth=0)
    labels = [f"{stratum} ({entry['n']})" for stratum, entry in rows]
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlim(0, max(1.0, *(_number(entry["value"]) for _, entry in rows)) * 1.08)
    axis.set_xlabel(f"{name}, {results['split']['name']} split (images in brackets, 95 % intervals)")
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, borderaxespad=0.2)
    save_figure(figure, path)


def plot_threshold_curve(rows: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Average precision against the IoU threshold.

    Args:
        rows: As of `precision_by_threshold`: `threshold` and one number per curve, equal names in each row.
        path: PNG to write.

    Raises:
        CellsError: When there is no row.
    """
    if not rows:
        raise CellsError("no thresholds to draw; give the rows of precision_by_threshold")
    figure = new_figure(height=4.2)
    axis = figure.subplots()
    thresholds = [row["threshold"] for row in rows]
    names = [name for name in rows[0] if name != "threshold"]
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        values = [row[name] for row in rows]
        axis.plot(
            thresholds, values, color=colour, marker="o", markersize=4.5, label=_AP_LABELS.get(name, name)
        )
        for place in (0, len(rows) - 1):
            heights = [rows[place][other] for other in names]
            if values[place] in (max(heights), min(heights)):  # above the highest curve, below the lowest
                rise = 8 if values[place] == max(heights) else -15
                _note(axis, f"{values[place]:.2f}", thresholds[place], values[place], colour, rise)
    axis.set_xlabel("IoU threshold of a match")
    axis.set_ylabel("AP = TP / (TP + FP + FN)")
    axis.set_ylim(0, 1.05)
    axis.legend(frameon=False)
    save_figure(figure, path)


_AP_LABELS = {
    "ap_pooled": "objects of all images pooled (StarDist)",
    "ap_image_mean": "mean over images (Cellpose)",
}


def _read_history(path: Path) -> dict[str, np.ndarray]:
    """Columns of numbers; an empty or unreadable cell is NaN."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            lines, columns = list(reader), list(reader.fieldnames or ())
    except OSError as error:
        raise CellsError(f"cannot read {path}: {error.strerror}; train first, or name another run") from error
    for column in ("epoch", "train_loss", "learning_rate"):
        if column not in columns:
            raise CellsError(f"{path} has no column {column}; give the history.csv of a run")
    if not lines:
        raise CellsError(f"{path} has no epoch yet; let one finish and draw again")
    return {column: np.array([_number(line[column]) for line in lines]) for column in columns}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _curve(
    axis: Axes,
    epochs: np.ndarray,
    values: np.ndarray,
    label: str,
    colour: str,
    *,
    best: str | None = None,
    note: bool = False,
    dashed: bool = False,
) -> None:
    """One line through the epochs that have a value; its best point is ringed and named in the legend.

    `note` writes the best value on the curve as well: for one curve of an axis, so that no two notes collide.
    """
    known = np.isfinite(values)
    epochs, values = epochs[known], values[known]
    if not len(values):
        return
    place = int(np.argmin(values) if best == "min" else np.argmax(values))
    if best:
        label += f"\n{best} {values[place]:.3f}, epoch {epochs[place]:g}"
    axis.plot(
        epochs,
        values,
        color=colour,
        label=label,
        linestyle="--" if dashed else "-",
        marker="o" if len(values) < 3 else None,
        linewidth=1.8,
    )
    if best:
        axis.plot(epochs[place], values[place], "o", color=colour, markerfacecolor="white", markersize=7)
    if note:
        _note(axis, f"{values[place]:.3f}", float(epochs[place]), float(values[place]), colour)


def _note(axis: Axes, text: str, x: float, y: float, colour: str, rise: float = 8) -> None:
    """Text above a point (below it for a negative rise), readable across other lines."""
    axis.annotate(
        text,
        (x, y),
        xytext=(0, rise),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontsize=9,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _cycle(count: int) -> list[str]:
    return [_LINES[index % len(_LINES)] for index in range(count)]


def new_figure(height: float, layout: Any = "constrained") -> Figure:
    """A figure of the common width; `height` in inches."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Give the axes their common look, and write the PNG."""
    for axis in figure.axes:
        if axis.axison and not axis.images and axis.get_label() != "<colorbar>":
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(color="#E3E3E3", linewidth=0.7)
            axis.set_axisbelow(True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")

"""Figures that compare trainings: the spread over seeds, the variants of a study, score against time."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..errors import CellsError
from .figures import BLUE, GREY, ORANGE, new_figure, save_figure

_LIGHT_BLUE = "#8FBBD9"
_ROW = 0.42  # inches


def plot_spread(
    values: Mapping[str, Sequence[float | None]], path: str | os.PathLike[str], *, split: str = "test"
) -> None:
    """One row per metric: a dot for each run, the mean, and one standard deviation to either side.

    Args:
        values: Of each metric, one a run; None is undefined. Metrics beyond 0 to 1 would hide the others: left out.
        path: PNG to write.
        split: Where they were measured, for the label.

    Raises:
        CellsError: When no metric is left.
    """
    known = {name: np.array([v for v in row if v is not None]) for name, row in values.items()}
    known = {name: row for name, row in known.items() if len(row) and row.min() >= 0 and row.max() <= 1}
    if not known:
        raise CellsError("no metric between 0 and 1 to draw; give those of results.json")
    figure = new_figure(height=1.2 + _ROW * len(known))
    axis = figure.subplots()
    for place, row in enumerate(reversed(known.values())):
        mean, deviation = row.mean(), row.std(ddof=1) if len(row) > 1 else 0.0
        axis.barh(place, 2 * deviation, left=mean - deviation, height=0.5, color=ORANGE, alpha=0.25)
        axis.plot([mean] * 2, [place - 0.3, place + 0.3], color=ORANGE, linewidth=2)
        axis.plot(row, [place] * len(row), "o", color=BLUE, markersize=6, alpha=0.75, markeredgewidth=0)
        text = f"{mean:.3f} ± {deviation:.3f}" if len(row) > 1 else f"{mean:.3f}"
        axis.annotate(
            text,
            (1.0, place),
            (6, 0),
            ("axes fraction", "data"),
            "offset points",
            va="center",
            annotation_clip=False,
        )
    axis.set_yticks(range(len(known)), list(reversed(known)))
    axis.set_ylim(-0.6, len(known) - 0.4)
    runs = max(len(row) for row in known.values())
    axis.set_xlabel(f"{split} split; a dot for each of {runs} runs, mean ± standard deviation")
    save_figure(figure, path)


def plot_study(rows: Sequence[Mapping[str, Any]], metric: str, path: str | os.PathLike[str]) -> None:
    """Bars of the validation metric and of the training seconds of each variant, in the order given.

    Args:
        rows: `name`, `validation` (None: undefined) and `training_seconds`.
        metric: What `validation` is.
        path: PNG to write.

    Raises:
        CellsError: When there is no row.
    """
    if not rows:
        raise CellsError("no variants to draw; train one first")
    figure = new_figure(height=1.3 + _ROW * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1.0])
    scores = [math.nan if row["validation"] is None else row["validation"] for row in rows]
    _bars(left, scores, "n/a", ".3f")
    _bars(right, [row["training_seconds"] for row in rows], "n/a", ".0f")
    left.set_yticks(range(len(rows)), [row["name"] for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    left.set_xlabel(f"best {metric} on validation")
    right.set_xlabel("training (s)")
    save_figure(figure, path)


def _bars(axis: Axes, values: Sequence[float], absent: str, form: str) -> None:
    """Horizontal bars from 0 with their values at the end."""
    axis.barh(range(len(values)), np.nan_to_num(values), height=0.62, color=_LIGHT_BLUE, edgecolor=BLUE)
    for place, value in enumerate(values):
        text = absent if math.isnan(value) else format(value, form)
        axis.annotate(
            text, (float(np.nan_to_num(value)), place), (5, 0), textcoords="offset points", va="center"
        )
    axis.margins(x=0.18)
    axis.xaxis.set_major_locator(MaxNLocator(5))


def plot_score_against_time(
    points: Sequence[Mapping[str, Any]],
    metric: str,
    path: str | os.PathLike[str],
    *,
    lower_is_better: bool = False,
) -> None:
    """Each trial's validation score against its training time, and the front of those that none beats in both.

    Args:
        points: `name`, `seconds`, `score` and `complete`; trials that were stopped early are drawn hollow and are not
            part of the front.
        metric: What the scores are.
        path: PNG to write.
        lower_is_better: Of the metric.

    Raises:
        CellsError: When no trial is complete.
    """
    complete = [point for point in points if point["complete"]]
    stopped = [point for point in points if not point["complete"]]
    if not complete:
        raise CellsError("no complete trial to draw; let one finish")
    front = pareto_front(complete, lower_is_better=lower_is_better)
    figure = new_figure(height=5.0)
    axis = figure.subplots()
    axis.plot(
        *_columns(stopped), "o", color=GREY, markerfacecolor="none", label=f"{len(stopped)} stopped early"
    )
    axis.plot(*_columns(complete), "o", color=BLUE, label=f"{len(complete)} complete")
    axis.plot(
        *_columns(front),
        "-o",
        color=ORANGE,
        markersize=8,
        drawstyle="steps-post",
        label="none is better and faster",
    )
    for point in front:  # on the side where nothing can be
        place, beyond = (point["seconds"], point["score"]), -9 if lower_is_better else 6
        rise = "top" if lower_is_better else "bottom"
        axis.annotate(point["name"], place, (-5, beyond), textcoords="offset points", ha="right", va=rise)
    seconds = [point["seconds"] for point in points]
    if min(seconds) > 0 and max(seconds) > 10 * min(seconds):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(0.1)
    axis.set_xlabel("training time of the trial (s)")
    axis.set_ylabel(f"best {metric} on validation")
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
    save_figure(figure, path)


def pareto_front(
    points: Sequence[Mapping[str, Any]], *, lower_is_better: bool = False
) -> list[Mapping[str, Any]]:
    """Return the points with `seconds` and `score` to which no other is both faster and better, the fastest first."""
    sign = 1 if lower_is_better else -1
    front: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda p: (p["seconds"], sign * p["score"])):
        if not front or sign * point["score"] < sign * front[-1]["score"]:
            front.append(point)
    return front


def _columns(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [point["seconds"] for point in points], [point["score"] for point in points]

"""Charts of the numbers: labels, sizes, intensities, objects. 900 px wide, as all figures of the package."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ..evaluation.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, save_figure
from .intensities import Channel, Intensities

Path = str | os.PathLike[str]
SPLIT_COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
_CHANNELS = {"red": "#D62728", "green": "#2CA02C", "blue": "#1F5FD6", "yellow": "#C79500", "grey": GREY}
_MOST_CLASSES = 40  # in a chart; explore.json has all
_BINS = 96


def plot_labels(labels: Mapping[str, Any], path: Path) -> None:
    """Images with each label, rare ones last, a bar for each split; beside it their share of the split's images."""
    names = sorted(labels["names"], key=lambda name: -sum(labels["counts"][name].values()))[:_MOST_CLASSES]
    splits = list(labels["images"])
    figure = new_figure(height=1.1 + len(names) * (0.13 * len(splits) + 0.12))
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, table, text in ((left, "counts", "{:,}"), (right, "prevalence", "{:.1%}")):
        for place, split in enumerate(splits):
            values = np.array([labels[table][name][split] for name in names], float)
            _bars(axis, values, place, len(splits), _colour(split), text)
    left.set_yticks(range(len(names)), names, fontsize=8.5)
    left.set_ylim(len(names) - 0.45, -0.55)
    left.set_xlabel("images")
    right.set_xlabel("share of the split's labelled images")
    left.margins(x=0.2)
    right.margins(x=0.2)
    handles = [_patch(split, f"{split} ({labels['images'][split]:,})") for split in splits]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(splits), frameon=False)
    save_figure(figure, path)


def plot_co_occurrence(labels: Mapping[str, Any], path: Path) -> None:
    """Of the images with the label of a row, the share that has the label of a column too; and phi beside it."""
    totals = [-sum(labels["counts"][name].values()) for name in labels["names"]]
    there = np.diag(np.array(labels["co_occurrence"])) > 0
    # What is nowhere is in the chart of labels.
    order = [k for k in np.argsort(totals, kind="stable") if there[k]][:_MOST_CLASSES]
    together = np.array(labels["co_occurrence"], float)[np.ix_(order, order)]
    own = np.diag(together)
    share = np.divide(together, own[:, None], out=np.full_like(together, np.nan), where=own[:, None] > 0)
    np.fill_diagonal(share, np.nan)
    correlation = np.array(labels["correlation"], float)[np.ix_(order, order)]
    np.fill_diagonal(correlation, np.nan)
    names = [f"{labels['names'][k]} ({together[i, i]:,.0f})" for i, k in enumerate(order)]
    side = 1.6 + min(7.4, 0.34 * len(names) + 1.2)
    figure = new_figure(height=2 * side)
    limit = max(0.2, float(np.nanmax(np.abs(correlation), initial=0)))
    panels = (
        (share, "Blues", (0, 1), "share of the row's images that have the column's label too", "{:.0%}"),
        (correlation, "RdBu_r", (-limit, limit), "correlation (phi): red together, blue apart", "{:.2f}"),
    )
    for axis, (values, colours, (low, high), title, text) in zip(figure.subplots(2, 1), panels):
        image = axis.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
        axis.set_xticks(
            range(len(names)), [labels["names"][k] for k in order], rotation=45, ha="right", fontsize=7.5
        )
        axis.set_yticks(range(len(names)), names, fontsize=7.5)
        axis.set_title(title, fontsize=10)
        figure.colorbar(image, ax=axis, shrink=0.8)
        if len(names) <= 20:
            for (row, column), value in np.ndenumerate(values):
                strong = np.isfinite(value) and abs(value) > 0.6 * high
                if np.isfinite(value) and abs(value) >= 0.005:
                    shown = text.format(value)
                    axis.text(column, row, shown, ha="center", va="center", fontsize=6,
                              color="white" if strong else "black")  # fmt: skip
    save_figure(figure, path)


def plot_sizes(sizes: Mapping[tuple[int, int], int], path: Path) -> None:
    """Width against height, a dot for each size that is there, as large as it is frequent."""
    points = np.array([[width, height, count] for (height, width), count in sizes.items()], float)
    figure = new_figure(height=4.6)
    axis = figure.subplots()
    largest = points[:, 2].max()
    area = 14 + 500 * points[:, 2] / largest if len(points) <= 60 else np.full(len(points), 12.0)
    axis.scatter(points[:, 0], points[:, 1], s=area, color=BLUE, alpha=0.45, edgecolor=BLUE, linewidth=0.6)
    reach = [points[:, :2].min() * 0.9, points[:, :2].max() * 1.08]
    axis.plot(reach, reach, color=GREY, linestyle="--", linewidth=1, zorder=0)
    if points[:, :2].max() > 8 * points[:, :2].min():
        axis.set_xscale("log")
        axis.set_yscale("log")
    for width, height, count in (
        sorted(points.tolist(), key=lambda point: -point[2])[:6] if len(points) <= 60 else []
    ):
        beside = 3 + math.sqrt((14 + 500 * count / largest) / math.pi)
        axis.annotate(
            f"{count:,.0f}", (width, height), xytext=(beside, -3), textcoords="offset points", fontsize=8
        )
    axis.set_xlabel("width in pixels (dashed: square images)")
    axis.set_ylabel("height in pixels")
    save_figure(figure, path)


def plot_intensities(intensities: Intensities, splits: Sequence[str], path: Path) -> None:
    """Histogram of each channel, a line for each split."""
    channels = list(intensities.sums)
    columns = min(2, len(channels))
    rows = -(-len(channels) // columns)
    figure = new_figure(height=0.5 + 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, channel in zip(axes, channels):
        known = [split for split in splits if ("split", split) in intensities.sums[channel]]
        tables = {split: intensities.distribution(channel, ("split", split)) for split in known}
        low, high = _reach(tables.values())
        edges = np.linspace(low, high, _BINS + 1) if channel[1] != "uint8" else np.arange(low, high + 2) - 0.5
        for split, (values, shares) in tables.items():
            heights, _ = np.histogram(values.clip(low, high), edges, weights=shares)
            axis.stairs(heights, edges, color=_colour(split), linewidth=1.4, label=split)
        axis.set_yscale("log")
        axis.set_ylim(bottom=1e-5)
        axis.set_title(_title(channel, intensities), fontsize=10, color=_CHANNELS.get(channel[0], "black"))
        axis.set_xlabel(f"intensity ({channel[1]})")
        axis.set_ylabel("share of pixels")
    for axis in axes[len(channels) :]:
        axis.set_axis_off()
    handles = [_patch(split, split) for split in splits]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    save_figure(figure, path)


def plot_intensities_by_class(intensities: Intensities, names: Sequence[str], path: Path) -> None:
    """Percentiles of each channel, a line for each class: 5 to 95 thin, 25 to 75 thick, the median a dot."""
    channels = [c for c, groups in intensities.sums.items() if any(kind == "class" for kind, _ in groups)]
    names = list(names)[:_MOST_CLASSES]
    columns = min(4, len(channels))
    rows = -(-len(channels) // columns)
    figure = new_figure(height=rows * (0.9 + 0.22 * len(names)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis, channel in zip(axes.ravel(), channels):
        colour = _CHANNELS.get(channel[0], BLUE)
        for place, name in enumerate(names):
            if ("class", name) not in intensities.sums[channel]:
                continue
            told = intensities.numbers(channel, ("class", name))
            axis.plot([told["p5"], told["p95"]], [place] * 2, color=colour, linewidth=1)
            axis.plot([told["p25"], told["p75"]], [place] * 2, color=colour, linewidth=5, alpha=0.5,
                      solid_capstyle="butt")  # fmt: skip
            axis.plot(told["p50"], place, "o", color=colour, markersize=4)
        axis.set_title(_title(channel, intensities), fontsize=9, color=colour)
        axis.set_xlabel(f"intensity ({channel[1]})", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(names)), names, fontsize=8.5)
        axis.set_ylim(len(names) - 0.5, -0.5)
    for axis in axes.ravel()[len(channels) :]:
        axis.set_axis_off()
    save_figure(figure, path)


def plot_objects(
    per_image: Mapping[str, Sequence[int]], areas: Mapping[str, Mapping[str, Sequence[int]]], path: Path
) -> None:
    """Objects per image by split; and equivalent diameters, by split where there is one class, else by class."""
    names = sorted(areas, key=lambda name: -sum(map(len, areas[name].values())))[:_MOST_CLASSES]
    several = len(names) > 1
    figure = new_figure(height=3.4 if not several else max(3.4, 0.9 + 0.3 * len(names)))
    left, right = figure.subplots(1, 2)
    largest = max((max(counts, default=0) for counts in per_image.values()), default=0)
    edges = np.arange(largest + 2) - 0.5 if largest <= 40 else np.linspace(-0.5, largest + 0.5, 41)
    for split, counts in per_image.items():
        share = np.histogram(counts, edges)[0] / max(len(counts), 1)
        left.stairs(share, edges, color=_colour(split), linewidth=1.5, label=split)
    left.set_xlabel("objects in an image")
    left.set_ylabel("share of images")
    left.legend(frameon=False, fontsize=8.5)
    if several:
        for place, name in enumerate(names):
            every = _diameters(np.concatenate([np.asarray(values) for values in areas[name].values()]))
            low, first, middle, third, high = np.percentile(every, (5, 25, 50, 75, 95))
            right.plot([low, high], [place] * 2, color=BLUE, linewidth=1)
            right.plot([first, third], [place] * 2, color=BLUE, linewidth=5, alpha=0.5, solid_capstyle="butt")
            right.plot(middle, place, "o", color=BLUE, markersize=4)
        counts = [sum(map(len, areas[name].values())) for name in names]
        right.set_yticks(
            range(len(names)), [f"{name} ({n:,})" for name, n in zip(names, counts)], fontsize=8.5
        )
        right.set_ylim(len(names) - 0.5, -0.5)
    elif names:
        tables = {split: _diameters(np.asarray(values)) for split, values in areas[names[0]].items()}
        every = np.concatenate(list(tables.values()))
        edges = np.geomspace(max(every.min(), 1), every.max() * 1.01 + 1, 41)
        for split, values in tables.items():
            right.stairs(
                np.histogram(values, edges)[0] / len(values), edges, color=_colour(split), linewidth=1.5
            )
        right.set_ylabel("share of objects")
    right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    right.tick_params(axis="x", which="minor", labelsize=8)
    right.set_xlabel("equivalent diameter in pixels")
    save_figure(figure, path)


def _diameters(areas: np.ndarray) -> np.ndarray:
    return 2 * np.sqrt(areas / np.pi)


def _bars(axis: Axes, values: np.ndarray, place: int, count: int, colour: str, text: str) -> None:
    width = 0.84 / count
    positions = np.arange(len(values)) + (place - (count - 1) / 2) * width
    axis.barh(positions, values, width * 0.92, color=colour)
    for position, value in zip(positions, values):
        axis.annotate(text.format(value if "%" in text else int(value)), (value, position), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip


def _reach(tables: Any) -> tuple[float, float]:
    """Range that holds all but a ten-thousandth of each distribution at either end."""
    lows, highs = [], []
    for values, shares in tables:
        cumulative = np.cumsum(shares)
        lows.append(values[np.searchsorted(cumulative, 1e-4).clip(max=len(values) - 1)])
        highs.append(values[np.searchsorted(cumulative, 1 - 1e-4).clip(max=len(values) - 1)])
    low, high = float(min(lows)), float(max(highs))
    return low, high if high > low else low + 1


def _title(channel: Channel, intensities: Intensities) -> str:
    return f"{channel[0]}, {intensities.images[channel]:,} images"


def _patch(split: str, label: str) -> Patch:
    return Patch(color=_colour(split), label=label)


def _colour(split: str) -> str:
    return SPLIT_COLOURS.get(split, PURPLE)

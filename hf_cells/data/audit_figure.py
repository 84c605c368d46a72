"""An audit at a glance: groups by split, look-alikes against chance, class balance, and duplicates side by side."""

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from ..files import atomic_write
from .audit_report import Audit
from .embeddings import as_rgb
from .group_patterns import running_numbers
from .image_scan import read_pixels, stored_rows

# Okabe & Ito 2008, which colour-blind readers tell apart.
_SPLITS = {"train": "#0072B2", "validation": "#E69F00", "test": "#009E73"}
_RED, _GREY, _DARK = "#D55E00", "#5F6368", "#202124"
_WIDTH, _PANELS, _HEADING, _GALLERY_ROW = 9.0, 2.9, 0.3, 1.45  # inches
_DPI = 150
_PER_ROW, _MOST_PAIRS = 4, 8


def plot_audit(audit: Audit, splits: Mapping[str, datasets.Dataset], path: str | os.PathLike[str]) -> None:
    """Draw an audit.

    Image ids are shown only where they are running numbers; other names may identify patients.

    Args:
        audit: Of these splits.
        splits: Where the pictures of the duplicates are read again.
        path: PNG to write, 1350 px wide. It shows images: keep it where the data may be.
    """
    panels: list[Callable[[Axes, Audit], None]] = []
    if audit.report["groups"]["count"]:
        panels.append(_plot_groups)
    if audit.report["running_numbers"]:
        panels.append(_plot_look_alikes)
    panels.append(_plot_classes if audit.report["classes"] else _plot_split_sizes)
    pairs = _choose_pairs(audit)
    heights = [_PANELS, *([_HEADING + _GALLERY_ROW * math.ceil(len(pairs) / _PER_ROW)] if pairs else [])]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(parts[0].subplots(1, len(panels), squeeze=False)[0], panels):
        panel(axis, audit)
        axis.spines[["top", "right"]].set_visible(False)
    splits_shown = [Patch(color=_colour(side), label=side) for side in _sides(audit)]
    parts[0].legend(handles=splits_shown, loc="outside upper center", ncols=len(splits_shown), frameon=False)
    if pairs:
        _plot_pairs(parts[1], audit, splits, pairs)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")


def _plot_groups(axis: Axes, audit: Audit) -> None:
    """Images per group, stacked by split: those in several splits first, then by size."""
    counts: dict[str, Counter[str]] = {}
    for group, side in zip(audit.groups, audit.sides):
        if group is not None:
            counts.setdefault(group, Counter())[side] += 1
    ordered = sorted(counts.values(), key=lambda count: (len(count) == 1, -count.total()))
    shared = sum(len(count) > 1 for count in ordered)
    bottom = np.zeros(len(ordered))
    for side in _sides(audit):
        top = bottom + [count[side] for count in ordered]
        axis.stairs(top, baseline=bottom, fill=True, color=_colour(side))
        bottom = top
    if 0 < shared < len(ordered):
        axis.axvline(shared, color=_RED, linewidth=1.2, linestyle="--")
    axis.set_xlim(0, len(ordered))
    axis.set_ylim(bottom=0)
    axis.set_title(
        f"{shared} of {len(ordered)} groups in several splits", color=_RED if shared else "black", fontsize=10
    )
    axis.set_xlabel("groups, shared ones first")
    axis.set_ylabel("images")


def _plot_look_alikes(axis: Axes, audit: Audit) -> None:
    """How far apart in the running numbers an image and its look-alike are, against chance."""
    test = audit.report["running_numbers"]
    reach = [point["window"] for point in test["curve"]]
    observed = np.array([point["observed"] for point in test["curve"]])
    chance = np.array([point["chance"] for point in test["curve"]])
    axis.fill_between(reach, observed, chance, color=_RED, alpha=0.12, linewidth=0)
    axis.plot(reach, observed, color=_RED, linewidth=2)
    axis.plot(reach, chance, color=_GREY, linewidth=1.5, linestyle="--")
    middle = int(np.abs(chance - 0.5).argmin())
    axis.annotate(
        "chance",
        (reach[middle], chance[middle]),
        xytext=(8, -12),
        textcoords="offset points",
        fontsize=9,
        color=_GREY,
    )
    axis.plot([test["window"]] * 2, [test["chance"], test["observed"]], color=_RED, linewidth=1)
    axis.annotate(
        f"{test['ratio']:.1f}× chance\nwithin {test['window']}" if test["ratio"] else "",
        (test["window"], test["observed"]),
        xytext=(-6, 2),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=_RED,
    )
    axis.set_xscale("log")
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("distance of the image ids")
    axis.set_ylabel("share of images")
    title = "image ids behave like specimens" if test["like_specimens"] else "image ids say little"
    axis.set_title(title, color=_RED if test["like_specimens"] else "black", fontsize=10)


def _plot_classes(axis: Axes, audit: Audit) -> None:
    """Images per class, stacked by split."""
    classes = audit.report["classes"]
    _stacked_bars(axis, audit, classes["counts"])
    axis.set_title(f"largest class {classes['largest_to_smallest']:.1f}× the smallest", fontsize=10)


def _plot_split_sizes(axis: Axes, audit: Audit) -> None:
    """Images per split, where there are no classes."""
    _stacked_bars(axis, audit, {side: {side: audit.sides.count(side)} for side in _sides(audit)})
    axis.set_title("images per split", fontsize=10)


def _stacked_bars(axis: Axes, audit: Audit, counts: Mapping[str, Mapping[str, int]]) -> None:
    left = np.zeros(len(counts))
    for side in _sides(audit):
        width = np.array([count.get(side, 0) for count in counts.values()], float)
        axis.barh(range(len(counts)), width, 0.7, left, color=_colour(side))
        left += width
    axis.set_yticks(range(len(counts)), list(counts), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("images")


def _choose_pairs(audit: Audit) -> list[int]:
    """Choose up to eight pairs, half of them copies and half near duplicates where there are both."""
    exact: list[int] = []
    near: list[int] = []
    used: set[int] = set()
    for index, (first, second) in enumerate(audit.pairs):
        equal = audit.scan.hashes[first] == audit.scan.hashes[second]
        kind = exact if equal else near
        if len(kind) < _MOST_PAIRS and not used & {first, second}:
            used |= {first, second}
            kind.append(index)
    half = _MOST_PAIRS // 2
    copies = exact[: max(half, _MOST_PAIRS - len(near))]
    return copies + near[: _MOST_PAIRS - len(copies)]


def _plot_pairs(
    part: SubFigure, audit: Audit, splits: Mapping[str, datasets.Dataset], pairs: list[int]
) -> None:
    """Pairs side by side in the colours of their splits, four in a row."""
    rows, show_ids = stored_rows(splits), running_numbers(audit.scan.image_ids) is not None
    height = _HEADING + _GALLERY_ROW * math.ceil(len(pairs) / _PER_ROW)
    part.text(
        0.5,
        1 - 0.12 / height,
        "Duplicates and near duplicates, those in two splits first",
        ha="center",
        va="center",
    )
    width = 1 / _PER_ROW
    for number, index in enumerate(pairs):
        left = width * (number % _PER_ROW)
        top = 1 - (_HEADING + _GALLERY_ROW * (number // _PER_ROW)) / height
        equal = len({audit.scan.hashes[row] for row in audit.pairs[index]}) == 1
        kind = "equal pixels" if equal else f"similarity {audit.similarities[index]:.2f}"
        text = f"{kind}{_label(audit, audit.pairs[index])}"
        part.text(left + width / 2, top - 0.1 / height, text, ha="center", va="center", fontsize=8)
        for half, row in enumerate(audit.pairs[index]):
            frame = (left + width * (0.03 + 0.48 * half), top - 1.24 / height, 0.46 * width, 1.04 / height)
            axis = part.add_axes(frame)
            split, place = audit.scan.places[row]
            stored = rows[split][place]
            axis.imshow(
                as_rgb(read_pixels(split, stored["image_id"], stored["image"])), interpolation="nearest"
            )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=_colour(split), linewidth=2)
            name = audit.scan.image_ids[row] if show_ids else split
            axis.set_xlabel(name, fontsize=7, color=_DARK, labelpad=2)


def _label(audit: Audit, rows: Any) -> str:
    if audit.labels is None:
        return ""
    labels = [", ".join(audit.labels[row] or ("no label",)) for row in rows]
    return f" · {' ≠ '.join(dict.fromkeys(labels))}"


def _sides(audit: Audit) -> list[str]:
    return list(dict.fromkeys(audit.sides))


def _colour(split: str) -> str:
    return _SPLITS.get(split, _GREY)

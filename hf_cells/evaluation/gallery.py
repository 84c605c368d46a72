"""Image, truth and prediction side by side, as large as a README shows them."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from ..data.display import stretch_contrast
from ..errors import CellsError
from ..files import atomic_write
from .examples import Example

# Green against magenta is the pair that every kind of colour vision tells apart.
TRUTH, PREDICTION = "#00E676", "#FF3DF5"
# Okabe & Ito 2008, for classes 1, 2, … of a semantic mask.
_CLASSES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_IGNORED = "#9E9E9E"
_IGNORE_INDEX = 255

_DPI = 150
_WIDTH, _GAP, _TITLE, _HEADER = 9.0, 0.06, 0.26, 0.30  # inches
_PANEL = (_WIDTH - 2 * _GAP) / 3
_LEGEND_COLUMNS = 5
_TALLEST = 1.5  # a panel's height over the common width, at most


def plot_segmentation_examples(items: Sequence[Example], path: str | os.PathLike[str]) -> None:
    """One row per item: the image, the truth and the prediction drawn on it.

    Objects and two-class masks are outlined (truth green, prediction magenta). More classes are named below and
    shown as maps in the model's own class colours or, where it has none, laid over the image in colour-blind-safe
    ones. Contrast is stretched per image between its 0.5 and 99.8 percentiles, so 16-bit images show; images of
    any size and shape share the page.

    Args:
        items: For example of `select_examples`.
        path: PNG to write, 1350 px wide.

    Raises:
        CellsError: When there is nothing to draw, or a truth or prediction has not its image's size.
    """
    if not items:
        raise CellsError("no examples to draw; evaluate a split with scored images first")
    names = next((item.class_names for item in items if item.class_names), None)
    sizes = [_panel_size(item) for item in items]
    footer = 0.15 + 0.22 * math.ceil((len(names) - 1) / _LEGEND_COLUMNS) if names else 0.0
    total = _HEADER + sum(_TITLE + height + _GAP for height, _ in sizes) + footer
    figure = Figure(figsize=(_WIDTH, total))
    FigureCanvasAgg(figure)

    headings = ["image", "truth", "prediction"]
    colours = ["black", "black", "black"] if names else ["black", "#00803F", "#B000A8"]
    for column, (heading, colour) in enumerate(zip(headings, colours, strict=True)):
        centre = (column * (_PANEL + _GAP) + _PANEL / 2) / _WIDTH
        figure.text(
            centre,
            1 - 0.2 / total,
            heading,
            ha="center",
            va="center",
            color=colour,
            weight="bold",
            fontsize=11,
        )
    top = total - _HEADER
    for item, (height, width) in zip(items, sizes, strict=True):
        figure.text(0.003, (top - _TITLE / 2) / total, item.title, va="center", fontsize=10)
        top -= _TITLE + height
        for column, panel in enumerate(_panels(item, height, width)):
            left = (column * (_PANEL + _GAP) + (_PANEL - width) / 2) / _WIDTH
            axis = figure.add_axes((left, top / total, width / _WIDTH, height / total))
            axis.imshow(panel, interpolation="nearest", aspect="auto")
            axis.set_axis_off()
        top -= _GAP
    if names:
        own = next((item.class_colors for item in items if item.class_colors), None)
        patches = [
            Patch(facecolor=_class_colour(index, own), edgecolor="#5F6368", linewidth=0.5, label=names[index])
            for index in range(1, len(names))
        ]
        figure.legend(
            handles=patches, loc="lower center", ncols=min(_LEGEND_COLUMNS, len(patches)), frameon=False
        )
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")


def _panel_size(item: Example) -> tuple[float, float]:
    """Height and width in inches, in the image's own proportions; very tall images get a narrower panel."""
    for name, labels in (("truth", item.truth), ("prediction", item.prediction)):
        if labels.shape != item.image.shape[:2]:
            raise CellsError(
                f"the {name} of {item.title!r} has shape {labels.shape} and its image {item.image.shape}; "
                "give labels in the size of the image"
            )
    rows, columns = item.truth.shape
    scale = min(_PANEL / columns, _TALLEST * _PANEL / rows)
    return rows * scale, columns * scale


def _panels(item: Example, height: float, width: float) -> list[np.ndarray]:
    """The three pictures in the very pixels of the figure: outlines stay two pixels wide at any size."""
    shape = (max(1, round(height * _DPI)), max(1, round(width * _DPI)))
    view = resize(stretch_contrast(item.image), shape, order=1, anti_aliasing=True, preserve_range=True)
    view = view / 255
    truth, prediction = _resize_labels(item.truth, shape), _resize_labels(item.prediction, shape)
    if item.class_names and item.class_colors:
        return [view, *(_colour_map(labels, item.class_colors) for labels in (truth, prediction))]
    if item.class_names:
        return [view, _fill(view, truth), _fill(view, prediction)]
    return [view, _outline(view, truth, TRUTH), _outline(view, prediction, PREDICTION)]


def _resize_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nearest neighbour; every pixel centre keeps its label."""
    rows = ((np.arange(shape[0]) + 0.5) * labels.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * labels.shape[1] / shape[1]).astype(int)
    return labels[rows[:, None], columns]


def _outline(view: np.ndarray, labels: np.ndarray, colour: str) -> np.ndarray:
    drawn = view.copy()
    drawn[find_boundaries(labels, mode="thick")] = to_rgb(colour)
    return drawn


def _fill(view: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Classes in their colours over a grey view."""
    drawn = np.repeat(view.mean(axis=-1, keepdims=True), 3, axis=-1)
    for index in np.unique(labels[labels > 0]):
        drawn[labels == index] = 0.35 * drawn[labels == index] + 0.65 * np.array(to_rgb(_class_colour(index)))
    return drawn


def _colour_map(labels: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Every pixel in the colour of its class."""
    palette = np.empty((_IGNORE_INDEX + 1, 3))
    palette[:] = to_rgb(_IGNORED)
    palette[: len(colours)] = np.array(colours) / 255
    return palette[labels]


def _class_colour(index: int, own: Sequence[tuple[int, int, int]] | None = None) -> Any:
    if own:
        return tuple(value / 255 for value in own[index])
    return _IGNORED if index == _IGNORE_INDEX else _CLASSES[(index - 1) % len(_CLASSES)]

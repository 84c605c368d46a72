"""The wrong predictions of a classifier, the most confident ones first."""

import math
import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..data.samples import ImageRows
from ..errors import CellsError
from ..models.image_reading import read_image
from .classification import ClassificationEvaluation
from .figures import GREEN, ORANGE, new_figure, save_figure
from .gallery import stretch_contrast

_COLUMNS, _ROWS = 6, 4


def plot_wrong_predictions(
    measured: ClassificationEvaluation, dataset: Any, path: str | os.PathLike[str]
) -> None:
    """The most confident errors, each with its truth, its prediction and the probability of that.

    Contrast is stretched per image, as in `plot_segmentation_examples`. No image is named.

    Raises:
        CellsError: When no prediction is wrong.
    """
    wrong = measured.wrong()
    if not wrong:
        raise CellsError("no prediction is wrong, so there are none to draw")
    shown = wrong[: _COLUMNS * _ROWS]
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = new_figure(height=0.35 + 1.95 * rows)
    most = f"; the {len(shown)} most confident errors" if len(shown) < len(wrong) else ""
    figure.suptitle(
        f"{len(wrong):,} of {len(measured.labels):,} images are wrong{most}", fontsize=11, x=0.01, ha="left"
    )
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    images = ImageRows(dataset)
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, shown, strict=False):
        axis.imshow(stretch_contrast(read_image(images[index]["image"])), interpolation="nearest")
        truth, prediction = _caption(measured, index)
        _write_below(axis, truth, GREEN, 0)
        _write_below(axis, prediction, ORANGE, 1)
    save_figure(figure, path)


def _caption(measured: ClassificationEvaluation, index: int) -> tuple[str, str]:
    """Truth, and prediction with its probability; of several labels those missed and those added."""
    names, p = measured.class_names, measured.probabilities[index]
    if not measured.multi_label:
        chosen = measured.predicted[index]
        return f"true: {names[measured.labels[index]]}", f"{names[chosen]} {p[chosen]:.2f}"
    truth, decided = measured.labels[index], measured.predicted[index]
    missed = [f"{names[k]} {p[k]:.2f}" for k in np.flatnonzero(truth & ~decided)]
    added = [f"{names[k]} {p[k]:.2f}" for k in np.flatnonzero(decided & ~truth)]
    return f"missed: {', '.join(missed) or 'none'}", f"added: {', '.join(added) or 'none'}"


def _write_below(axis: Axes, text: str, colour: str, line: int, longest: int = 22) -> None:
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    axis.text(
        0.5,
        -0.03 - 0.13 * line,
        text,
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize=9,
        color=colour,
    )

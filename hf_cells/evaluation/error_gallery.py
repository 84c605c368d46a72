"""The wrong predictions of a classifier, the most confident ones first."""

import math
import os
from typing import Any

import numpy as np

from ..data.display import stretch_contrast
from ..data.samples import ImageRows
from ..errors import CellsError
from ..models.image_reading import read_image
from .classification import ClassificationEvaluation
from .figures import GREEN, ORANGE, WIDTH_INCHES, new_figure, save_figure

_COLUMNS, _ROWS = 6, 4
_GAP, _TITLE, _LINE = 0.08, 0.34, 0.17  # inches
_PANEL = (WIDTH_INCHES - (_COLUMNS + 1) * _GAP) / _COLUMNS
_TALLEST = 1.5  # a panel's height over its width, at most
_LONGEST = 21  # characters below a panel


def plot_wrong_predictions(
    measured: ClassificationEvaluation, dataset: Any, path: str | os.PathLike[str]
) -> None:
    """Up to 24 errors: each with its truth (green), and its prediction (orange) with the probability of that.

    Of several labels those that were missed (-) and added (+). Contrast is stretched per image, so 16 bits show;
    of more than three channels the first three are shown. No image is named, as a name may identify a case.

    Args:
        measured: The evaluation.
        dataset: The split that was measured.
        path: PNG to write.

    Raises:
        CellsError: When no prediction is wrong.
    """
    wrong = measured.wrong()
    if not wrong:
        raise CellsError("no prediction is wrong, so there are none to draw")
    shown = wrong[: _COLUMNS * _ROWS]
    images = ImageRows(dataset)
    views = [stretch_contrast(read_image(images[index]["image"])) for index in shown]
    panel = _PANEL * min(_TALLEST, max(view.shape[0] / view.shape[1] for view in views))
    step = panel + 2 * _LINE + 2 * _GAP
    height = _TITLE + step * math.ceil(len(shown) / _COLUMNS)

    figure = new_figure(height, layout=None)
    figure.text(_GAP / WIDTH_INCHES, 1 - 0.1 / height, _title(measured, len(shown)), va="top", fontsize=10.5)
    for place, (index, view) in enumerate(zip(shown, views, strict=True)):
        row, column = divmod(place, _COLUMNS)
        left, top = _GAP + column * (_PANEL + _GAP), height - _TITLE - row * step
        box = left / WIDTH_INCHES, (top - panel) / height, _PANEL / WIDTH_INCHES, panel / height
        axis = figure.add_axes(box, anchor="S")
        axis.imshow(view, interpolation="nearest")
        axis.set_axis_off()
        for line, (text, colour) in enumerate(zip(_caption(measured, index), (GREEN, ORANGE), strict=True)):
            figure.text(
                (left + _PANEL / 2) / WIDTH_INCHES,
                (top - panel - 0.04 - line * _LINE) / height,
                text,
                ha="center",
                va="top",
                fontsize=8,
                color=colour,
            )
    save_figure(figure, path)


def _title(measured: ClassificationEvaluation, shown: int) -> str:
    count = len(measured.wrong())
    text = f"{count:,} of {len(measured.labels):,} images are wrong"
    text += f"; the {shown} most confident errors" if shown < count else ""
    return f"{text} (- missed, + added)" if measured.multi_label else text


def _caption(measured: ClassificationEvaluation, index: int) -> tuple[str, str]:
    """Two lines that fit below a panel: names are cut, probabilities never."""
    names, p = measured.class_names, measured.probabilities[index]
    truth, decided = measured.labels[index], measured.predicted[index]
    if not measured.multi_label:
        return _line("true: ", names[truth], ""), _line("", names[decided], f" {p[decided]:.2f}")
    lines = []
    for sign, wrong in (("-", truth & ~decided), ("+", decided & ~truth)):
        found = sorted(np.flatnonzero(wrong), key=lambda k: -abs(p[k] - truth[k]))
        more = f" (+{len(found) - 1})" if len(found) > 1 else ""
        lines.append(_line(f"{sign} ", names[found[0]], f" {p[found[0]]:.2f}{more}") if found else "")
    return lines[0], lines[1]


def _line(start: str, name: str, end: str) -> str:
    room = _LONGEST - len(start) - len(end)
    return f"{start}{name if len(name) <= room else name[: room - 1] + '…'}{end}"

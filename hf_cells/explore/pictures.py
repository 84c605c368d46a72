"""Galleries and overlays: pictures of a few images, read again one by one and reduced at once."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from skimage.transform import resize

from ..data.display import stretch_contrast
from ..data.samples import ImageRows, channel_columns
from ..evaluation.figures import WIDTH_INCHES, new_figure, save_figure
from ..inference.overlay import draw_classes, draw_instances
from ..models.image_reading import read_image
from .content import Content
from .masks import read_objects
from .scan import BAD_IMAGE, Place

Path = str | os.PathLike[str]
PER_ROW = 8
_THUMBNAIL, _OVERLAY = 160, 520  # pixels of the longer side
_TITLE, _GAP = 0.26, 0.05  # inches
_INKS = {"red": (255, 40, 40), "green": (0, 255, 0), "blue": (70, 110, 255), "yellow": (255, 230, 0)}

Row = tuple[str, list[np.ndarray]]  # a heading and (h, w, 3) uint8 pictures


class Pictures:
    """Reads images of a dataset for display; grey and colour are stretched, see `stretch_contrast`."""

    def __init__(self, splits: Mapping[str, Any], content: Content):
        self.rows = {split: ImageRows(dataset) for split, dataset in splits.items()}
        self.channels = channel_columns(next(iter(splits.values())).features)
        self.content = content

    def thumbnails(self, places: Iterable[Place], count: int = PER_ROW) -> list[np.ndarray]:
        """Small views of the first `count` places whose images can be read."""
        views: list[np.ndarray] = []
        for place in places:
            if len(views) == count:
                break
            try:
                image = read_image(self.rows[place.split][place.row]["image"])
            except BAD_IMAGE:
                continue  # it was named when the images were scanned, or is not in the sample of this run
            # Stretched before it is cut: an object keeps the light of its image.
            view = stretch_contrast(image)
            views.append(_reduced(view if place.box is None else view[place.box], _THUMBNAIL))
        return views

    def overlay(self, place: Place) -> list[np.ndarray]:
        """View of an image, and the same with its objects outlined or its classes tinted."""
        row = self.rows[place.split][place.row]
        image = read_image(row["image"])
        objects = read_objects(row, self.content, image.shape)
        assert objects is not None
        view = _reduced(stretch_contrast(image), _OVERLAY)
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int)
            for new, old in zip(view.shape[:2], image.shape[:2])
        )
        one_class = objects.class_map.max(initial=0) <= 1 and len(self.content.object_names) <= 2
        if one_class or self.content.mask_column == "instance_labels":
            return [view, _enlarged_to(draw_instances(view, objects.labels[rows[:, None], columns]), view)]
        class_map = objects.class_map[rows[:, None], columns]
        colours = self._colours(int(class_map.max(initial=0)) + 1)
        if colours is None:
            return [view, _enlarged_to(draw_classes(view, class_map), view)]
        tinted = view * 0.4 + colours[class_map] * 0.6
        return [view, np.where(class_map[..., None] > 0, tinted, view).astype(np.uint8)]

    def channel_views(self, place: Place) -> Row:
        """Every channel of an image by itself, in its own colour where it is named after one."""
        stored = self.rows[place.split][place.row]["image"]
        views = []
        for name in self.channels:
            view = _reduced(stretch_contrast(read_image(stored[name])), _OVERLAY)
            views.append((view / 255 * _INKS.get(name, (255, 255, 255))).astype(np.uint8))
        return ", ".join(self.channels), views

    def _colours(self, count: int) -> np.ndarray | None:
        """Colours of the classes by number, where the dataset has one for each."""
        names = self.content.object_names
        if len(names) < count or not all(name in self.content.colours for name in names):
            return None
        return np.array([self.content.colours[name] for name in names], float)


def plot_rows(rows: Sequence[Row], path: Path, *, per_row: int = PER_ROW) -> None:
    """Write rows of pictures under their headings, 1350 px wide; long rows continue on the next line."""
    lines = [
        (heading if start == 0 else "", views[start : start + per_row])
        for heading, views in rows
        for start in range(0, len(views), per_row)
    ]
    side = (WIDTH_INCHES - _GAP * (per_row - 1)) / per_row
    heights = [min(1.3 * side, max(side * v.shape[0] / v.shape[1] for v in views)) for _, views in lines]
    total = sum(height + _GAP + (_TITLE if heading else 0) for (heading, _), height in zip(lines, heights))
    figure = new_figure(total, layout=None)
    top = total
    for (heading, views), height in zip(lines, heights):
        if heading:
            top -= _TITLE
            figure.text(0.003, (top + _TITLE / 2) / total, heading, va="center", fontsize=10)
        top -= height
        for column, view in enumerate(views):
            left = column * (side + _GAP)
            axis = figure.add_axes((left / WIDTH_INCHES, top / total, side / WIDTH_INCHES, height / total))
            axis.imshow(view, interpolation="nearest" if max(view.shape) < 100 else "antialiased")
            axis.set_axis_off()
            axis.set_anchor("N")
        top -= _GAP
    save_figure(figure, path)


def _reduced(view: np.ndarray, side: int) -> np.ndarray:
    """A view whose longer side is at most `side`."""
    factor = side / max(view.shape[:2])
    if factor >= 1:
        return view
    step = max(
        1, math.floor(0.5 / factor)
    )  # drop what the filter would average away, and be ten times as fast
    view = view[::step, ::step]
    shape = [max(1, round(length * side / max(view.shape[:2]))) for length in view.shape[:2]]
    return resize(view, shape, order=1, anti_aliasing=True, preserve_range=True).astype(np.uint8)


def _enlarged_to(drawn: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Give a drawing, which is a whole number of times its view, a side that the page needs."""
    return _reduced(drawn, max(_OVERLAY, max(view.shape[:2])))

"""Overlays: what a model found, drawn so thinly over the image that one still sees the image.

Colours follow Okabe and Ito (https://jfly.uni-koeln.de/color/), which readers with any colour vision tell
apart: bright ones on a dark field, dark ones on a bright field.
"""

import numpy as np
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from ..data.display import stretch_contrast
from .objects import object_table

ON_DARK = np.array(
    [(240, 228, 66), (86, 180, 233), (230, 159, 0), (0, 200, 150), (255, 120, 60), (230, 150, 200)], np.uint8
)
# Of middle brightness: stained nuclei are nearly as dark as the background is bright.
ON_BRIGHT = np.array(
    [(240, 80, 0), (0, 140, 255), (225, 165, 0), (0, 158, 115), (0, 190, 205), (240, 70, 130)], np.uint8
)
TINT = 0.35
_SMALL, _MOST_ZOOM, _LARGE = 768, 4, 1536
_NEIGHBOURS = 9


def draw_instances(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the outline of every object, neighbours in different colours.

    Args:
        image: (H, W) or (H, W, C) image of any type, see `stretch_contrast`.
        labels: (H, W) integers, 0 is background.

    Returns:
        (H * k, W * k, 3) uint8; k is 1 from 768 pixels on, up to 4 below, so that outlines stay thin.
    """
    canvas, labels, thickness = _enlarged(image, labels)
    palette = _palette_for(canvas)
    colours = _colour_of_labels(labels, len(palette))
    outline = _outlines(labels, thickness)
    canvas[outline] = palette[colours[labels[outline]]]
    return canvas


def draw_classes(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tint every class but 0, the background, and outline it; arguments as in `draw_instances`."""
    canvas, mask, thickness = _enlarged(image, mask)
    palette = _palette_for(canvas)
    foreground = mask != 0
    colours = palette[(mask[foreground].astype(np.int64) - 1) % len(palette)]
    canvas[foreground] = np.rint((1 - TINT) * canvas[foreground] + TINT * colours).astype(np.uint8)
    outline = _outlines(mask, thickness)
    canvas[outline] = palette[(mask[outline].astype(np.int64) - 1) % len(palette)]
    return canvas


def draw_outlines(image: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Outline every object in a colour of its own, a dark line beside it, so that it shows on any ground.

    Args:
        image: As in `draw_instances`.
        labels: (H, W) objects 1..n, 0 is background.
        colours: (n + 1, 3) uint8, the colour of each number.
    """
    canvas, labels, thickness = _enlarged(image, labels)
    thickness = max(2, thickness)
    rim = _outlines(labels, thickness + 1)
    canvas[rim] = canvas[rim] // 4
    line = _outlines(labels, thickness)
    canvas[line] = colours[labels[line]]
    return canvas


def _enlarged(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Stretch the contrast, enlarge small images by a whole factor, say how thick outlines are to be."""
    if image.shape[:2] != labels.shape:
        raise ValueError(
            f"the image is {image.shape[:2]}, the labels are {labels.shape}; they must be of one size"
        )
    canvas = stretch_contrast(image)
    factor = min(_MOST_ZOOM, -(-_SMALL // max(labels.shape)))
    if factor == 1:
        return (
            canvas,
            labels,
            min(3, max(1, round(max(labels.shape) / _LARGE))),
        )  # large images are seen reduced
    canvas = zoom(canvas, (factor, factor, 1), order=1, grid_mode=True, mode="nearest")
    return canvas, labels.repeat(factor, axis=0).repeat(factor, axis=1), 2


def _palette_for(canvas: np.ndarray) -> np.ndarray:
    return ON_DARK if np.median(canvas[::4, ::4]) < 128 else ON_BRIGHT


def _outlines(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Mark the rim pixels of the objects, inside them."""
    inside = labels != 0
    same = inside.copy()
    for axis in (0, 1):
        for shift in range(1, thickness + 1):
            ahead = [slice(None)] * 2
            behind = [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            equal = labels[tuple(ahead)] == labels[tuple(behind)]
            same[tuple(ahead)] &= equal
            same[tuple(behind)] &= equal
    return inside & ~same


def _colour_of_labels(labels: np.ndarray, colours: int) -> np.ndarray:
    """Give every label a colour number that its nearest neighbours do not have; index the result by label."""
    table = object_table(labels)
    ids, centres = table["object_id"], np.column_stack([table["centroid_y"], table["centroid_x"]])
    chosen = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int64)
    if ids.size < 2:
        return chosen
    count = min(_NEIGHBOURS, ids.size)
    _, nearest = cKDTree(centres).query(centres, k=count)
    own = [-1] * ids.size
    for index, neighbours in enumerate(nearest.tolist()):
        taken = [own[other] for other in neighbours[1:] if own[other] >= 0]  # nearest first
        free = [colour for colour in range(colours) if colour not in taken]
        # Spread over the free colours; without one, repeat the one whose next owner is farthest away.
        own[index] = free[index % len(free)] if free else max(range(colours), key=taken.index)
    chosen[ids] = own
    return chosen

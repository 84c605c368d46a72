"""The pointing game: does the strongest point of a map lie on an object of the class that it is for?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 15.0  # pixels, of the paper
POINTING = ("pointing_game", "pointing_game_15px", "pointing_game_centre")

Point = tuple[float, float]


def point_hits(point: Point | None, boxes: ArrayLike, tolerance: float = 0.0) -> bool:
    """Whether a point lies in one of the boxes, or no farther than the tolerance from one.

    Args:
        point: Row and column of a pixel; None (a map that is empty) never hits.
        boxes: `(n, 4)` left, top, right and bottom in pixels, right and bottom exclusive.
        tolerance: Largest Euclidean distance from the point to a pixel of the box, in pixels.
    """
    if point is None:
        return False
    left, top, right, bottom = np.asarray(boxes, np.float64).reshape(-1, 4).T
    dy = np.maximum(np.maximum(top - point[0], point[0] - (bottom - 1)), 0)
    dx = np.maximum(np.maximum(left - point[1], point[1] - (right - 1)), 0)
    return bool((np.hypot(dy, dx) <= tolerance).any())


def score_pointing(
    peaks: Sequence[Point | None], boxes: Sequence[ArrayLike], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Play the game on one image.

    Args:
        peaks: For each of K classes the row and column of the maximum of its map, or None.
        boxes: For each class the `(n, 4)` boxes of its objects, see `point_hits`; empty where it has none.
        size: Height and width of the image.

    Returns:
        `(K, 3)` of 0 and 1 in the order of `POINTING`: the peak, the peak with the tolerance, and the centre of the
        image in place of the peak; NaN for a class without an object.
    """
    row = np.full((len(boxes), len(POINTING)), np.nan)
    centre = ((size[0] - 1) / 2, (size[1] - 1) / 2)
    for k, (peak, own) in enumerate(zip(peaks, boxes, strict=True)):
        if np.size(own):
            row[k] = point_hits(peak, own), point_hits(peak, own, TOLERANCE), point_hits(centre, own)
    return row


def pointing_metrics(rows: ArrayLike, class_names: Sequence[str]) -> dict[str, Any]:
    """Hits / (hits + misses) of each class, and their mean over the classes that have objects.

    Zhang et al. 2016, "Top-down neural attention by excitation backprop" (arXiv:1608.00507), section 4.1: a hit is a
    maximum inside one of the class's objects; the authors forgive 15 pixels. `pointing_game` forgives nothing,
    `pointing_game_15px` is theirs, and `pointing_game_centre` their baseline, which points at the middle of the
    image. Every image is asked for each class that it shows, whatever the model predicts.

    Args:
        rows: `(N, K, 3)`, what `score_pointing` gives for N images.
        class_names: K names.

    Returns:
        `pointing_game`, `pointing_game_15px`, `pointing_game_centre` (NaN where no image has an object) and
        `per_class`: the same for every class, and `support`, the number of its images.
    """
    table = np.asarray(rows, np.float64).reshape(-1, len(class_names), len(POINTING))
    support = np.isfinite(table[..., 0]).sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = np.nansum(table, axis=0) / np.where(support, support, np.nan)[:, None]
    known = shares[support > 0]
    means = known.mean(axis=0) if len(known) else np.full(len(POINTING), np.nan)
    per_class = {
        name: {**dict(zip(POINTING, share.tolist())), "support": int(count)}
        for name, share, count in zip(class_names, shares, support, strict=True)
    }
    return {**dict(zip(POINTING, means.tolist())), "per_class": per_class}

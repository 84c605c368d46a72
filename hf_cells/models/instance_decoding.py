"""From a network's maps to separate objects: hill climbing on the distance map, basins merged by persistence.

Every foreground pixel climbs to the steepest of its neighbours until it stands on a peak of the predicted distance map;
pixels that share a peak form a basin. Two basins that touch become one object when the pass between them lies less
than `merge_depth` below the lower of the two peaks (the h-maxima criterion: Soille 2003, ch. 6.3; the persistence of
topological data analysis). This is a watershed, but needs only array operations, so it travels with the model and
costs a few milliseconds.
"""

from typing import Any

import numpy as np
from scipy import ndimage

from .instance_targets import INSTANCE_MAPS

# What each setting means; the values are starting points, training tunes them on validation images.
DECODING_DEFAULTS: dict[str, float] = {
    "foreground": 0.5,  # a pixel belongs to an object above this probability
    "merge_depth": 0.15,  # basins whose pass is less deep than this are one object (distance map: 0 edge, 1 centre)
    "boundary_weight": 0.5,  # how much the boundary probability lowers the distance map before climbing
    "smoothing": 0.7,  # pixels, standard deviation of the Gaussian on the distance map
    "min_size": 12.0,  # pixels, smaller objects are dropped
    "min_score": 0.0,  # objects with a lower score are dropped
}


def decode_instances(
    maps: np.ndarray, thresholds: dict[str, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the raw maps of one image into labelled objects.

    Args:
        maps: `(len(INSTANCE_MAPS), H, W)` float logits, as the instance model gives them.
        thresholds: Any of `DECODING_DEFAULTS`.

    Returns:
        Labels `(H, W)` int32 (0 = background, objects 1..n without holes in the numbering) and scores `(n,)` float32:
        the mean foreground probability of the object's inner half, by predicted distance. The rim of a sharp object
        is uncertain by nature; the inner half is not, so real objects score above 0.9 and doubtful ones do not.
    """
    settings = {**DECODING_DEFAULTS, **(thresholds or {})}
    foreground = _sigmoid(maps[INSTANCE_MAPS.index("foreground")])
    boundary = _sigmoid(maps[INSTANCE_MAPS.index("boundary")])
    distance = maps[INSTANCE_MAPS.index("distance")].astype(np.float32)
    mask = foreground > settings["foreground"]
    height = distance - np.float32(settings["boundary_weight"]) * boundary
    if settings["smoothing"] > 0:
        height = ndimage.gaussian_filter(height, settings["smoothing"])
    basins = climb(height, mask)
    labels = merge_basins(basins, height, settings["merge_depth"])
    labels = _largest_numbering(labels, settings["min_size"])
    scores = _scores(labels, foreground, distance)
    if settings["min_score"] > 0 and len(scores):
        labels, scores = _keep(labels, scores, scores >= settings["min_score"])
    return labels, scores


def climb(height: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Label every pixel of `mask` by the peak it reaches going uphill; 0 elsewhere.

    Args:
        height: `(H, W)` float.
        mask: `(H, W)` bool.

    Returns:
        `(H, W)` int32 basins 1..n.
    """
    rows, columns = height.shape
    padded = np.full((rows + 2, columns + 2), -np.inf, np.float32)
    padded[1:-1, 1:-1] = np.where(mask, height, -np.inf)
    width = columns + 2
    best = padded[1:-1, 1:-1].copy()
    step = np.zeros((rows, columns), np.int64)
    # Strict ">" in a fixed order of neighbours: no cycles, and plateaus split the same way every time.
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        neighbour = padded[1 + dy : rows + 1 + dy, 1 + dx : columns + 1 + dx]
        higher = neighbour > best
        np.copyto(best, neighbour, where=higher)
        step[higher] = dy * width + dx
    target = np.arange(padded.size).reshape(padded.shape)
    target[1:-1, 1:-1] += step
    target = target.ravel()
    start = np.flatnonzero(padded.ravel() > -np.inf)
    end = target[start]
    while True:  # pointer doubling: the path length halves each time
        target[start] = end
        further = target[end]
        if np.array_equal(further, end):
            break
        end = further
    _, basin = np.unique(end, return_inverse=True)
    labels = np.zeros(padded.size, np.int32)
    labels[start] = basin + 1
    return labels.reshape(padded.shape)[1:-1, 1:-1]


def merge_basins(basins: np.ndarray, height: np.ndarray, merge_depth: float) -> np.ndarray:
    """Join touching basins whose pass is less than `merge_depth` below the lower peak.

    Args:
        basins: `(H, W)` int32, 0 = background, 1..n.
        height: `(H, W)` float, the map that was climbed.
        merge_depth: In units of `height`.

    Returns:
        `(H, W)` int32 with the numbers of the surviving basins (with gaps).
    """
    count = int(basins.max(initial=0))
    if count < 2:
        return basins
    pairs, passes = _passes(basins, height, count)
    peak = np.full(count + 1, -np.inf)
    np.maximum.at(peak, basins.ravel(), np.where(basins > 0, height, -np.inf).ravel())
    parent = list(range(count + 1))

    def find(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = parent[parent[basin]]
            basin = parent[basin]
        return basin

    for index in np.argsort(-passes, kind="stable"):
        a, b = find(int(pairs[index, 0])), find(int(pairs[index, 1]))
        if a != b and min(peak[a], peak[b]) - passes[index] < merge_depth:
            low, high = (a, b) if peak[a] < peak[b] else (b, a)
            parent[low] = high
    return np.array([find(basin) for basin in range(count + 1)], np.int32)[basins]


def _passes(basins: np.ndarray, height: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair of touching basins once, with the height of the highest pass between them."""
    keys, values = [], []
    for near, far in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        a, b = basins[near], basins[far]
        where = (a != b) & (a > 0) & (b > 0)
        first, second = a[where].astype(np.int64), b[where].astype(np.int64)
        keys.append(np.minimum(first, second) * (count + 1) + np.maximum(first, second))
        values.append(np.minimum(height[near][where], height[far][where]))
    key, value = np.concatenate(keys), np.concatenate(values)
    if not len(key):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    order = np.lexsort((-value, key))
    key, value = key[order], value[order]
    first_of_key = np.r_[True, key[1:] != key[:-1]]
    key, value = key[first_of_key], value[first_of_key]
    return np.stack([key // (count + 1), key % (count + 1)], 1), value


def _largest_numbering(labels: np.ndarray, min_size: float) -> np.ndarray:
    """Number the objects of at least `min_size` pixels 1..n; drop the others."""
    area = np.bincount(labels.ravel())
    keep = area >= max(min_size, 1)
    keep[0] = False
    number = np.zeros(len(area), np.int32)
    number[keep] = np.arange(1, keep.sum() + 1)
    return number[labels]


def _scores(labels: np.ndarray, foreground: np.ndarray, distance: np.ndarray) -> np.ndarray:
    count = int(labels.max(initial=0))
    if count == 0:
        return np.zeros(0, np.float32)
    inside = labels > 0
    index = labels[inside]
    area = np.bincount(index, minlength=count + 1)
    mean_distance = np.bincount(index, distance[inside], count + 1) / np.maximum(area, 1)
    inner = distance[inside] >= mean_distance[index]
    total = np.bincount(index[inner], foreground[inside][inner], count + 1)
    return (total / np.maximum(np.bincount(index[inner], minlength=count + 1), 1))[1:].astype(np.float32)


def _keep(labels: np.ndarray, scores: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    number = np.zeros(len(scores) + 1, np.int32)
    number[1:][keep] = np.arange(1, keep.sum() + 1)
    return number[labels], scores[keep]


def _sigmoid(logits: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float32), -30, 30)))


__all__ = ["DECODING_DEFAULTS", "climb", "decode_instances", "merge_basins"]

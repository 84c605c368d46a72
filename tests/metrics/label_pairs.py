"""Small random pairs of label images that visit every awkward case, each from one seed."""

import numpy as np

KINDS = (
    "noise",
    "noisy_copy",
    "shifted_rectangles",
    "exact_halves",
    "no_background",
    "split_and_merged",
    "empty_truth",
    "empty_prediction",
    "both_empty",
)
# The last three are one case each; the others need many draws.
_WEIGHTS = np.array([4, 4, 6, 6, 4, 6, 1, 1, 1]) / 33
_DTYPES = (np.uint16, np.int32, np.int64, np.uint8)


def random_pair(seed):
    """Return (kind, truth, prediction) of seed: at most 14 x 14 pixels, often with gaps in the labels."""
    rng = np.random.default_rng(seed)
    kind = KINDS[rng.choice(len(KINDS), p=_WEIGHTS)]
    height, width = rng.integers(3, 15, size=2)
    true, pred = _draw(kind, rng, height, width)
    return kind, _disguise(true, rng), _disguise(pred, rng)


def disc_pair(seed, size=48):
    """Return truth and prediction of overlapping discs, large and irregular enough for no two IoUs to tie."""
    rng = np.random.default_rng(seed)
    true, pred = np.zeros((size, size), np.int32), np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    for label in range(1, 9):
        centre, radius = rng.uniform(4, size - 4, 2), rng.uniform(4, 9)
        moved, grown = centre + rng.normal(0, 2, 2), radius * rng.uniform(0.8, 1.2)
        true[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = label
        if rng.random() < 0.85:
            pred[(y - moved[0]) ** 2 + (x - moved[1]) ** 2 < grown**2] = label
    return true, pred


def renamed(labels, rng, highest=60_000):
    """Give every object another random label, so that neither order nor sequence is kept; 0 stays 0."""
    old = np.unique(labels[labels != 0])
    names = rng.choice(np.arange(1, highest), size=len(old), replace=False)
    result = np.zeros(labels.shape, np.int64)
    for label, name in zip(old, names, strict=True):
        result[labels == label] = name
    return result


def _draw(kind, rng, height, width):
    shape = (height, width)
    empty = np.zeros(shape, np.int64)
    if kind == "noise":
        return rng.integers(0, rng.integers(2, 8), shape), rng.integers(0, rng.integers(2, 8), shape)
    if kind == "noisy_copy":
        true = rng.integers(0, 5, shape)
        return true, np.where(rng.random(shape) < 0.25, rng.integers(0, 6, shape), true)
    if kind == "no_background":
        step = rng.integers(1, 5, size=2)
        rows, cols = np.indices(shape)
        tiles = rows // 3 * width + cols // 3 + 1
        return tiles, (rows // step[0]) * width + cols // step[1] + 1
    if kind == "both_empty":
        return empty, empty.copy()
    if kind == "empty_truth":
        return empty, _rectangles(rng, shape)
    if kind == "empty_prediction":
        return _rectangles(rng, shape), empty
    if kind == "exact_halves":
        return _halves(rng, shape)
    true = _rectangles(rng, shape)
    if kind == "shifted_rectangles":
        return true, np.roll(true, rng.integers(-1, 2, size=2), axis=(0, 1))
    pred = true.copy()  # split_and_merged
    pred[pred == rng.integers(1, 6)] = rng.integers(0, 6)
    pred[: height // 2][pred[: height // 2] == rng.integers(1, 6)] = 9
    return true, pred


def _rectangles(rng, shape):
    labels = np.zeros(shape, np.int64)
    for label in range(1, rng.integers(2, 7)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        labels[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = label
    return labels


def _halves(rng, shape):
    """Stack strips of even width, each halved on one side: IoU exactly 0.5, one object with two partners."""
    whole, split = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    half = rng.integers(1, max(2, shape[1] // 2 + 1))
    for row in range(0, shape[0], rng.integers(1, 3)):
        whole[row, : 2 * half] = row + 1
        split[row, :half] = 2 * row + 1
        split[row, half : 2 * half] = rng.choice([0, 2 * row + 2])
    whole, split = whole[:, : 2 * half], split[:, : 2 * half]
    return (whole, split) if rng.random() < 0.5 else (split, whole)


def _disguise(labels, rng):
    """Give the same objects other labels and another integer type."""
    dtype = _DTYPES[rng.integers(len(_DTYPES))]
    if rng.random() < 0.5:
        highest = {np.uint8: 256, np.uint16: 65_536, np.int32: 2**31 - 1, np.int64: 2**40}[dtype]
        old = np.unique(labels[labels != 0])
        names = np.sort(np.unique(rng.integers(1, highest, size=4 * len(old) + 8))[: len(old)])
        labels = np.select([labels == a for a in old], names, 0) if len(old) else labels
    return labels.astype(dtype)

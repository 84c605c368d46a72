"""Do images that are close by name look alike? Specimens give themselves away without being named.

For every image, the one that looks most like it is sought among the others of its class. If look-alikes lie
close together in the running numbers (or in one group) more often than chance says, these are specimens.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import fft

from .near_duplicates import block_rows

QUANTILES = np.linspace(0.02, 0.98, 9)
RINGS = (0.5, 1.5, 3, 6, 12, 24, 48)  # borders in cycles of the cosine transform


def appearance(thumbnails: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Describe how images look and not what they show: intensities, texture by scale, colour.

    Args:
        thumbnails: (N, S, S).
        colours: (N, 3).

    Returns:
        (N, 18) float32, on a logarithmic scale.
    """
    spectrum = fft.dctn(thumbnails, axes=(1, 2), norm="ortho", workers=-1)
    index = np.arange(thumbnails.shape[1])
    frequency = np.hypot(index[:, None], index)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(RINGS)]
    columns = [
        np.quantile(thumbnails.reshape(len(thumbnails), -1), QUANTILES, axis=1).T,
        np.stack([np.sqrt((spectrum[:, ring] ** 2).mean(axis=1)) for ring in rings], axis=1),
        colours,
    ]
    return np.log1p(np.maximum(np.concatenate(columns, axis=1), 0)).astype(np.float32)


def standardised(features: np.ndarray) -> np.ndarray:
    """Give every column of (N, D) mean 0 and standard deviation 1; constant columns become 0."""
    centred = features - features.mean(axis=0)
    return (centred / np.maximum(centred.std(axis=0), 1e-6)).astype(np.float32)


def nearest_look_alikes(
    features: np.ndarray, labels: Sequence[Any] | None, hashes: Sequence[str]
) -> np.ndarray:
    """Find for every image the nearest one of its class that is not an exact copy.

    Args:
        features: (N, D) float32; Euclidean distance counts.
        labels: Class of each image; None for one class.
        hashes: Of the pixels; copies do not count, they would be neighbours whatever their number.

    Returns:
        (N,) int64 rows; -1 where there is no other.
    """
    nearest = np.full(len(features), -1)
    copies = np.unique(hashes, return_inverse=True)[1]
    for members in _classes(labels, len(features)):
        own, squares = features[members], (features[members] ** 2).sum(axis=1)
        step = block_rows(len(members))
        for start in range(0, len(members), step):
            rows = slice(start, start + step)
            distance = squares - 2 * own[rows] @ own.T
            distance[copies[members[rows], None] == copies[members]] = np.inf
            found = members[distance.argmin(axis=1)]
            nearest[members[rows]] = np.where(np.isinf(distance.min(axis=1)), -1, found)
    return nearest


def number_test(
    numbers: np.ndarray, nearest: np.ndarray, labels: Sequence[Any] | None, window: int | None = None
) -> dict[str, Any]:
    """Compare how often look-alikes have close running numbers with chance.

    Args:
        numbers: (N,) running numbers.
        nearest: (N,) from `nearest_look_alikes`.
        labels: Class of each image; None for one class.
        window: Numbers that far apart are close; by default 100, or a hundredth of a set under 10,000
            images, at least 5.

    Returns:
        As of `compare_with_chance`, with `window` and a `curve` of {window, observed, chance}.
    """
    window = window or min(100, max(5, len(numbers) // 100))
    known = nearest >= 0
    apart = np.abs(numbers - numbers[nearest])[known]
    spread = max(int(numbers.max() - numbers.min()), 1)
    curve = []
    for reach in np.unique(np.geomspace(1, spread, 60).astype(int)):
        chance = _chance_of_close(numbers, labels, int(reach))[known]
        curve.append(
            {
                "window": int(reach),
                "observed": round(float((apart <= reach).mean()), 4) if known.any() else 0.0,
                "chance": round(float(chance.mean()), 4) if known.any() else 0.0,
            }
        )
    result = compare_with_chance(apart <= window, _chance_of_close(numbers, labels, window)[known])
    return {"window": window, **result, "curve": curve}


def group_test(
    groups: Sequence[str | None], nearest: np.ndarray, labels: Sequence[Any] | None
) -> dict[str, Any]:
    """Compare how often look-alikes are in one group with chance; as `compare_with_chance`."""
    known = np.array([group is not None for group in groups]) & (nearest >= 0)
    codes = np.unique([str(group) for group in groups], return_inverse=True)[1]
    chance = np.zeros(len(codes))
    for members in _classes(labels, len(codes)):
        counts = np.bincount(codes[members])
        chance[members] = (counts[codes[members]] - 1) / max(len(members) - 1, 1)
    return compare_with_chance((codes == codes[nearest])[known], chance[known])


def compare_with_chance(close: np.ndarray, chance: np.ndarray) -> dict[str, Any]:
    """Compare N outcomes with N probabilities.

    Returns:
        `observed` and `chance` shares, their `ratio` (None when chance is 0), and `z`, the difference in
        standard deviations of a sum of N independent draws.
    """
    if not len(close):
        return {"observed": 0.0, "chance": 0.0, "ratio": None, "z": 0.0}
    deviation = float(np.sqrt((chance * (1 - chance)).sum()))
    excess = float(close.sum() - chance.sum())
    return {
        "observed": round(float(close.mean()), 4),
        "chance": round(float(chance.mean()), 4),
        "ratio": round(float(close.mean() / chance.mean()), 2) if chance.any() else None,
        "z": round(excess / deviation, 1) if deviation else 0.0,
    }


def _chance_of_close(numbers: np.ndarray, labels: Sequence[Any] | None, window: int) -> np.ndarray:
    """Return for each image the share of the others of its class whose number is within the window."""
    chance = np.zeros(len(numbers))
    for members in _classes(labels, len(numbers)):
        own = numbers[members]
        ordered = np.sort(own)
        inside = np.searchsorted(ordered, own + window, "right") - np.searchsorted(ordered, own - window)
        chance[members] = (inside - 1) / max(len(members) - 1, 1)
    return chance


def _classes(labels: Sequence[Any] | None, count: int) -> list[np.ndarray]:
    if labels is None:
        return [np.arange(count)]
    codes = np.unique([str(label) for label in labels], return_inverse=True)[1]
    return [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]

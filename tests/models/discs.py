"""Images of discs with their labels: ground truth that can be checked by eye and by counting."""

import numpy as np


def draw_discs(
    seed: int,
    size: tuple[int, int] = (96, 96),
    count: int = 8,
    low: int = 2000,
    high: int = 30000,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a uint16 image and its labels; discs of radius 7 to 9 may touch, but do not cover each other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, np.int32)
    centres: list[tuple[float, float, float]] = []
    while len(centres) < count:
        radius = rng.uniform(7, 9)
        y, x = (rng.uniform(radius, length - radius) for length in size)
        if any(np.hypot(y - v, x - u) < radius + r for v, u, r in centres):
            continue
        centres.append((y, x, radius))
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = len(centres)
    noise = rng.normal(0, 0.03 * (high - low), size)
    return np.clip(low + (labels > 0) * (high - low) + noise, 0, 65535).astype(np.uint16), labels


def match(true: np.ndarray, found: np.ndarray) -> list[float]:
    """Best intersection over union of each true object."""
    ious = []
    for label in np.unique(true[true > 0]):
        mask = true == label
        best = np.bincount(found[mask & (found > 0)], minlength=1)
        candidate = int(best.argmax()) if best.any() else 0
        other = found == candidate if candidate else np.zeros_like(mask)
        ious.append((mask & other).sum() / (mask | other).sum())
    return ious

"""What organelles are drawn with: filaments that find their way through a cell, rods, spots, blurs."""

import numpy as np
from scipy import ndimage

from .fields import FloatImage
from .hpa_cell import Cell


def filaments(
    rng: np.random.Generator,
    cell: Cell,
    start: FloatImage,
    heading: FloatImage,
    length: FloatImage,
    wander: float,
    through_nucleus: float = 0.0,
) -> FloatImage:
    """Draw n curved threads that turn along the nucleus and the membrane instead of crossing them.

    Args:
        rng: Source of randomness.
        cell: The cell.
        start: (n, 2) row and column.
        heading: (n,) radians from the column axis.
        length: (n,) micrometres.
        wander: Standard deviation of the turn per square root of a micrometre, radians.
        through_nucleus: Share of threads that pass over or under the nucleus, dimmed.

    Returns:
        float32 (h, w), the length of thread in each pixel.
    """
    step = max(1.0, cell.microns(0.12))
    count = np.ceil(cell.microns(1) * length / step).astype(np.intp)
    free = np.minimum(cell.inward, np.where(cell.nucleus, np.float32(1e3), cell.outward))
    slope = np.stack(np.gradient(ndimage.gaussian_filter(free, 1.0)))
    barred = np.where(cell.nucleus, np.minimum(cell.outward, 0), free)
    slope_barred = np.stack(np.gradient(ndimage.gaussian_filter(barred, 1.0)))
    over = rng.random(len(start)) < through_nucleus
    margin = np.float32(cell.microns(1.0))
    turn = wander * np.sqrt(step / cell.scale)
    height, width = cell.shape

    place = start.astype(np.float32).copy()
    direction = np.stack([np.sin(heading), np.cos(heading)], 1).astype(np.float32)
    alive = np.ones(len(start), bool)
    trail: list[FloatImage] = []
    weights: list[FloatImage] = []
    for index in range(int(count.max(initial=0))):
        row = np.clip(place[:, 0], 0, height - 1).astype(np.intp)
        column = np.clip(place[:, 1], 0, width - 1).astype(np.intp)
        alive &= cell.mask[row, column] & (index < count)
        if not alive.any():
            break
        inside = cell.nucleus[row, column]
        alive &= over | ~inside | (index < 3)
        trail.append(place.copy())
        weights.append(np.where(alive, np.where(inside, np.float32(0.4), np.float32(1)), np.float32(0)))
        room = np.where(over, free[row, column], barred[row, column])
        push = np.where(over, slope[:, row, column], slope_barred[:, row, column]).T
        near = np.clip(1 - room / margin, 0, 1)[:, None]
        bend = np.float32(turn) * rng.standard_normal(len(place), dtype=np.float32)
        across = np.stack([direction[:, 1], -direction[:, 0]], 1)
        # Off the barrier, only as far as the thread runs into it.
        against = np.minimum((direction * push).sum(1, keepdims=True), 0)
        direction = direction + across * bend[:, None] - np.float32(1.2) * near * against * push
        direction /= np.sqrt((direction**2).sum(1, keepdims=True)) + np.float32(1e-6)
        place = place + np.float32(step) * direction
    if not trail:
        return np.zeros(cell.shape, np.float32)
    return splat(np.concatenate(trail), np.concatenate(weights) * np.float32(step), cell.shape)


def splat(places: FloatImage, weights: FloatImage, shape: tuple[int, int]) -> FloatImage:
    """Add weights (n,) at places (n, 2) between pixels: float32 (h, w)."""
    height, width = shape
    row, column = np.floor(places).astype(np.intp).T
    down, right = (places - np.floor(places)).T
    total = np.zeros(height * width)
    for dr, dc, share in (
        (0, 0, (1 - down) * (1 - right)),
        (0, 1, (1 - down) * right),
        (1, 0, down * (1 - right)),
        (1, 1, down * right),
    ):
        r, c = row + dr, column + dc
        kept = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        total += np.bincount(r[kept] * width + c[kept], (share * weights)[kept], minlength=height * width)
    return total.reshape(shape).astype(np.float32)


def blobs(cell: Cell, places: FloatImage, weights: FloatImage, radius: float) -> FloatImage:
    """Gaussian spots of standard deviation `radius` micrometres, the heaviest about 1; float32 (h, w)."""
    sigma = max(0.6, cell.microns(radius))
    sharp = splat(places, weights.astype(np.float32), cell.shape)
    return ndimage.gaussian_filter(sharp, sigma, truncate=3.5) * np.float32(2 * np.pi * sigma**2)


def soften(cell: Cell, image: FloatImage, radius: float) -> FloatImage:
    """Blur by `radius` micrometres, where that is any blur at all."""
    sigma = cell.microns(radius)
    return ndimage.gaussian_filter(image, sigma, truncate=3.0) if sigma > 0.25 else image


def level(image: FloatImage, cell: Cell, share: float = 99.0) -> FloatImage:
    """Scale so that the given percentile inside the cell is 1; an empty picture stays empty."""
    top = float(np.percentile(image[cell.mask], share)) if cell.mask.any() else 0.0
    if top <= 1e-6:
        top = float(image.max(initial=0.0))
    return (image / np.float32(top)).astype(np.float32) if top > 1e-6 else image

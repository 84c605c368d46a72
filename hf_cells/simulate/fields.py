"""Smooth random fields: the raw material of chromatin, stroma, haze and uneven light.

Everything here is gathers, sums and Gaussian filters: no BLAS, whose rounding depends on the number of
threads, so that an image has the same bytes on every worker.
"""

from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatImage = NDArray[np.floating]

# Mean of the squared cubic B-spline weights along one axis: what interpolation leaves of unit variance.
_SPLINE_VARIANCE = 151 / 315


def _spline_weights(fraction: FloatImage) -> list[FloatImage]:
    t = fraction
    return [
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    ]


def upsample(coarse: FloatImage, shape: tuple[int, int], scale: float, offset: float = 0.0) -> FloatImage:
    """Cubic B-spline surface over a coarse grid: pixel x lies at knot 1 + (x + offset) / scale."""
    surface = coarse
    for axis, length in enumerate(shape):
        position = (np.arange(length, dtype=np.float32) + np.float32(offset)) / np.float32(scale)
        knot = position.astype(np.intp)
        weights = _spline_weights(position - knot.astype(np.float32))
        broadcast = (-1, 1) if axis == 0 else (1, -1)
        taps = (
            weight.reshape(broadcast) * np.take(surface, knot + tap, axis=axis)
            for tap, weight in enumerate(weights)
        )
        surface = reduce(np.add, taps)
    return surface


def knots(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Grid size that `upsample` needs."""
    return int(np.ceil(shape[0] / scale)) + 3, int(np.ceil(shape[1] / scale)) + 3


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> FloatImage:
    """Zero-mean, unit-variance random field whose grains are about `scale` pixels wide; float32 (H, W)."""
    coarse = rng.standard_normal(knots(shape, scale), dtype=np.float32)
    return upsample(coarse, shape, scale) / np.float32(_SPLINE_VARIANCE)


def fibre_field(
    rng: np.random.Generator, shape: tuple[int, int], width: float, length: float, angle: float
) -> FloatImage:
    """Wavy streaks about `width` x `length` pixels along `angle` (radians); float32 (H, W), zero mean."""
    table = rng.standard_normal((64, 64), dtype=np.float32)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = (columns * cosine + rows * sine) / np.float32(length) + 64
    across = (rows * cosine - columns * sine) / np.float32(width) + 4096
    across = across + np.float32(length / width / 9) * smooth_field(rng, shape, length)
    u, v = along.astype(np.int32), across.astype(np.int32)
    fu, fv = along - u, across - v
    fv *= fv * (3 - 2 * fv)
    row = (u & 63) << 6
    corner, right = row + (v & 63), row + ((v + 1) & 63)
    flat = np.concatenate([table, table[:1]]).ravel()  # one row more: u + 1 wraps without a modulo
    near = flat[corner] * (1 - fv) + flat[right] * fv
    far = flat[corner + 64] * (1 - fv) + flat[right + 64] * fv
    return np.float32(1.5) * (near * (1 - fu) + far * fu)


def wide_blur(image: FloatImage, sigma: float) -> FloatImage:
    """Gaussian blur; a wide one is done on a reduced grid, where it costs next to nothing."""
    factor = int(sigma // 2)
    if factor < 2:
        return ndimage.gaussian_filter(image, sigma, mode="nearest")
    height, width = image.shape
    padded = np.pad(image, ((0, -height % factor), (0, -width % factor)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    # Block means (variance 1/12) and the spline (1/3) blur too, in units of the block.
    left = np.sqrt((sigma / factor) ** 2 - 5 / 12)
    small = ndimage.gaussian_filter(blocks.mean((1, 3)), left, mode="nearest")
    # The mean of block k lies at pixel (k + .5) factor - .5 and, after padding by 2, at knot k + 2.
    return upsample(np.pad(small, 2, mode="edge"), image.shape, factor, offset=(factor + 1) / 2)

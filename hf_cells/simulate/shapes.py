"""Nuclear outlines: bent ellipses with a smooth random rim, drawn all at once as flat pixel lists."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
_ANGLES = 64  # samples of a rim; orders up to 8 are smooth at that


@dataclass(frozen=True)
class Outlines:
    """n closed outlines in pixels; everything float32.

    Attributes:
        centre: (n, 2) row, column.
        axes: (n, 2) long and short semi-axis.
        angle: (n,) direction of the long axis in radians, from the column axis towards larger rows.
        bend: (n,) sagitta of the bent long axis, in semi-axes: 0 an ellipse, .5 a bean.
        rim: (n, 64) radius multiplier by polar angle.
    """

    centre: Floats
    axes: Floats
    angle: Floats
    bend: Floats
    rim: Floats

    def __len__(self) -> int:
        return len(self.angle)

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> "Outlines":
        """The chosen outlines, in that order."""
        return Outlines(
            self.centre[chosen], self.axes[chosen], self.angle[chosen], self.bend[chosen], self.rim[chosen]
        )

    @property
    def diameter(self) -> Floats:
        """(n,) diameter of the circle of equal area."""
        return 2 * np.sqrt(self.axes[:, 0] * self.axes[:, 1])


@dataclass(frozen=True)
class Raster:
    """Every (nucleus, pixel) pair inside an outline or within a margin around it: flat arrays of length m.

    Attributes:
        owner: Index of the nucleus.
        pixel: Flat index into the (H, W) image.
        level: 0 at the centre, 1 on the outline.
        depth: Signed distance to the outline in pixels, positive inside (first-order estimate).
        n: Number of nuclei.
        shape: (H, W).
    """

    owner: NDArray[np.intp]
    pixel: NDArray[np.intp]
    level: Floats
    depth: Floats
    n: int
    shape: tuple[int, int]

    def keep(self, chosen: NDArray[np.bool_]) -> "Raster":
        """The raster of the chosen nuclei alone, renumbered."""
        own = chosen[self.owner]
        renumbered = np.cumsum(chosen) - 1
        return Raster(
            owner=renumbered[self.owner[own]],
            pixel=self.pixel[own],
            level=self.level[own],
            depth=self.depth[own],
            n=int(chosen.sum()),
            shape=self.shape,
        )

    def paint(self, values: Floats) -> Floats:
        """Add up `values` (m,) over the image: float32 (H, W)."""
        total = np.bincount(self.pixel, values, minlength=self.shape[0] * self.shape[1])
        return total.reshape(self.shape).astype(np.float32)


def draw_rims(rng: np.random.Generator, n: int, roughness: float) -> Floats:
    """Smooth closed curves around 1: Fourier orders 2 to 8 with amplitudes falling as order ** -1.5.

    Most nuclei of an image are smooth and a few are lobed, so the roughness is log-normal between nuclei.
    """
    orders = np.arange(2, 9, dtype=np.float32)
    own = roughness * np.exp(0.6 * rng.standard_normal((n, 1), dtype=np.float32))
    amplitude = own * orders**-1.5 * np.abs(rng.standard_normal((n, len(orders)), dtype=np.float32))
    phase = rng.uniform(0, 2 * np.pi, (n, len(orders))).astype(np.float32)
    theta = np.arange(_ANGLES, dtype=np.float32) * np.float32(2 * np.pi / _ANGLES)
    rim = 1 + (amplitude[..., None] * np.cos(orders[:, None] * theta + phase[..., None])).sum(1)
    return np.clip(rim, 0.45, 1.6).astype(np.float32)


def rasterise(outlines: Outlines, shape: tuple[int, int], margin: float = 1.0) -> Raster:
    """Level and depth of every pixel in or near each outline."""
    height, width = shape
    n = len(outlines)
    long, short = outlines.axes[:, 0], outlines.axes[:, 1]
    reach = outlines.rim.max(1)
    # Half extents of the box around the turned ellipse; the bend only pushes along the short axis.
    thick = short * reach + np.abs(outlines.bend) * long * reach
    half_rows = np.hypot(long * reach * np.sin(outlines.angle), thick * np.cos(outlines.angle)) + margin + 1
    half_cols = np.hypot(long * reach * np.cos(outlines.angle), thick * np.sin(outlines.angle)) + margin + 1
    top = np.clip(np.floor(outlines.centre[:, 0] - half_rows), 0, height).astype(np.intp)
    left = np.clip(np.floor(outlines.centre[:, 1] - half_cols), 0, width).astype(np.intp)
    rows = np.clip(np.ceil(outlines.centre[:, 0] + half_rows) + 1, 0, height).astype(np.intp) - top
    cols = np.clip(np.ceil(outlines.centre[:, 1] + half_cols) + 1, 0, width).astype(np.intp) - left
    counts = np.maximum(rows, 0) * np.maximum(cols, 0)

    owner = np.repeat(np.arange(n), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = top[owner] + within // cols[owner]
    column = left[owner] + within % cols[owner]

    cosine, sine = np.cos(outlines.angle), np.sin(outlines.angle)
    dy = row.astype(np.float32) - outlines.centre[owner, 0]
    dx = column.astype(np.float32) - outlines.centre[owner, 1]
    p = (dx * cosine[owner] + dy * sine[owner]) / long[owner]
    q = (dy * cosine[owner] - dx * sine[owner]) / short[owner]
    q -= (outlines.bend * long / short)[owner] * (p * p - np.float32(0.3))
    radius = np.sqrt(p * p + q * q) + np.float32(1e-6)
    turn = np.arctan2(q, p) * np.float32(_ANGLES / (2 * np.pi)) + np.float32(_ANGLES)
    first = turn.astype(np.intp)
    fraction = turn - first
    rim = outlines.rim[owner, first % _ANGLES] * (1 - fraction)
    rim += outlines.rim[owner, (first + 1) % _ANGLES] * fraction
    slope = np.sqrt((p / long[owner]) ** 2 + (q / short[owner]) ** 2) / radius + np.float32(1e-6)
    depth = np.minimum((rim - radius) / slope, rim * short[owner])  # the slope vanishes at the centre

    near = depth > -margin
    return Raster(
        owner=owner[near],
        pixel=(row * width + column)[near],
        level=(radius / rim)[near],
        depth=depth[near],
        n=n,
        shape=shape,
    )


def assign_pixels(raster: Raster, priority: Floats) -> NDArray[np.int32]:
    """Label image int32 (H, W), ids 1..n: each pixel goes to one of the nuclei that cover it.

    The nucleus with the smallest level + priority wins. Equal priorities part two overlapping nuclei by a
    line through the overlap, as an annotator does; a low priority puts one on top of its neighbours.
    """
    inside = np.flatnonzero(raster.depth > 0)
    owner = raster.owner[inside]
    order = np.argsort(-(raster.level[inside] + priority[owner]), kind="stable")
    labels = np.zeros(raster.shape[0] * raster.shape[1], np.int32)
    labels[raster.pixel[inside][order]] = owner[order] + 1  # of repeated pixels the last one stays
    return labels.reshape(raster.shape)


def visible(
    raster: Raster, labels: NDArray[np.int32], share: float = 0.35, least: int = 6
) -> NDArray[np.bool_]:
    """(n,) True for a nucleus that keeps at least `share` of its pixels in the image, and `least` of them."""
    whole = np.bincount(raster.owner[raster.depth > 0], minlength=raster.n)
    kept = np.bincount(labels.ravel(), minlength=raster.n + 1)[1:]
    return (kept >= least) & (kept >= share * whole)

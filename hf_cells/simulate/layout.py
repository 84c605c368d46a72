"""Where nuclei lie: scattered, in clumps, around empty spaces, in rows like an epithelium."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .fields import smooth_field
from .shapes import Floats, Outlines

PATTERNS = ("scattered", "clumps", "islands", "rows")


@dataclass(frozen=True)
class Sites:
    """Candidate places: centre (n, 2) row, column in pixels and preferred angle (n,) of the long axis."""

    centre: Floats
    angle: Floats


def draw_sites(
    rng: np.random.Generator, shape: tuple[int, int], n: int, pattern: str, diameter: float, order: float
) -> Sites:
    """Draw n candidate places.

    Args:
        rng: Source of randomness.
        shape: (H, W) of the image.
        n: Number of candidates.
        pattern: One of PATTERNS.
        diameter: Typical nuclear diameter, pixels; sets the size of clumps and the width of rows.
        order: 0 every direction alike, 1 all neighbours aligned.
    """
    height, width = shape
    margin = 0.35 * diameter  # so that the border cuts nuclei
    spread = np.array([height + 2 * margin, width + 2 * margin])
    oversampling = 1 if pattern == "scattered" else 6
    centre = (rng.random((n * oversampling, 2)) * spread - margin).astype(np.float32)
    if pattern == "clumps":
        centre = _gather(rng, centre[: max(1, n // int(rng.integers(3, 21)))], n, diameter)
    at = np.clip(centre, 0, np.array(shape) - 1).astype(np.intp)
    turning = smooth_field(rng, shape, max(shape) / 3)[at[:, 0], at[:, 1]]
    angle = np.float32(rng.uniform(0, np.pi)) + np.float32(0.6) * turning

    if pattern in ("islands", "rows"):
        scale = max(rng.uniform(0.2, 0.6) * min(shape), 2 * diameter)
        field = smooth_field(rng, shape, scale)
        if pattern == "islands":
            kept = field[at[:, 0], at[:, 1]] > np.quantile(field[::8, ::8], rng.uniform(0.2, 0.8))
        else:
            slope_rows, slope_cols = np.gradient(field)
            steep = np.hypot(slope_rows, slope_cols) + 1e-6
            # Pixels from the level curve: a layer a few nuclei thick, with some strays.
            distance = np.abs(field - np.quantile(field[::8, ::8], rng.uniform(0.2, 0.8))) / steep
            layer = distance < diameter * rng.uniform(0.5, 2.0)
            stray = rng.random(len(centre)) < rng.uniform(0.02, 0.25)
            kept = layer[at[:, 0], at[:, 1]] | stray
            across = np.arctan2(slope_rows, slope_cols)[at[:, 0], at[:, 1]]
            turned = np.pi / 2 if rng.random() < 0.5 else 0.0
            angle = np.where(stray, angle, across + turned)
        if kept.sum() < 2:
            kept[:n] = True
        chosen = np.flatnonzero(kept)[:n]
        centre, angle = centre[chosen], angle[chosen]

    disorder = (1 - order) * rng.uniform(-np.pi / 2, np.pi / 2, len(centre))
    disorder += 0.15 * rng.standard_normal(len(centre))
    return Sites(centre.astype(np.float32), (angle + disorder).astype(np.float32))


def _gather(rng: np.random.Generator, seeds: Floats, n: int, diameter: float) -> Floats:
    """Candidates around clump centres, each clump with its own width, and a few loners."""
    clump = rng.integers(0, len(seeds), n)
    width = diameter * rng.uniform(0.5, 2.2, len(seeds))
    offset = rng.standard_normal((n, 2)) * width[clump, None]
    return (seeds[clump] + offset).astype(np.float32)


def keep_apart(outlines: Outlines, spacing: float) -> NDArray[np.intp]:
    """Indices of a greedy choice whose neighbours stay `spacing` times their touching distance apart.

    Earlier outlines win. 1 lets neighbours just touch, .7 overlap, above 1 leaves a gap. The touching
    distance of two ellipses is taken as the sum of their radii along the line between the centres.
    """
    n = len(outlines)
    tree = cKDTree(outlines.centre)
    pairs = tree.query_pairs(2 * float(outlines.axes.max()) * spacing, output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    step = outlines.centre[second] - outlines.centre[first]
    distance = np.hypot(step[:, 0], step[:, 1])
    direction = np.arctan2(step[:, 0], step[:, 1])
    touching = _radius(outlines, first, direction) + _radius(outlines, second, direction)
    clash = distance < spacing * touching
    first, second = first[clash], second[clash]
    order = np.lexsort((second, first))
    keep = [True] * n
    for i, j in zip(first[order].tolist(), second[order].tolist()):
        if keep[i]:
            keep[j] = False
    return np.flatnonzero(keep)


def _radius(outlines: Outlines, which: NDArray[np.intp], direction: Floats) -> Floats:
    long, short = outlines.axes[which, 0], outlines.axes[which, 1]
    turn = direction - outlines.angle[which]
    return long * short / np.hypot(short * np.cos(turn), long * np.sin(turn))

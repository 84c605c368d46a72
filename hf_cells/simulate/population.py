"""The nuclei of one image: how many, how large, of what shape, and how they crowd."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layout import draw_sites, keep_apart
from .optics import Range, draw, draw_log
from .shapes import Floats, Outlines, Raster, assign_pixels, draw_rims, rasterise, visible


@dataclass(frozen=True)
class Population:
    """Ranges from which one image draws its own values.

    Attributes:
        diameter: Median nuclear diameter in pixels (log-uniform).
        coverage: Share of the image under nuclei (log-uniform).
        spread: Standard deviation of the log diameter within an image.
        aspect: Median ratio of long to short axis.
        roughness: Amplitude of the random rim.
        bend: Spread of the bend of the long axis.
        spacing: 1 lets neighbours just touch, .7 overlap, above 1 leaves gaps.
        order: 0 random directions, 1 aligned neighbours.
        patterns: Layout patterns to choose from, repeated to weigh them.
        fragments: Probability that the image has micronuclei and burst (apoptotic) nuclei.
    """

    diameter: Range
    coverage: Range
    spread: Range = (0.1, 0.32)
    aspect: Range = (1.1, 1.5)
    roughness: Range = (0.02, 0.16)
    bend: Range = (0.0, 0.15)
    spacing: Range = (0.75, 1.15)
    order: Range = (0.0, 0.9)
    patterns: tuple[str, ...] = ("scattered", "clumps")
    fragments: float = 0.2


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one image with their exact truth.

    Attributes:
        outlines: The n visible outlines.
        raster: Their pixels.
        labels: int32 (H, W), 0 background, 1..n the nucleus in front.
        fragment: (n,) True for micronuclei and apoptotic pieces.
        diameter: Median diameter that the image aimed at, pixels.
    """

    outlines: Outlines
    raster: Raster
    labels: NDArray[np.int32]
    fragment: NDArray[np.bool_]
    diameter: float


def draw_nuclei(rng: np.random.Generator, shape: tuple[int, int], population: Population) -> Nuclei:
    """Draw the nuclei of one (H, W) image; always at least one."""
    diameter = min(draw_log(rng, population.diameter), 0.6 * min(shape))
    coverage = draw_log(rng, population.coverage)
    wanted = max(3, round(coverage * shape[0] * shape[1] / (np.pi / 4 * diameter**2)))
    pattern = str(rng.choice(population.patterns))
    order = draw(rng, population.order)
    sites = draw_sites(rng, shape, min(3 * wanted + 6, 8000), pattern, diameter, order)
    outlines = draw_outlines(rng, sites.centre, sites.angle, diameter, population)
    outlines = outlines.take(keep_apart(outlines, draw(rng, population.spacing))[:wanted])
    fragment = np.zeros(len(outlines), bool)
    if rng.random() < population.fragments:
        outlines, fragment = _break_up(rng, outlines)

    raster = rasterise(outlines, shape)
    priority = rng.normal(0, rng.choice([0.02, 0.5]), len(outlines)).astype(np.float32)
    labels = assign_pixels(raster, priority)
    seen = visible(raster, labels)
    if not seen.any():  # all slivers: put the first nucleus in the middle
        outlines = outlines.take(np.array([0]))
        outlines.centre[:] = np.array(shape, np.float32) / 2
        raster = rasterise(outlines, shape)
        return Nuclei(outlines, raster, assign_pixels(raster, priority[:1]), fragment[:1], diameter)
    if not seen.all():
        outlines, raster, fragment = outlines.take(seen), raster.keep(seen), fragment[seen]
        labels = assign_pixels(raster, priority[seen])
    return Nuclei(outlines, raster, labels, fragment, diameter)


def draw_outlines(
    rng: np.random.Generator, centre: Floats, angle: Floats, diameter: float, population: Population
) -> Outlines:
    """Outlines at the given places with log-normal sizes, a few of them outliers."""
    n = len(centre)
    size = diameter * np.exp(draw(rng, population.spread) * rng.standard_normal(n))
    outlier = rng.random(n) < 0.012
    size = np.where(outlier, size * rng.uniform(1.4, 2.2, n), size)
    size = np.clip(size, max(4.0, 0.3 * diameter), 2.6 * diameter)
    aspect = 1 + (draw(rng, population.aspect) - 1) * np.exp(0.5 * rng.standard_normal(n))
    aspect = np.minimum(aspect, 6.0)
    axes = np.stack([size / 2 * np.sqrt(aspect), size / 2 / np.sqrt(aspect)], 1)
    axes[:, 1] = np.maximum(axes[:, 1], 1.5)
    # A round nucleus that is bent gets horns, so only long ones bend.
    bend = draw(rng, population.bend) * rng.standard_normal(n) * np.clip(aspect - 1, 0, 1)
    return Outlines(
        centre=np.asarray(centre, np.float32),
        axes=axes.astype(np.float32),
        angle=np.asarray(angle, np.float32),
        bend=np.clip(bend, -0.3, 0.3).astype(np.float32),
        rim=draw_rims(rng, n, draw(rng, population.roughness)),
    )


def _break_up(rng: np.random.Generator, outlines: Outlines) -> tuple[Outlines, NDArray[np.bool_]]:
    """Burst some nuclei into bright pieces and give others a micronucleus."""
    n = len(outlines)
    burst = rng.random(n) < rng.uniform(0.0, 0.08)
    budding = ~burst & (rng.random(n) < rng.uniform(0.0, 0.15))
    pieces = np.where(burst, rng.integers(2, 8, n), budding.astype(np.intp))
    parent = np.repeat(np.arange(n), pieces)
    if len(parent) == 0:
        return outlines, np.zeros(n, bool)
    m = len(parent)
    whole = outlines.diameter[parent]
    # Pieces of a burst nucleus lie within it, a micronucleus just outside the parent's rim.
    away = np.where(burst[parent], rng.uniform(0.1, 0.8, m), rng.uniform(1.15, 1.5, m)) * whole / 2
    towards = rng.uniform(0, 2 * np.pi, m)
    size = np.clip(whole * rng.uniform(0.15, 0.4, m), 3.5, None)
    small = Population((1, 1), (1, 1), spread=(0, 0), aspect=(1.1, 1.3))
    centre = outlines.centre[parent] + (np.stack([np.sin(towards), np.cos(towards)], 1) * away[:, None])
    extra = draw_outlines(rng, centre, towards, 1.0, small)
    extra.axes[:] *= (size / extra.diameter)[:, None]
    kept = outlines.take(~burst)
    merged = Outlines(*(np.concatenate([getattr(kept, f), getattr(extra, f)]) for f in _FIELDS))
    return merged, np.arange(len(merged)) >= len(kept)


_FIELDS = ("centre", "axes", "angle", "bend", "rim")

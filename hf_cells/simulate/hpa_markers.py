"""The three reference stains of a cell: nucleus (blue), endoplasmic reticulum (yellow), microtubules (red)."""

import numpy as np

from .fields import FloatImage
from .hpa_cell import Cell
from .hpa_strokes import filaments, level, soften


def chromatin(rng: np.random.Generator, cell: Cell, mottle: float) -> FloatImage:
    """DNA stain: mottled, dark in nucleoli, bright and even in a chromosome plate; float32 (h, w)."""
    body = np.clip(0.5 - cell.outward / max(1.0, cell.microns(0.25)), 0, 1)
    if cell.dividing:
        return (1.2 * body * np.exp(0.12 * cell.texture(rng, 0.5))).astype(np.float32)
    grain = 0.6 * cell.texture(rng, 0.35) + 0.8 * cell.texture(rng, 1.0)
    rim = 1 + 0.2 * np.exp(-((cell.outward / max(1.0, cell.microns(0.5))) ** 2))
    light = np.exp(np.float32(mottle) * grain) * (1 - np.float32(0.75) * cell.nucleoli)
    return (0.62 * body * rim * light).astype(np.float32)


def reticulum(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """A mesh, dense at the nucleus and thin at the edge, with a bright nuclear envelope; float32 (h, w)."""
    fall = np.exp(-cell.way_out * np.float32(rng.uniform(0.3, 2.2)))
    grain = 0.4 * cell.texture(rng, 0.2) + 0.25 * cell.texture(rng, 0.7) + 0.2 * cell.texture(rng, 3.0)
    mesh = np.exp(grain)
    envelope = 0.5 * np.exp(-((cell.outward / max(1.0, cell.microns(0.3))) ** 2))
    bottom = np.float32(rng.uniform(0.05, 0.2))  # what lies above and below the nucleus
    in_nucleus = cell.nucleus & (not cell.dividing)
    light = np.where(in_nucleus, bottom, fall * cell.thickness) * mesh + 3 * bottom * envelope
    return level(np.where(cell.mask, light, 0).astype(np.float32), cell, 98)


def microtubules(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Threads from around the nucleus to the edge over a haze of free tubulin; float32 (h, w)."""
    if cell.dividing:
        haze = 0.25 * cell.thickness * np.exp(0.2 * cell.texture(rng, 0.5))
        return level(np.where(cell.mask, spindle(rng, cell) + haze, 0).astype(np.float32), cell)
    area = cell.mask.sum() / cell.scale**2
    n = int(np.clip(rng.uniform(0.2, 0.5) * area, 40, 420))
    near = np.exp(-cell.way_out * np.float32(rng.uniform(1.5, 5.0))) * cell.cytoplasm
    start = cell.draw_places(rng, near, n)
    away = np.arctan2(start[:, 0] - cell.centre[0], start[:, 1] - cell.centre[1])
    # Along the nucleus as much as away from it; along the cell where it is long.
    heading = np.where(rng.random(n) < 0.55, away, cell.angle + np.pi * rng.integers(0, 2, n))
    heading = heading + rng.choice([-1, 0, 1], n) * rng.uniform(0.2, 1.5, n)
    length = rng.uniform(3, max(6.0, 0.9 * np.sqrt(area)), n)
    threads = filaments(rng, cell, start, heading, length, rng.uniform(0.08, 0.3), rng.uniform(0, 0.15))
    fade = np.exp(-cell.way_out * np.float32(rng.uniform(0.0, 1.3))) * cell.thickness
    threads = level(soften(cell, threads, 0.09) * fade, cell, 97.5)
    haze = np.float32(rng.uniform(0.05, 0.3)) * fade * (1 - np.float32(0.7) * cell.nucleus)
    light = np.where(cell.mask, threads + haze, 0).astype(np.float32)
    return level(light, cell, 97.5)


def spindle(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Two fans of threads from the poles to the chromosome plate; float32 (h, w), 1 where it is densest."""
    plate = np.argwhere(cell.nucleus).astype(np.float32) - cell.centre
    spread = plate.T @ plate / max(1, len(plate)) if len(plate) > 2 else np.eye(2, dtype=np.float32)
    across = 0.5 * np.arctan2(2 * spread[0, 1], spread[1, 1] - spread[0, 0]) + np.pi / 2
    step = np.array([np.sin(across), np.cos(across)], np.float32)
    half = np.sqrt(max(4 * _largest(spread), 1.0))  # half the length of the plate
    starts, headings = [], []
    for side in (-1, 1):
        pole = cell.centre + side * step * np.float32(0.85 * half)
        n = 60
        starts.append(np.repeat(pole[None], n, 0) + rng.normal(0, 0.12 * half, (n, 2)))
        headings.append(across + (np.pi if side > 0 else 0) + rng.normal(0, 0.5, n))
    n_steps = np.full(120, 0.9 * half / cell.scale)
    image = filaments(
        rng, cell, np.concatenate(starts), np.concatenate(headings), n_steps, 0.1, through_nucleus=1.0
    )
    return level(soften(cell, image, 0.25), cell)


def _largest(matrix: FloatImage) -> float:
    """Larger eigenvalue of a symmetric 2x2 matrix."""
    a, b, c = float(matrix[0, 0]), float(matrix[0, 1]), float(matrix[1, 1])
    return (a + c) / 2 + float(np.hypot((a - c) / 2, b))

"""The protein channel: one pattern for each of the nineteen labels of the single-cell challenge.

Places follow the Human Protein Atlas' descriptions of its subcellular locations (Thul et al. 2017,
doi:10.1126/science.aal3321).
"""

from collections.abc import Callable

import numpy as np

from .fields import FloatImage
from .hpa_cell import Cell
from .hpa_markers import reticulum, spindle
from .hpa_strokes import blobs, filaments, level, soften

# Labels are the numbers of the challenge, as the dataset script `hpa_single_cell` names them.
SPINDLE, NEGATIVE = 11, 18
_SPOTS = frozenset({2, 3, 5, 12, 15})
# What a dividing cell has no place for: its nucleus is gone, its cytoskeleton is the spindle.
INTERPHASE = frozenset({0, 1, 2, 3, 4, 5, 7, 8, 10})


def paint(
    rng: np.random.Generator, cell: Cell, label: int, tubules: FloatImage, yellow: FloatImage
) -> FloatImage:
    """The light of one label in one cell: float32 (h, w), about 1 where it is bright, 0 for Negative.

    Args:
        rng: Source of randomness.
        cell: The cell.
        label: Number of the label.
        tubules: The cell's microtubule stain.
        yellow: The cell's reticulum stain.
    """
    if label == 6:  # the same mesh as the reference stain, seen through another antibody
        own = 0.75 * yellow + 0.25 * reticulum(rng, cell)
    elif label == 10:
        own = tubules
    elif label == NEGATIVE:
        return np.zeros(cell.shape, np.float32)
    else:
        own = _PATTERNS[label](rng, cell)
    # Spots are so small that only the very brightest pixels are theirs.
    share = 99.99 if label in _SPOTS else 99.7
    return level(np.where(cell.mask, own, 0).astype(np.float32), cell, share)


def _nucleoplasm(rng: np.random.Generator, cell: Cell) -> FloatImage:
    grain = np.exp(0.25 * cell.texture(rng, 0.25) + 0.15 * cell.texture(rng, 1.2))
    return _inside(cell) * grain * (1 - np.float32(rng.uniform(0.3, 0.85)) * cell.nucleoli)


def _inside(cell: Cell) -> FloatImage:
    """The nucleus with a soft rim."""
    return np.clip(0.5 - cell.outward / max(1.0, cell.microns(0.2)), 0, 1).astype(np.float32)


def _membrane_of_nucleus(rng: np.random.Generator, cell: Cell) -> FloatImage:
    width = max(0.9, cell.microns(rng.uniform(0.18, 0.3)))
    ring = np.exp(-((cell.outward / np.float32(width)) ** 2)) * np.exp(0.3 * cell.texture(rng, 1.5))
    return ring + np.float32(rng.uniform(0.02, 0.25)) * _inside(cell)


def _nucleoli(rng: np.random.Generator, cell: Cell) -> FloatImage:
    body = cell.nucleoli * np.exp(0.2 * cell.texture(rng, 0.4))
    if rng.random() < 0.3:  # brighter at the rim
        body = body * (1.3 - soften(cell, cell.nucleoli, 0.35))
    return body + np.float32(rng.uniform(0.0, 0.15)) * _inside(cell)


def _fibrillar_centres(rng: np.random.Generator, cell: Cell) -> FloatImage:
    weight = np.maximum(cell.nucleoli - 0.4, 0)
    n = int(rng.integers(3, 7)) * max(1, len(cell.spots))
    places = cell.draw_places(rng, weight, n)
    return blobs(cell, places, rng.uniform(0.6, 1.2, n), rng.uniform(0.12, 0.2)) + 0.1 * cell.nucleoli


def _speckles(rng: np.random.Generator, cell: Cell) -> FloatImage:
    patches = np.maximum(cell.texture(rng, rng.uniform(0.6, 0.9)) - np.float32(rng.uniform(0.6, 1.0)), 0)
    ground = np.float32(rng.uniform(0.05, 0.25))
    return _inside(cell) * (1 - cell.nucleoli) * (np.minimum(patches, 1) + ground)


def _bodies(rng: np.random.Generator, cell: Cell) -> FloatImage:
    n = int(rng.integers(2, 14))
    places = cell.draw_places(rng, (cell.outward < -cell.microns(0.6)) * (1 - cell.nucleoli), n)
    spots = blobs(cell, places, rng.uniform(0.6, 1.2, n), rng.uniform(0.18, 0.32))
    return spots + np.float32(rng.uniform(0.02, 0.15)) * _inside(cell)


def _golgi(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Ribbons around the pole, hugging the nucleus."""
    rows, columns = np.indices(cell.shape, dtype=np.float32)
    away = np.hypot(rows - cell.pole[0], columns - cell.pole[1])
    reach = cell.microns(rng.uniform(1.8, 3.5))
    zone = np.exp(-((away / np.float32(reach)) ** 2)) * cell.cytoplasm
    n = int(rng.integers(14, 40))
    start = cell.draw_places(rng, zone, n)
    around = np.arctan2(start[:, 0] - cell.centre[0], start[:, 1] - cell.centre[1]) + np.pi / 2
    ribbons = filaments(rng, cell, start, around + rng.normal(0, 0.6, n), rng.uniform(0.6, 3.0, n), 0.6)
    return soften(cell, ribbons, rng.uniform(0.15, 0.28)) * (0.3 + zone)


def _intermediate_filaments(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Wavy bundles that whirl around the nucleus."""
    n = int(rng.integers(60, 160))
    start = cell.draw_places(rng, np.exp(-3 * cell.way_out) * cell.cytoplasm, n)
    around = np.arctan2(start[:, 0] - cell.centre[0], start[:, 1] - cell.centre[1]) + np.pi / 2
    heading = around + np.pi * rng.integers(0, 2, n) + rng.normal(0, 0.5, n)
    bundles = filaments(rng, cell, start, heading, rng.uniform(5, 22, n), rng.uniform(0.45, 0.7))
    return soften(cell, bundles, 0.16) ** np.float32(1.2)


def _actin(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Straight stress fibres along the cell and a line at its edge."""
    n = int(rng.integers(25, 70))
    heading = cell.angle + np.pi * rng.integers(0, 2, n) + rng.normal(0, 0.12, n)
    start = cell.draw_places(rng, cell.mask.astype(np.float32), n)
    fibres = filaments(rng, cell, start, heading, rng.uniform(8, 30, n), 0.02, through_nucleus=1.0)
    edge = np.exp(-(((cell.inward - cell.microns(0.4)) / np.float32(max(1.0, cell.microns(0.4)))) ** 2))
    return level(soften(cell, fibres, 0.14), cell) + np.float32(rng.uniform(0.3, 1.0)) * edge


def _spindle(rng: np.random.Generator, cell: Cell) -> FloatImage:
    return spindle(rng, cell) + 0.06 * cell.thickness


def _centrosome(rng: np.random.Generator, cell: Cell) -> FloatImage:
    n = int(rng.integers(1, 3))
    places = cell.pole + rng.normal(0, 0.35 * cell.scale, (n, 2)).astype(np.float32)
    return blobs(cell, places, np.ones(n), rng.uniform(0.2, 0.32)) * 3 + 0.04 * cell.thickness


def _plasma_membrane(rng: np.random.Generator, cell: Cell) -> FloatImage:
    width = np.float32(max(1.0, cell.microns(rng.uniform(0.25, 0.5))))
    edge = np.exp(-((cell.inward / width) ** 2)) * np.exp(0.35 * cell.texture(rng, 2.0))
    ruffles = np.maximum(cell.texture(rng, 0.5) - 1.2, 0) * cell.mask * 0.25
    return edge + ruffles + np.float32(rng.uniform(0.05, 0.2)) * cell.thickness


def _mitochondria(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """Short curved rods, most of them near the nucleus."""
    area = cell.mask.sum() / cell.scale**2
    n = int(np.clip(rng.uniform(0.2, 0.4) * area, 30, 260))
    start = cell.draw_places(rng, np.exp(-cell.way_out * np.float32(rng.uniform(1, 3))) * cell.cytoplasm, n)
    rods = filaments(rng, cell, start, rng.uniform(0, 2 * np.pi, n), rng.uniform(0.8, 4, n), 0.5)
    return np.minimum(level(soften(cell, rods, 0.2), cell), 1.2)


def _aggresome(rng: np.random.Generator, cell: Cell) -> FloatImage:
    """One large dense body in a notch beside the nucleus."""
    n = 12
    spread = rng.uniform(0.4, 0.9)
    places = cell.pole + rng.normal(0, spread * cell.scale, (n, 2)).astype(np.float32)
    heap = blobs(cell, places, rng.uniform(0.5, 1, n), rng.uniform(0.45, 0.7))
    return np.minimum(level(heap, cell, 99.9), 0.9) + np.float32(rng.uniform(0.02, 0.1)) * cell.thickness


def _cytosol(rng: np.random.Generator, cell: Cell) -> FloatImage:
    grain = np.exp(0.22 * cell.texture(rng, 0.25) + 0.15 * cell.texture(rng, 2.0))
    in_nucleus = np.float32(rng.uniform(0.1, 0.5))
    return cell.thickness * grain * np.where(cell.nucleus & (not cell.dividing), in_nucleus, 1)


def _vesicles(rng: np.random.Generator, cell: Cell) -> FloatImage:
    area = cell.mask.sum() / cell.scale**2
    n = int(np.clip(rng.uniform(0.05, 0.3) * area, 12, 250))
    spread = np.exp(-cell.way_out * np.float32(rng.uniform(0, 3))) * cell.cytoplasm
    places = cell.draw_places(rng, spread, n)
    spots = blobs(cell, places, rng.lognormal(0, 0.5, n), rng.uniform(0.12, 0.3))
    return spots + np.float32(rng.uniform(0.02, 0.1)) * cell.thickness


_PATTERNS: dict[int, Callable[[np.random.Generator, Cell], FloatImage]] = {
    0: _nucleoplasm,
    1: _membrane_of_nucleus,
    2: _nucleoli,
    3: _fibrillar_centres,
    4: _speckles,
    5: _bodies,
    7: _golgi,
    8: _intermediate_filaments,
    9: _actin,
    11: _spindle,
    12: _centrosome,
    13: _plasma_membrane,
    14: _mitochondria,
    15: _aggresome,
    16: _cytosol,
    17: _vesicles,
}

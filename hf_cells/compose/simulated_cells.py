"""Drawn cells of a Romanowsky-stained smear: optical densities on reference glass, for when there is no data."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .classes import RED_CELL_DIAMETER
from .raw_cells import crop_to
from .stain import Floats, on_reference_glass

Grid = tuple[Floats, Floats]
Drawing = Callable[[np.random.Generator], tuple[Floats, Floats]]

# Optical densities (red, green, blue) of the stained parts.
NUCLEUS = np.array([0.88, 1.55, 0.42], np.float32)
PINK = np.array([0.12, 0.40, 0.16], np.float32)
BLUE = np.array([0.42, 0.46, 0.14], np.float32)
GREY_BLUE = np.array([0.32, 0.44, 0.18], np.float32)
EOSIN = np.array([0.18, 0.72, 0.66], np.float32)
BASIC = np.array([1.00, 1.50, 0.50], np.float32)
HAEMOGLOBIN = np.array([0.19, 0.44, 0.27], np.float32)
PIGMENT = np.array([0.55, 0.80, 0.95], np.float32)


def simulate_cell(class_name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one cell at the scale of the library.

    Args:
        class_name: Any class but background and platelet clump.
        rng: Source of everything random in it.

    Returns:
        RGBA uint8 (h, w, 4) on reference glass; alpha is the soft mask.
    """
    density, coverage = DRAWINGS[class_name](rng)
    stain = np.exp(0.12 * rng.standard_normal() + 0.05 * rng.standard_normal(3)).astype(np.float32)
    density = ndimage.gaussian_filter(density * stain, (0.8, 0.8, 0))
    density += rng.normal(0, 0.012, density.shape).astype(np.float32)
    rgba = np.dstack([on_reference_glass(density), np.round(coverage * 255).astype(np.uint8)])
    return rgba[crop_to(coverage > 0, 1)]


def _grid(diameter: float) -> Grid:
    half = int(np.ceil(0.85 * diameter)) + 3
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    return y, x


def _blob(
    rng: np.random.Generator,
    grid: Grid,
    centre: tuple[float, float],
    radius: float,
    rough: float,
    oval: float,
) -> Floats:
    """Signed depth in pixels of a rounded outline, positive inside."""
    y, x = grid[0] - np.float32(centre[0]), grid[1] - np.float32(centre[1])
    turn, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, oval))
    u = (x * np.cos(turn) + y * np.sin(turn)) / stretch
    v = (y * np.cos(turn) - x * np.sin(turn)) * stretch
    angle = np.arctan2(v, u)
    rim = np.ones_like(angle)
    for order in range(2, 8):
        rim += rough * order**-1.2 * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return (radius * rim - np.hypot(u, v)).astype(np.float32)


def _cover(depth: Floats, softness: float = 1.0) -> Floats:
    return np.clip(0.5 + depth / softness / 1.6, 0, 1).astype(np.float32)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> Floats:
    field = ndimage.gaussian_filter(rng.standard_normal(shape[:2]).astype(np.float32), grain)
    return field / max(float(field.std()), 1e-6)


def _lay(density: Floats, cover: Floats, colour: Floats) -> Floats:
    """Lay a stained part over what is there; `colour` (3,) or (h, w, 3)."""
    return density * (1 - cover[..., None]) + cover[..., None] * colour


def _cytoplasm(
    rng: np.random.Generator, diameter: float, colour: Floats, rough: float, grain: float
) -> tuple[Grid, Floats, Floats, Floats]:
    grid = _grid(diameter)
    depth = _blob(rng, grid, (0, 0), diameter / 2, rough, 0.05)
    body = (
        colour
        * (1 + 0.14 * _texture(rng, depth.shape, 1.2) + 0.1 * _texture(rng, depth.shape, grain))[..., None]
    )
    cover = _cover(depth)
    # The colour runs on past the outline: alpha alone fades, or the rim would be pale twice over.
    inked = _cover(depth + 2.5)
    return grid, depth, _lay(np.zeros((*depth.shape, 3), np.float32), inked, np.maximum(body, 0.02)), cover


def _nucleus(
    rng: np.random.Generator, density: Floats, depth: Floats, body: Floats, clumped: float
) -> Floats:
    """Lay a nucleus of outline `depth` over the cell, within its outline `body`."""
    depth = np.minimum(depth, body - 1.5)
    chromatin = 1 + clumped * _texture(rng, depth.shape, 1.6) + 0.04 * _texture(rng, depth.shape, 5)
    shade = rng.uniform(0.85, 1.15)
    return _lay(density, _cover(depth, 1.3), NUCLEUS * shade * np.clip(chromatin, 0.5, 1.5)[..., None])


def _lobes(rng: np.random.Generator, grid: Grid, diameter: float, count: int, size: float) -> Floats:
    """Outline of a nucleus of lobes along an arc, joined by thin strands."""
    start, sense = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    spacing = rng.uniform(1.0, 1.5) if count > 2 else rng.uniform(1.9, 2.8)
    angles = start + sense * spacing * np.arange(count) + rng.normal(0, 0.15, count)
    distance = diameter * rng.uniform(0.19, 0.25, count)
    centres = [(d * np.sin(a), d * np.cos(a)) for a, d in zip(angles, distance)]
    depth = np.full(grid[0].shape, -1e3, np.float32)
    for centre in centres:
        lobe = _blob(rng, grid, centre, size * diameter * rng.uniform(0.85, 1.15), 0.06, 0.15)
        depth = np.maximum(depth, lobe)
    for (y0, x0), (y1, x1) in pairwise(centres):
        along = np.clip(
            ((grid[0] - y0) * (y1 - y0) + (grid[1] - x0) * (x1 - x0)) / ((y1 - y0) ** 2 + (x1 - x0) ** 2),
            0,
            1,
        )
        strand = 0.035 * diameter - np.hypot(
            grid[0] - y0 - along * (y1 - y0), grid[1] - x0 - along * (x1 - x0)
        )
        depth = np.maximum(depth, strand.astype(np.float32))
    return depth


def _granules(
    rng: np.random.Generator, density: Floats, body: Floats, count: int, radius: float, colour: Floats
) -> Floats:
    """Lay round granules over the cell, inside its outline."""
    rows, columns = np.nonzero(body > 1.2 * radius)
    for index in rng.integers(len(rows), size=count):
        row, column = int(rows[index]), int(columns[index])
        reach = int(radius) + 3
        box = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        y, x = np.ogrid[box]
        depth = radius * rng.uniform(0.7, 1.2) - np.hypot(y - row, x - column).astype(np.float32)
        cover = _cover(depth) * rng.uniform(0.6, 1.0)
        density[box] = _lay(density[box], cover.astype(np.float32), colour * rng.uniform(0.8, 1.2))
    return density


def _neutrophil(rng: np.random.Generator) -> tuple[Floats, Floats]:
    diameter = RED_CELL_DIAMETER * rng.normal(2.1, 0.15)
    colour = PINK + rng.uniform(0, 0.35) * GREY_BLUE
    grid, body, density, cover = _cytoplasm(rng, diameter, colour, 0.02, 5)
    density = _granules(rng, density, body, int(rng.integers(60, 160)), 0.9, PINK * 1.7)
    lobes = _lobes(rng, grid, diameter, int(rng.choice([2, 3, 4, 5], p=[0.2, 0.4, 0.3, 0.1])), 0.155)
    return _nucleus(rng, density, lobes, body, 0.1), cover


def _eosinophil(rng: np.random.Generator) -> tuple[Floats, Floats]:
    diameter = RED_CELL_DIAMETER * rng.normal(2.25, 0.12)
    grid, body, density, cover = _cytoplasm(rng, diameter, EOSIN * 0.75, 0.025, 4)
    lobes = _lobes(rng, grid, diameter, int(rng.choice([2, 3], p=[0.8, 0.2])), 0.19)
    density = _nucleus(rng, density, lobes, body, 0.1)
    outside = np.where(lobes > -0.5, -1.0, body).astype(np.float32)
    return _granules(rng, density, outside, int(rng.integers(180, 300)), 1.7, EOSIN * 1.25), cover


def _basophil(rng: np.random.Generator) -> tuple[Floats, Floats]:
    diameter = RED_CELL_DIAMETER * rng.normal(2.05, 0.12)
    grid, body, density, cover = _cytoplasm(rng, diameter, PINK + 0.4 * BLUE, 0.03, 4)
    lobes = _lobes(rng, grid, diameter, int(rng.choice([2, 3])), 0.2)
    density = _nucleus(rng, density, lobes, body, 0.14)
    return _granules(rng, density, body, int(rng.integers(45, 110)), 2.2, BASIC), cover


def _lymphocyte(rng: np.random.Generator) -> tuple[Floats, Floats]:
    large = rng.random() < 0.35
    diameter = RED_CELL_DIAMETER * (rng.normal(2.1, 0.15) if large else rng.normal(1.55, 0.12))
    grid, body, density, cover = _cytoplasm(rng, diameter, BLUE * rng.uniform(0.6, 1.1), 0.04, 6)
    share = rng.uniform(0.33, 0.38) if large else rng.uniform(0.4, 0.46)
    offset = (0.5 - share) * diameter * rng.uniform(0.2, 0.8)
    angle = rng.uniform(0, 2 * np.pi)
    centre = offset * np.sin(angle), offset * np.cos(angle)
    nucleus = _blob(rng, grid, centre, share * diameter, 0.03, 0.05)
    return _nucleus(rng, density, nucleus, body, 0.12), cover


def _monocyte(rng: np.random.Generator) -> tuple[Floats, Floats]:
    diameter = RED_CELL_DIAMETER * rng.normal(2.55, 0.2)
    grid, body, density, cover = _cytoplasm(rng, diameter, GREY_BLUE * rng.uniform(0.8, 1.2), 0.05, 4)
    for _ in range(int(rng.integers(0, 6))):  # vacuoles
        angle, distance = rng.uniform(0, 2 * np.pi), diameter * rng.uniform(0.3, 0.43)
        centre = distance * np.sin(angle), distance * np.cos(angle)
        hole = _cover(np.minimum(_blob(rng, grid, centre, rng.uniform(1.5, 3), 0, 0), body - 2))
        density = _lay(density, 0.8 * hole, PINK * 0.2)
    turn = rng.uniform(0, 2 * np.pi)
    nucleus = _blob(rng, grid, (0.05 * diameter * np.sin(turn), 0), 0.33 * diameter, 0.06, 0.1)
    notch_at = 0.33 * diameter * np.sin(turn), 0.33 * diameter * np.cos(turn)
    notch = _blob(rng, grid, notch_at, rng.uniform(0.1, 0.2) * diameter, 0.05, 0.1)
    return _nucleus(rng, density * 1.0, np.minimum(nucleus, -notch), body, 0.09) * 0.92, cover


def _thrombocyte(rng: np.random.Generator) -> tuple[Floats, Floats]:
    diameter = RED_CELL_DIAMETER * np.exp(rng.normal(np.log(0.36), 0.18))
    grid, body, density, cover = _cytoplasm(rng, diameter, BLUE * rng.uniform(0.7, 1.1), 0.08, 3)
    core = _blob(rng, grid, (0, 0), 0.3 * diameter, 0.15, 0.1)
    density = _lay(density, 0.7 * _cover(np.minimum(core, body - 1), 1.5), NUCLEUS * rng.uniform(0.4, 0.65))
    return density, cover


def _red_cell(rng: np.random.Generator, size: float = 1.0) -> tuple[Grid, Floats, Floats, Floats]:
    """A disc that is thinner in the middle."""
    diameter = RED_CELL_DIAMETER * size * rng.normal(1.0, 0.06)
    grid = _grid(diameter)
    body = _blob(rng, grid, (0, 0), diameter / 2, 0.02, 0.05)
    radius = np.clip(1 - body / (diameter / 2), 0, 1.2)
    pallor = rng.uniform(0, 0.85) * np.exp(-((radius / rng.uniform(0.3, 0.55)) ** 2))
    rim = 1 + 0.12 * np.exp(-(((radius - 0.85) / 0.12) ** 2))
    thickness = (1 - pallor) * rim * (1 + 0.02 * _texture(rng, body.shape, 2))
    cover = _cover(body)
    density = _lay(
        np.zeros((*body.shape, 3), np.float32), _cover(body + 2.5), HAEMOGLOBIN * thickness[..., None]
    )
    return grid, body, density, cover


def _healthy(rng: np.random.Generator) -> tuple[Floats, Floats]:
    _, _, density, cover = _red_cell(rng)
    return density, cover


def _infected(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A red cell with ring forms, a trophozoite, or a gametocyte full of pigment."""
    stage = rng.choice(["ring", "trophozoite", "gametocyte"], p=[0.35, 0.3, 0.35])
    grid, body, density, cover = _red_cell(rng, {"ring": 1.0, "trophozoite": 1.08}.get(str(stage), 1.18))
    density *= 0.85
    if stage == "ring":
        for _ in range(int(rng.choice([1, 2], p=[0.75, 0.25]))):
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, 10)
            centre = distance * np.sin(angle), distance * np.cos(angle)
            radius = rng.uniform(3.5, 6)
            depth = 1.0 - np.abs(_blob(rng, grid, centre, radius, 0.08, 0.15))
            density = _lay(density, 0.8 * _cover(np.minimum(depth, body - 1)), BLUE * 1.1)
            dot = centre[0] + radius * np.sin(angle), centre[1] + radius * np.cos(angle)
            point = _blob(rng, grid, dot, rng.uniform(1.6, 2.3), 0.1, 0.1)
            density = _lay(density, _cover(np.minimum(point, body - 1)), NUCLEUS * 0.9)
        return density, cover
    if stage == "trophozoite":
        centre = float(rng.normal(0, 3)), float(rng.normal(0, 3))
        parasite = _blob(rng, grid, centre, rng.uniform(7, 11), 0.25, 0.2)
        density = _lay(density, 0.8 * _cover(np.minimum(parasite, body - 1)), BLUE * rng.uniform(0.9, 1.3))
        point = _blob(rng, grid, (centre[0] + 3, centre[1] + 3), rng.uniform(2, 3.2), 0.1, 0.1)
        density = _lay(density, _cover(np.minimum(point, body - 1)), NUCLEUS * 0.85)
        return _granules(
            rng, density, np.minimum(body, parasite), int(rng.integers(3, 12)), 0.9, PIGMENT
        ), cover
    filled = _blob(rng, grid, (0, 0), RED_CELL_DIAMETER * rng.uniform(0.45, 0.55), 0.06, 0.1)
    tint = (0.5 * BLUE + 0.6 * PINK) * (1 + 0.25 * _texture(rng, body.shape, 1.5))[..., None]
    density = _lay(density, 0.85 * _cover(np.minimum(filled, body - 1)), np.maximum(tint, 0.05))
    chromatin = _blob(
        rng, grid, (float(rng.normal(0, 5)), float(rng.normal(0, 5))), rng.uniform(4, 7), 0.2, 0.2
    )
    density = _lay(density, 0.6 * _cover(np.minimum(chromatin, body - 1), 2), NUCLEUS * 0.7)
    return _granules(rng, density, body, int(rng.integers(25, 70)), 0.9, PIGMENT), cover


DRAWINGS: dict[str, Drawing] = {
    "eosinophil": _eosinophil,
    "basophil": _basophil,
    "neutrophil": _neutrophil,
    "lymphocyte": _lymphocyte,
    "monocyte": _monocyte,
    "thrombocyte": _thrombocyte,
    "infected_rbc": _infected,
    "healthy_rbc": _healthy,
}

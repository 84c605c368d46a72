"""Cell lines and how their cells share a field: nuclei, outlines, touching neighbours, cells in division."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage, smooth_field
from .hpa_cell import Cell, build_cell
from .layout import draw_sites, keep_apart
from .optics import Range, draw
from .shapes import Outlines, assign_pixels, draw_rims, rasterise

_TURNS = 256  # samples of a cell's outline


@dataclass(frozen=True)
class CellLine:
    """Ranges from which a field of this line draws its own values; lengths in micrometres.

    Attributes:
        nucleus: Diameter of the circle of a nucleus' area.
        spread: How far a cell reaches from its nucleus, in nuclear diameters.
        nucleus_aspect: Long over short axis of nuclei.
        cell_aspect: Long over short axis of cells.
        corners: Fewest and most corners of a cell's outline.
        pointed: How far corners reach out and sides cave in: 0 round, 1 star.
        lobed: Roughness of nuclei.
        crowding: Space between neighbours, in touching distances of cells: small is confluent.
        pattern: Layouts to choose from (see `layout.PATTERNS`).
        coverage: Share of the field under cells that the layout aims at.
        dividing: Share of cells in mitosis.
    """

    nucleus: Range
    spread: Range
    nucleus_aspect: Range = (1.1, 1.6)
    cell_aspect: Range = (1.1, 1.8)
    corners: tuple[int, int] = (4, 7)
    pointed: Range = (0.1, 0.45)
    lobed: Range = (0.02, 0.1)
    crowding: Range = (0.62, 0.95)
    pattern: tuple[str, ...] = ("scattered",)
    coverage: Range = (0.45, 0.9)
    dividing: float = 0.015


LINES = {
    "U2OS": CellLine((15, 20), (0.65, 1.0), corners=(4, 7), pointed=(0.2, 0.5), coverage=(0.4, 0.85)),
    "A-431": CellLine(
        (12, 16), (0.4, 0.6), crowding=(0.6, 0.8), pattern=("clumps", "islands"), pointed=(0.05, 0.25)
    ),
    "U-251MG": CellLine((15, 20), (0.6, 0.95), cell_aspect=(1.5, 2.6), pointed=(0.3, 0.6)),
    "HEK293": CellLine(
        (11, 14), (0.3, 0.45), pattern=("clumps", "scattered"), crowding=(0.6, 0.8), coverage=(0.4, 0.8)
    ),
    "HeLa": CellLine((13, 18), (0.4, 0.7), pattern=("scattered", "clumps"), corners=(3, 6), dividing=0.03),
    "MCF7": CellLine((13, 17), (0.35, 0.55), pattern=("islands", "clumps"), crowding=(0.6, 0.75)),
    "RT4": CellLine((11, 15), (0.3, 0.5), pattern=("clumps",), crowding=(0.58, 0.72), lobed=(0.02, 0.06)),
    "PC-3": CellLine((14, 20), (0.5, 0.8), lobed=(0.05, 0.18), pointed=(0.1, 0.5), crowding=(0.65, 1.05)),
    "BJ": CellLine(
        (15, 20),
        (0.8, 1.2),
        nucleus_aspect=(1.3, 1.8),
        cell_aspect=(2.2, 4.0),
        corners=(3, 5),
        dividing=0.005,
    ),
    "SK-MEL-30": CellLine(
        (12, 17), (0.5, 0.9), corners=(2, 4), pointed=(0.5, 0.9), cell_aspect=(1.2, 2.4), coverage=(0.3, 0.6)
    ),
    "CACO-2": CellLine(
        (11, 14), (0.28, 0.4), pattern=("islands",), crowding=(0.55, 0.68), coverage=(0.6, 0.95)
    ),
    "Hep G2": CellLine((12, 16), (0.32, 0.5), pattern=("clumps", "islands"), crowding=(0.58, 0.78)),
}


@dataclass(frozen=True)
class Culture:
    """The cells of a field, before any light.

    Attributes:
        cell_labels: int32 (H, W), 0 between cells.
        nucleus_labels: int32 (H, W), the same number for a cell and its nucleus.
        cells: The cells 1..n, in that order.
    """

    cell_labels: NDArray[np.int32]
    nucleus_labels: NDArray[np.int32]
    cells: list[Cell]


def grow_culture(
    rng: np.random.Generator, shape: tuple[int, int], line: CellLine, scale: float, division: str = "rare"
) -> Culture:
    """Draw the cells of one (H, W) field at `scale` pixels per micrometre; always at least one.

    Args:
        rng: Source of randomness.
        shape: (H, W).
        line: Cell line.
        scale: Pixels per micrometre.
        division: "never", "rare" as in the line, or "some": a cell in the middle of the field divides.
    """
    nuclei, reach, dividing = _draw_nuclei(rng, shape, line, scale, division)
    raster = rasterise(nuclei, shape)
    nucleus_labels = assign_pixels(raster, np.zeros(len(nuclei), np.float32))
    cell_labels = _draw_cells(rng, shape, line, nuclei, reach, dividing, scale)
    cell_labels = np.where(nucleus_labels > 0, nucleus_labels, cell_labels).astype(np.int32)
    cell_labels = _one_piece(cell_labels, nucleus_labels)
    nucleus_labels = np.where(nucleus_labels == cell_labels, nucleus_labels, np.int32(0))
    boxes = ndimage.find_objects(cell_labels, len(nuclei))
    seen = [i for i, box in enumerate(boxes) if box is not None and (nucleus_labels[box] == i + 1).any()]
    cells = [
        build_cell(
            rng,
            cell_labels,
            nucleus_labels,
            i + 1,
            boxes[i],
            float(nuclei.angle[i]),
            bool(dividing[i]),
            scale,
        )
        for i in seen
    ]
    renumbered = np.zeros(len(nuclei) + 1, np.int32)
    renumbered[np.array(seen, np.intp) + 1] = np.arange(1, len(seen) + 1)
    return Culture(renumbered[cell_labels], renumbered[nucleus_labels], cells)


def _draw_nuclei(
    rng: np.random.Generator, shape: tuple[int, int], line: CellLine, scale: float, division: str
) -> tuple[Outlines, FloatImage, NDArray[np.bool_]]:
    """Nuclei, the reach of each cell from its nucleus' rim in pixels (n,), and which divide (n,)."""
    diameter = min(draw(rng, line.nucleus) * scale, 0.45 * min(shape))
    spread = draw(rng, line.spread)
    whole = diameter * (1 + 2 * spread)  # diameter of a cell
    wanted = max(2, round(draw(rng, line.coverage) * shape[0] * shape[1] / (np.pi / 4 * (0.8 * whole) ** 2)))
    sites = draw_sites(
        rng, shape, min(4 * wanted + 8, 6000), str(rng.choice(line.pattern)), 0.8 * whole, draw(rng, (0, 0.9))
    )
    n = len(sites.angle)
    # The first place is always taken, so that no field is empty.
    sites.centre[0] = np.array(shape) * rng.uniform(0.35, 0.65, 2)
    size = diameter * np.exp(0.14 * rng.standard_normal(n))
    size = np.where(rng.random(n) < 0.03, size * rng.uniform(1.3, 2.0, n), size)  # polyploid giants
    share = {"never": 0.0, "rare": line.dividing, "some": rng.uniform(0.08, 0.25)}[division]
    dividing = rng.random(n) < share
    dividing[0] |= division == "some"
    aspect = 1 + (draw(rng, line.nucleus_aspect) - 1) * np.exp(0.4 * rng.standard_normal(n))
    aspect = np.where(dividing, rng.uniform(2.2, 3.5, n), np.minimum(aspect, 2.4))
    size = np.where(dividing, 0.72 * size, size)
    axes = np.stack([size / 2 * np.sqrt(aspect), size / 2 / np.sqrt(aspect)], 1).astype(np.float32)
    bend = np.where(dividing, 0, 0.12 * rng.standard_normal(n) * np.clip(aspect - 1, 0, 1))
    nuclei = Outlines(
        centre=sites.centre,
        axes=axes,
        angle=sites.angle,
        bend=np.clip(bend, -0.25, 0.25).astype(np.float32),
        rim=draw_rims(rng, n, draw(rng, line.lobed)),
    )
    reach = spread * diameter * np.exp(0.25 * rng.standard_normal(n))
    reach = np.where(dividing, 0.3 * diameter, reach).astype(np.float32)
    body = Outlines(nuclei.centre, axes + reach[:, None], nuclei.angle, nuclei.bend, nuclei.rim)
    kept = keep_apart(body, draw(rng, line.crowding))[:wanted]
    return nuclei.take(kept), reach[kept], dividing[kept]


def _draw_cells(
    rng: np.random.Generator,
    shape: tuple[int, int],
    line: CellLine,
    nuclei: Outlines,
    reach: FloatImage,
    dividing: NDArray[np.bool_],
    scale: float,
) -> NDArray[np.int32]:
    """Label image of cell bodies: where two reach, the relatively nearer one has the pixel."""
    labels = np.zeros(shape, np.int32)
    best = np.ones(shape, np.float32)
    waves = [smooth_field(rng, shape, max(3.0, 2.2 * scale)) for _ in range(2)]
    pointed, aspect = draw(rng, line.pointed), draw(rng, line.cell_aspect)
    on_top = rng.normal(0, rng.choice([0.03, 0.2]), len(nuclei)).astype(np.float32)
    for i in range(len(nuclei)):
        own = _outline(rng, line, nuclei, i, float(reach[i]), aspect, 0.05 if dividing[i] else pointed)
        far = float(own.max()) * 1.1 + 2
        row, column = nuclei.centre[i]
        box = tuple(
            slice(max(0, int(at - far)), max(0, min(length, int(at + far) + 2)))
            for at, length in zip((row, column), shape, strict=True)
        )
        if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
            continue
        wave = 0.0 if dividing[i] else 0.35 * scale
        rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] - row + wave * waves[0][box]
        columns = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None] - column + wave * waves[1][box]
        turn = np.mod(np.arctan2(rows, columns), 2 * np.pi) * (_TURNS / (2 * np.pi))
        radius = np.interp(turn.ravel(), np.arange(_TURNS + 1), np.append(own, own[0])).reshape(turn.shape)
        near = np.hypot(rows, columns) / radius
        value = np.where(near < 1, near * np.exp(on_top[i]), np.float32(np.inf)).astype(np.float32)
        front = value < best[box]
        best[box][front] = value[front]
        labels[box][front] = i + 1
    return labels


def _outline(
    rng: np.random.Generator,
    line: CellLine,
    nuclei: Outlines,
    i: int,
    reach: float,
    aspect: float,
    pointed: float,
) -> FloatImage:
    """(256,) radius by direction: corners joined by caved-in sides, nowhere nearer than the nuclear rim."""
    corners = int(rng.integers(line.corners[0], line.corners[1] + 1))
    at = np.sort((np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners)
    at = np.mod(at + rng.uniform(0, 2 * np.pi), 2 * np.pi)
    at.sort()
    theta = np.arange(_TURNS) * (2 * np.pi / _TURNS)
    tip = np.exp(0.8 * pointed * rng.standard_normal(corners))
    tips = np.interp(theta, at, tip, period=2 * np.pi)
    after = np.searchsorted(at, theta, side="right") % corners
    gap = np.mod(at[after] - at[after - 1], 2 * np.pi) + (2 * np.pi if corners == 1 else 0)
    way = np.mod(theta - at[after - 1], 2 * np.pi) / np.maximum(gap, 1e-6)
    hollow = 1 - 0.75 * pointed * np.sin(np.pi * np.clip(way, 0, 1)) ** 0.7
    own = 1 + (aspect - 1) * float(rng.uniform(0.5, 1.2))
    turned = theta - float(nuclei.angle[i])
    long, short = np.sqrt(own), 1 / np.sqrt(own)
    ellipse = long * short / np.hypot(short * np.cos(turned), long * np.sin(turned))
    nuclear = float(np.sqrt(nuclei.axes[i, 0] * nuclei.axes[i, 1]))
    radius = (nuclear + reach) * ellipse * tips * hollow * (1 + 0.5 * pointed)
    radius = ndimage.gaussian_filter1d(radius, 3, mode="wrap")
    # Every nucleus keeps some cytoplasm around it.
    rim = nuclei.rim[i][(np.mod(turned, 2 * np.pi) * (64 / (2 * np.pi))).astype(np.intp) % 64]
    a, b = nuclei.axes[i]
    nucleus = rim * a * b / np.hypot(b * np.cos(turned), a * np.sin(turned))
    return np.maximum(radius, 1.1 * nucleus + 0.12 * nuclear).astype(np.float32)


def _one_piece(cell_labels: NDArray[np.int32], nucleus_labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep of each cell the piece that holds the nucleus; drop what a neighbour cut off."""
    kept = np.zeros_like(cell_labels)
    for number, box in enumerate(ndimage.find_objects(cell_labels), start=1):
        if box is None:
            continue
        own = cell_labels[box] == number
        pieces, n = ndimage.label(own)
        if n > 1:
            sizes = np.bincount(pieces[nucleus_labels[box] == number], minlength=n + 1)
            sizes[0] = 0
            if sizes.any():
                own = pieces == sizes.argmax()
        kept[box][own] = number
    return kept

"""Nuclei and whole cells of a field from its nuclear, microtubule and ER stains, each cell owning its nucleus.

Two engines find nuclei and two find cells: the classical ones, which need no weights, and instance models of this
package. All of them work on a reduced field (a quarter of 2048 px, as the Human Protein Atlas' own tool does).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .nuclei_cells_bodies import grow_cells
from .nuclei_cells_nuclei import TYPICAL_DIAMETER, find_nuclei, typical_diameter
from .nuclei_cells_scaling import enlarge_labels, shrink

_FIRST_SIDE = 512  # longest side, in pixels, at which nuclei are looked for when no scale is given
_MOST_SIDE = 1024  # larger ones take their time
_MOST_SCALE = 3.0  # small images of small nuclei are enlarged: outlines and necks need pixels
_WORKABLE = (24.0, 95.0)  # nuclei of this diameter need no other scale
_WANTED = 36.0  # the diameter that another scale gives them

NucleiEngine = Callable[[np.ndarray], np.ndarray]
CellEngine = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]


class FieldLabels(NamedTuple):
    """Nuclei and cells of a field, (H, W) int32 each: 0 = background, pixels of nucleus n lie in cell n."""

    nuclei: np.ndarray
    cells: np.ndarray


def segment_field(
    red: np.ndarray,
    yellow: np.ndarray | None,
    blue: np.ndarray,
    *,
    scale_factor: float | None = None,
    nuclei_engine: NucleiEngine | None = None,
    cell_engine: CellEngine | None = None,
) -> FieldLabels:
    """Find the nuclei and cells of one field.

    Every nucleus has one cell and every cell one nucleus; lobes that a wide neck joins are one nucleus (telophase,
    lobed nuclei, clumps of a giant cell), and so are several nuclei within one cell of a cell model. Cells whose
    nucleus lies outside the field are left out.

    Args:
        red: (H, W) microtubules, of any type and range.
        yellow: (H, W) endoplasmic reticulum, or None.
        blue: (H, W) nuclei.
        scale_factor: Working scale, such as 0.25 for fields of 2048 px. By default the longest side becomes 512
            pixels, and another scale is taken when the nuclei then are under 24 or over 95 pixels wide.
        nuclei_engine: From the reduced blue image to labels; by default the classical one, `find_nuclei`.
        cell_engine: From nuclei and the reduced [red, yellow, blue] to cells; by default the classical one.

    Raises:
        ValueError: The channels are not single planes of one size, or the scale is not above 0 and at most 1.
    """
    channels = [red, blue] if yellow is None else [red, yellow, blue]
    sizes = {np.shape(channel) for channel in channels}
    if len(sizes) > 1 or len(red.shape) != 2 or red.size == 0:
        raise ValueError(f"the channels are of sizes {sorted(sizes)}; they must be planes of one size")
    scale, nuclei = _find(blue, scale_factor, nuclei_engine)
    small = [shrink(channel, scale) for channel in channels]
    cells = cell_engine(nuclei, small) if cell_engine else grow_cells(nuclei, small[:-1], _diameter(nuclei))
    nuclei, cells = own_nuclei(nuclei, cells)
    smoothing = _diameter(nuclei) / 45
    cells = enlarge_labels(cells, red.shape, smoothing)
    nuclei = enlarge_labels(nuclei, red.shape, smoothing)
    # Smoothing may take away what is thin; a cell that loses its nucleus by it goes too.
    return own_nuclei(np.where(nuclei == cells, nuclei, 0), cells)


def find_nuclei_of(
    blue: np.ndarray, *, scale_factor: float | None = None, nuclei_engine: NucleiEngine | None = None
) -> np.ndarray:
    """Find the nuclei of a field whose other stains are not at hand; arguments as in `segment_field`.

    Returns:
        (H, W) int32, 0 = background, nuclei 1..n.
    """
    _, nuclei = _find(blue, scale_factor, nuclei_engine)
    return enlarge_labels(nuclei, blue.shape, _diameter(nuclei) / 45)


def _find(blue: np.ndarray, scale: float | None, engine: NucleiEngine | None) -> tuple[float, np.ndarray]:
    """Return the working scale and the nuclei at that scale."""
    find = engine or find_nuclei
    if scale is not None:
        if not 0 < scale <= 1:
            raise ValueError(f"scale_factor is {scale}; give a number above 0 and at most 1")
        return scale, find(shrink(blue, scale))
    side = max(blue.shape)
    scale = min(1.0, _FIRST_SIDE / side)
    nuclei = find(shrink(blue, scale))
    better = _better_scale(scale, nuclei, side)
    return better, nuclei if better == scale else find(shrink(blue, better))


def own_nuclei(nuclei: np.ndarray, cells: np.ndarray) -> FieldLabels:
    """Number cells 1..n and give nuclei the number of the cell that holds most of them.

    A cell without a nucleus is dropped, and so is a nucleus without a cell; a nucleus is cut to its cell.

    Args:
        nuclei: (H, W) labels.
        cells: (H, W) labels, in any numbering.
    """
    count = int(cells.max(initial=0)) + 1
    inside = (nuclei > 0) & (cells > 0)
    pairs, pixels = np.unique(nuclei[inside].astype(np.int64) * count + cells[inside], return_counts=True)
    owner = np.zeros(int(nuclei.max(initial=0)) + 1, np.int64)
    for index in np.argsort(pixels, kind="stable"):  # the largest share comes last and stays
        owner[pairs[index] // count] = pairs[index] % count
    number = np.zeros(count, np.int32)
    kept = np.unique(owner[owner > 0])
    number[kept] = np.arange(1, kept.size + 1)
    cells = number[cells]
    owned = number[owner][nuclei]
    return FieldLabels(np.where(owned == cells, owned, 0), cells)


def touches_border(labels: np.ndarray) -> np.ndarray:
    """Return the (n + 1,) flags of objects 0..n with a pixel on the border of the field; that of 0 is False."""
    flags = np.zeros(int(labels.max(initial=0)) + 1, bool)
    flags[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    flags[0] = False
    return flags


def _diameter(nuclei: np.ndarray) -> float:
    return typical_diameter(nuclei) or TYPICAL_DIAMETER


def _better_scale(scale: float, nuclei: np.ndarray, side: int) -> float:
    """Return a scale at which nuclei are of a workable size; the same one where they are already."""
    diameter = typical_diameter(nuclei)
    if not diameter or _WORKABLE[0] <= diameter <= _WORKABLE[1]:
        return scale
    return min(_MOST_SCALE, _MOST_SIDE / side, scale * _WANTED / diameter)

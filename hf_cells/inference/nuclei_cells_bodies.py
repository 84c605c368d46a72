"""Whole cells around given nuclei: the cytoplasm goes to the nucleus that reaches it over the smoothest path."""

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.filters import threshold_otsu

_TEXTURE = 1 / 32  # of a nucleus: filaments finer than this are smoothed away
_LOWEST = 0.5  # share of Otsu's threshold on the square root that still is cytoplasm
_STEP_COST = 0.01  # cost of one pixel of way, in units of the logarithm of intensity: keeps paths short
_FLOOR = 0.02  # of the field's bright end: below it intensities are noise and make no gradient


def grow_cells(nuclei: np.ndarray, channels: list[np.ndarray], diameter: float) -> np.ndarray:
    """Give every nucleus its cell.

    Each pixel of cytoplasm goes to the nucleus from which the way there crosses the least change of intensity
    (the propagation of Jones, Carpenter and Golland 2005, with logarithms, so that dim cells have edges too).
    A dark line between neighbours counts twice, as does the step from a bright cell to a dim one counts once.

    Args:
        nuclei: (H, W) labels 1..n.
        channels: (H, W) images that show the cell's body, such as microtubules and ER.
        diameter: Of a typical nucleus, in pixels.

    Returns:
        (H, W) int32 cells with the number of their nucleus, each in one piece and without holes.
    """
    if not nuclei.any():
        return np.zeros(nuclei.shape, np.int32)
    smooth = [ndimage.gaussian_filter(_scaled(channel), diameter * _TEXTURE) for channel in channels]
    body = sum(smooth) / len(smooth)
    mask = _cytoplasm(body, nuclei, diameter)
    logs = [np.log(channel + _FLOOR) for channel in smooth]
    cells = _nearest_nucleus(nuclei, logs, mask)
    return tidy_cells(cells, nuclei, diameter)


def _scaled(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float32)
    low, high = np.percentile(image, (1, 99.5))
    return np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)


def _cytoplasm(body: np.ndarray, nuclei: np.ndarray, diameter: float) -> np.ndarray:
    signal = np.sqrt(body)
    mask = signal > _LOWEST * threshold_otsu(signal)
    rim = ndimage.distance_transform_edt(nuclei == 0) <= max(1.0, diameter / 20)
    return ndimage.binary_opening(mask, iterations=max(1, round(diameter / 25))) | rim


def _nearest_nucleus(nuclei: np.ndarray, logs: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Shortest paths from all nuclei at once on the 8-connected grid of the mask."""
    index = np.full(mask.shape, -1, np.int64)
    index[mask] = np.arange(mask.sum())
    sources, targets, costs = [], [], []
    for near, far, length in (
        (np.s_[:, :-1], np.s_[:, 1:], 1.0),
        (np.s_[:-1], np.s_[1:], 1.0),
        (np.s_[:-1, :-1], np.s_[1:, 1:], 2**0.5),
        (np.s_[:-1, 1:], np.s_[1:, :-1], 2**0.5),
    ):
        inside = mask[near] & mask[far]
        change = sum(np.abs(log[near] - log[far]) for log in logs)
        # A way within one nucleus is free: it is one seed, wherever it is left.
        free = (nuclei[near] == nuclei[far]) & (nuclei[near] > 0)
        cost = np.where(free, 1e-6, change + _STEP_COST * length)
        sources.append(index[near][inside])
        targets.append(index[far][inside])
        costs.append(cost[inside])
    size = int(mask.sum())
    graph = coo_array(
        (np.concatenate(costs), (np.concatenate(sources), np.concatenate(targets))), (size, size)
    )
    labels = nuclei[mask]
    seeds = np.flatnonzero(labels)
    _, _, source = dijkstra(
        graph.tocsr(), directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    cells = np.zeros(mask.shape, np.int32)
    cells[mask] = np.where(source >= 0, labels[np.maximum(source, 0)], 0)
    return cells


def tidy_cells(cells: np.ndarray, nuclei: np.ndarray, diameter: float) -> np.ndarray:
    """Smooth each outline, take in the nucleus of the same number, keep the piece with it, fill its holes.

    Arguments and result as in `grow_cells`.
    """
    out = np.zeros_like(cells)
    for number, place in enumerate(ndimage.find_objects(cells), start=1):
        if place is None:
            continue
        nucleus = nuclei[place] == number
        mask = (
            ndimage.binary_opening(cells[place] == number, iterations=max(1, round(diameter / 25))) | nucleus
        )
        pieces, _ = ndimage.label(mask)
        mask = np.isin(pieces, np.unique(pieces[nucleus])) & mask
        mask = ndimage.binary_fill_holes(mask)
        free = (out[place] == 0) & ((nuclei[place] == 0) | nucleus)
        out[place][mask & free] = number
    return out

"""`label_nuclei` and `label_cell`: from predictions of nuclei and cells to label images of one numbering.

Signatures, units and return values are those of `hpacellseg.utils` (HPA-Cell-Segmentation, Lundberg lab): a prediction
is (H, W, 3) uint8 with the probabilities, times 255, of the border between touching objects (channel 1) and of the
inside of an object (channel 2). The code is new and runs on the numpy and scikit-image of today.
"""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label as connected_regions
from skimage.segmentation import find_boundaries, watershed

from ..models.instance_decoding import merge_basins
from .nuclei_cells import own_nuclei

_INSIDE = 0.4
_BORDER = 0.05
_LEAST_CELL_INSIDE = 0.22
_NO_DIP = 0.02  # several nuclei in a body whose probability dips less than this between them: one cell
# Of fields of 2048 px; smaller fields have smaller cells.
_LEAST_NUCLEUS, _LEAST_CELL, _LARGEST_HOLE, _FULL_SIDE = 2500, 5500, 1000, 2048


def as_prediction(labels: np.ndarray) -> np.ndarray:
    """Write labels as a prediction of which `label_cell` makes the same labels again.

    Args:
        labels: (H, W) integers.

    Returns:
        (H, W, 3) uint8: 0, 255 on both sides of borders between touching objects, 255 in the rest of the objects.
    """
    touching = find_boundaries(labels, connectivity=2, mode="thick", background=0) & (labels > 0)
    # Thick boundaries include those to the background; of these, only what lies next to another object stays.
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, np.iinfo(np.int32).max), 3)
    touching &= highest != lowest
    prediction = np.zeros((*labels.shape, 3), np.uint8)
    prediction[..., 1][touching] = 255
    prediction[..., 2][(labels > 0) & ~touching] = 255
    return prediction


def label_nuclei(nuclei_pred: np.ndarray) -> np.ndarray:
    """Label the nuclei of a prediction, without the help of cells.

    Args:
        nuclei_pred: (H, W, 3) uint8, or float from 0 to 1.

    Returns:
        (H, W) int32, 0 = background, nuclei 1..n.
    """
    border, inside = _probabilities(nuclei_pred)
    labels = _separate(inside, border, _INSIDE)
    return _numbered(labels, _LEAST_NUCLEUS * _share(inside))


def label_cell(nuclei_pred: np.ndarray, cell_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label the nuclei and the cells; the same number in both masks is the same cell.

    Each cell grows from its nucleus over the inside of the cell prediction, and last into the borders. Cells without
    a nucleus and nuclei without a cell are left out.

    Args:
        nuclei_pred: (H, W, 3) prediction of `CellSegmentator.pred_nuclei`.
        cell_pred: (H, W, 3) prediction of `CellSegmentator.pred_cells`, of the same size.

    Returns:
        `(nuclei_mask, cell_mask)`, both (H, W) uint16, 0 = background.

    Raises:
        ValueError: A prediction is not (H, W, 3), or they differ in size.
    """
    border, inside = _probabilities(cell_pred)
    nuclei_border, nuclei_inside = _probabilities(nuclei_pred)
    if inside.shape != nuclei_inside.shape:
        raise ValueError(
            f"predictions are of sizes {nuclei_inside.shape} and {inside.shape}; give those of one image"
        )
    share = _share(inside)
    # A border between cells also separates their nuclei.
    nuclei = _separate(nuclei_inside, np.maximum(nuclei_border, border * (nuclei_inside > _INSIDE)), _INSIDE)
    nuclei = _numbered(nuclei, _LEAST_NUCLEUS * share)
    if not nuclei.any():
        return nuclei.astype(np.uint16), nuclei.astype(np.uint16)
    least_inside = max(_LEAST_CELL_INSIDE, 0.5 * float(threshold_otsu(inside)) if np.ptp(inside) else 0.0)
    core = (inside > least_inside) & (border <= _BORDER)
    cells = watershed(-inside, nuclei * core, mask=core)
    cells = merge_basins(cells.astype(np.int32), inside, _NO_DIP)
    cells = _without_small(cells, _LEAST_CELL * share)
    cells = watershed(-inside, cells, mask=(cells > 0) | (border > _BORDER))
    cells = _filled(cells)
    nuclei, cells = own_nuclei(nuclei, cells)
    return nuclei.astype(np.uint16), cells.astype(np.uint16)


def _probabilities(prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return border and inside, (H, W) float32 from 0 to 1."""
    prediction = np.asarray(prediction)
    if prediction.ndim != 3 or prediction.shape[2] != 3:
        raise ValueError(
            f"a prediction of shape {prediction.shape} is not (H, W, 3); give one of pred_nuclei's list"
        )
    scale = 255 if prediction.dtype.kind in "ui" or prediction.max(initial=0) > 1 else 1
    planes = prediction[..., 1:].astype(np.float32) / scale
    return planes[..., 0], planes[..., 1]


def _share(plane: np.ndarray) -> float:
    return min(1.0, max(plane.shape) / _FULL_SIDE) ** 2


def _separate(inside: np.ndarray, border: np.ndarray, threshold: float) -> np.ndarray:
    seeds = connected_regions((inside > threshold) & (border <= _BORDER), connectivity=1)
    return watershed(-inside, seeds, mask=(inside > threshold) | ((border > _BORDER) & (border >= inside)))


def _without_small(labels: np.ndarray, least: float) -> np.ndarray:
    area = np.bincount(labels.ravel())
    return np.where((area >= least)[labels], labels, 0)


def _numbered(labels: np.ndarray, least: float) -> np.ndarray:
    labels = _without_small(labels, least)
    _, labels = np.unique(labels, return_inverse=True)
    first = 0 if (labels == 0).any() else 1
    return (labels + first).astype(np.int32)


def _filled(labels: np.ndarray) -> np.ndarray:
    """Fill the holes of each object that hold no other."""
    out = labels.copy()
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is not None:
            holes = ndimage.binary_fill_holes(labels[place] == number) & (labels[place] == 0)
            out[place][holes] = number
    return out

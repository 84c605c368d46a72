"""Telling the red cells of a smear apart: threshold, distance transform, watershed."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import watershed

from .stain import Floats

MOST_CONTACT = 0.15  # of the outline of a cell that counts as lying alone
LEAST_SOLIDITY = 0.95


def segment_red_cells(density: Floats, diameter: float) -> NDArray[np.int32]:
    """Label the stained things of a smear, int32 (H, W), touching cells parted.

    Args:
        density: (H, W, 3) optical density.
        diameter: About that of a red cell, pixels.
    """
    green = ndimage.gaussian_filter(density[..., 1], 1.0)
    dark = green > threshold_otsu(green)
    # Low, so that a pale infected cell among dark ones is still whole.
    least = float(np.clip(0.3 * np.median(green[dark]), 0.08, 0.2))
    stained = ndimage.binary_opening(ndimage.binary_fill_holes(green > least), iterations=2)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(stained).astype(np.float32), diameter / 20)
    peaks = peak_local_max(depth, min_distance=round(0.3 * diameter), labels=ndimage.label(stained)[0])
    seeds = np.zeros(stained.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, seeds, mask=stained).astype(np.int32)


def contact(labels: NDArray[np.int32], number: int, box: tuple[slice, slice]) -> float:
    """Share of the outline of a cell that lies against another cell."""
    around = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
    local = labels[around]
    own = local == number
    ring = ndimage.binary_dilation(own) & ~own
    return float((local[ring] > 0).mean()) if ring.any() else 0.0


def is_whole(mask: NDArray[np.bool_], diameter: float) -> bool:
    """True for a mask of about a red cell's size without dents."""
    if not 0.65 < 2 * np.sqrt(mask.sum() / np.pi) / diameter < 1.3:
        return False
    return bool(regionprops(mask.astype(np.uint8))[0].solidity >= LEAST_SOLIDITY)

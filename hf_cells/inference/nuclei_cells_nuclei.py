"""Nuclei from a nuclear stain without a trained model: threshold of a field's own making, split at necks."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label as connected_regions
from skimage.morphology import disk, opening

from ..models.instance_decoding import climb, merge_basins

# Nuclei are measured against this diameter in pixels of the working scale (a quarter of 2048 px: 0.32 µm a pixel).
TYPICAL_DIAMETER = 45.0
_LEAST_CONTRAST = 4.0  # mean of nuclei over background, in standard deviations of the background
_DIM = 0.6  # a nucleus is brighter than this share of Otsu's threshold on the square root
_RIM = 0.3  # share of a nucleus' own brightness over its surroundings at which it ends
_OPEN_NECK = 0.72  # two lobes are one nucleus when the neck is wider than this share of the smaller lobe
_LEAST_AREA = 0.06  # of the typical nucleus: smaller ones are debris
_LEAST_OF_MEDIAN = 0.12  # of the field's median nucleus: micronuclei and debris


def find_nuclei(blue: np.ndarray, diameter: float = TYPICAL_DIAMETER) -> np.ndarray:
    """Label the nuclei of a field at working scale.

    Otsu's threshold on the square root of the intensity (which brings dim nuclei close to bright ones) is relaxed and
    joined by a local one, so that dim nuclei count and the haze between bright ones does not. Touching nuclei are
    split where the neck between them is narrow against both: h-maxima on the logarithm of the distance to the rim.

    Args:
        blue: (H, W) intensities of the nuclear stain, any scale.
        diameter: What a nucleus measures here, in pixels; a factor of two off does no harm.

    Returns:
        (H, W) int32, 0 = background, nuclei 1..n; all 0 for a field without a nucleus.
    """
    signal = np.sqrt(_above_background(ndimage.gaussian_filter(blue.astype(np.float32), diameter / 45)))
    mask = _nuclear_mask(signal, diameter)
    labels = _split_at_necks(mask, diameter)
    labels = _tightened(labels, signal**2, diameter)
    return without_debris(labels, diameter)


def typical_diameter(nuclei: np.ndarray) -> float:
    """Return the diameter of the median nucleus by area, in pixels; 0 without nuclei."""
    area = np.sort(np.bincount(nuclei.ravel())[1:])
    area = area[area > 0]
    if not area.size:
        return 0.0
    # Half of all nuclear pixels belong to nuclei of at least this area: debris hardly moves it.
    median = area[np.searchsorted(np.cumsum(area), area.sum() / 2)]
    return float(np.sqrt(4 * median / np.pi))


def _above_background(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (1, 99.5))
    return np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)


def _nuclear_mask(signal: np.ndarray, diameter: float) -> np.ndarray:
    if signal.max() <= signal.min():
        return np.zeros(signal.shape, bool)
    threshold = float(threshold_otsu(signal))
    bright = signal > threshold
    background = signal[~bright]
    if signal[bright].mean() - background.mean() < _LEAST_CONTRAST * background.std():
        return np.zeros(signal.shape, bool)  # noise, cut in two
    surroundings = ndimage.gaussian_filter(signal, diameter)
    mask = (signal > _DIM * threshold) & ((signal > surroundings) | (signal > 1.3 * threshold))
    mask = opening(mask, disk(max(1, round(diameter / 20))))
    return ndimage.binary_fill_holes(mask)


def _split_at_necks(mask: np.ndarray, diameter: float) -> np.ndarray:
    # Padded: a nucleus that is cut by the border is wide there, not narrow.
    distance = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    height = ndimage.gaussian_filter(distance, diameter / 30)
    height = np.log(np.maximum(height, 0.5), dtype=np.float32)
    return merge_basins(climb(height, mask), height, -np.log(_OPEN_NECK))


def _tightened(labels: np.ndarray, signal: np.ndarray, diameter: float) -> np.ndarray:
    """Cut each nucleus where its own brightness has fallen to `_RIM` of the way to its surroundings.

    One threshold for the field draws bright nuclei too large: it lies far down their blurred rims.
    """
    margin = max(2, round(diameter / 4))
    tight = np.zeros_like(labels)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        place = tuple(slice(max(0, part.start - margin), part.stop + margin) for part in place)
        mask, around = labels[place] == number, labels[place] == 0
        outside = np.percentile(signal[place][around], 25) if around.any() else 0.0
        level = outside + _RIM * (np.median(signal[place][mask]) - outside)
        kept = opening(mask & (signal[place] > level), disk(max(1, round(diameter / 30))))
        tight[place][ndimage.binary_fill_holes(kept) & mask] = number
    return tight


def without_debris(labels: np.ndarray, diameter: float) -> np.ndarray:
    """Drop what is too small for a nucleus beside ones of this diameter, and number the rest 1..n, one piece each."""
    labels = connected_regions(labels, background=0, connectivity=1)
    area = np.bincount(labels.ravel())
    area[0] = 0
    least = _LEAST_AREA * np.pi / 4 * diameter**2
    kept = area[area >= least]
    if kept.size:
        least = max(least, _LEAST_OF_MEDIAN * float(np.median(kept)))
    number = np.zeros(area.size, np.int32)
    number[area >= least] = np.arange(1, (area >= least).sum() + 1)
    return number[labels]

"""Cells of one class that touch, parted where the region they form is narrow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ROUND = 1.5  # area of a region over that of its largest inscribed disc, up to which it is one cell
DEPTH = 0.1  # of a neck, in radii of the class, from which on there are two cells
SMALLEST = 0.3  # radius of a part, in radii of the class: a bulge is no cell


def split_touching(regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Part touching cells by a watershed of the distance to the rim (Vincent and Soille 1991).

    Its markers are the maxima of the distance that rise by `DEPTH` radii over the neck to the next one (h-maxima,
    Soille 2003). The radius is that of the class in this very image: the median over the regions that are round and
    not cut by the border. Where no region of the class is of this kind nothing is parted: the size of a cell is not
    known then, and the lobes of what comes one at a time (a clump of platelets, a lobed nucleus) are no cells.

    Args:
        regions: (H, W) connected regions of one class 1..n, 0 elsewhere.

    Returns:
        (H, W) regions 1..m, m >= n; every pixel of a region belongs to one of its parts.
    """
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed

    inside = regions > 0
    if inside.all() or not inside.any():
        return regions
    distance = ndimage.distance_transform_edt(inside)
    numbers = np.arange(1, int(regions.max()) + 1)
    radii = ndimage.maximum(distance, regions, numbers)
    areas = np.bincount(regions.ravel())[1:]
    rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    elongated = areas > ROUND * np.pi * radii**2
    single = ~elongated & ~np.isin(numbers, rim) & (radii >= 2)
    if not single.any():
        return regions
    radius = float(np.median(radii[single]))
    depth = max(DEPTH * radius, 0.5)  # less is the staircase of a rim of pixels
    parted, count = regions.copy(), len(numbers)
    boxes = ndimage.find_objects(regions)
    for index in np.flatnonzero(elongated & (radii >= SMALLEST * radius)):
        own = np.pad(regions[boxes[index]] == index + 1, 1)
        height = ndimage.gaussian_filter(np.pad(distance[boxes[index]], 1) * own, 1) * own
        peaks = height - reconstruction(np.maximum(height - depth, 0), height) >= depth - 1e-6
        markers, found = ndimage.label(peaks & own, np.ones((3, 3)))
        tops = (
            np.atleast_1d(ndimage.maximum(height, markers, np.arange(1, found + 1))) if found else np.zeros(0)
        )
        high = np.append(False, tops >= SMALLEST * radius)
        markers = np.where(high[markers], np.cumsum(high)[markers], 0)
        if high.sum() > 1:
            parts = watershed(-height, markers, mask=own)[1:-1, 1:-1]
            # The first part keeps the number of the region.
            target = parted[boxes[index]]
            target[parts > 1] = count + parts[parts > 1] - 1
            count += int(high.sum()) - 1
    return parted

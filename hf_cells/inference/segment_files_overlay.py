"""The picture by which one judges a segmentation: the stains, the cells in colours, the nuclei in white."""

import numpy as np
from skimage.segmentation import find_boundaries

from ..data.display import stretch_contrast
from .nuclei_cells import FieldLabels
from .nuclei_cells_scaling import shrink
from .overlay import draw_instances

_SIDE = 1024  # pixels: enough to judge outlines, and a tenth of the file
_WHITE = (255, 255, 255)


def draw_field(channels: dict[str, np.ndarray], labels: FieldLabels) -> np.ndarray:
    """Draw outlines of cells (in colours) and nuclei (white) over microtubules, ER and nuclei as red, green and blue.

    Args:
        channels: (H, W) images `red`, `yellow` and `blue`.
        labels: Of the same size.

    Returns:
        (h, w, 3) uint8, reduced so that the longest side is at most 1024 pixels.
    """
    height, width = labels.cells.shape
    scale = min(1.0, _SIDE / max(height, width))
    planes = [
        stretch_contrast(shrink(channels[colour], scale))[..., 0] for colour in ("red", "yellow", "blue")
    ]
    # Brightened: the thin rims of cells, where outlines are judged, are dark.
    picture = (np.sqrt(np.stack(planes, axis=-1) / 255) * 220).astype(np.uint8)
    rows = np.arange(picture.shape[0]) * height // picture.shape[0]
    columns = np.arange(picture.shape[1]) * width // picture.shape[1]
    cells, nuclei = (np.ascontiguousarray(one[rows][:, columns]) for one in (labels.cells, labels.nuclei))
    canvas = draw_instances(picture, cells)
    factor = canvas.shape[0] // cells.shape[0]
    canvas[find_boundaries(nuclei.repeat(factor, 0).repeat(factor, 1), mode="inner")] = _WHITE
    return canvas

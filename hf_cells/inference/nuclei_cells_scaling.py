"""Fields to the working scale, and labels back to the field's size with smooth outlines."""

import numpy as np
from PIL import Image
from scipy import ndimage

_MARGIN = 3


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    """Return a (H, W) image as float32 at `scale`, every pixel the weighted mean of those it covers."""
    if scale == 1:
        return image.astype(np.float32)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    return np.asarray(
        Image.fromarray(image.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    )


def enlarge_labels(labels: np.ndarray, size: tuple[int, ...], smoothing: float = 1.0) -> np.ndarray:
    """Enlarge labels to `size`; where masks of several objects compete for a pixel, the surest takes it.

    Each object's mask is blurred and interpolated, then cut at one half: outlines become curves instead of steps.

    Args:
        labels: (h, w) int32.
        size: (H, W), at least (h, w).
        smoothing: Standard deviation of the blur, in pixels of `labels`.

    Returns:
        (H, W) int32 with the same numbers.
    """
    rows, columns = size[0] / labels.shape[0], size[1] / labels.shape[1]
    best = np.full(size, 0.5, np.float32)
    out = np.zeros(size, np.int32)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        top, left = (max(0, part.start - _MARGIN) for part in place)
        bottom, right = (min(end, part.stop + _MARGIN) for part, end in zip(place, labels.shape))
        mask = (labels[top:bottom, left:right] == number).astype(np.float32)
        mask = ndimage.gaussian_filter(mask, smoothing, mode="nearest")
        y0, y1 = round(top * rows), round(bottom * rows)
        x0, x1 = round(left * columns), round(right * columns)
        large = np.asarray(Image.fromarray(mask).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR))
        wins = large > best[y0:y1, x0:x1]
        best[y0:y1, x0:x1][wins] = large[wins]
        out[y0:y1, x0:x1][wins] = number
    return out

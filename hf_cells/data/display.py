"""Images of any depth and channels as people can look at them."""

from typing import Any

import numpy as np


def stretch_contrast(image: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 with its 0.5th to 99.8th percentile over the full range.

    Grey is repeated; three channels are colours and stretched together so that hues stay; of four or more the
    first three are shown, each stretched by itself; two are magenta and green.
    """
    image = without_opaque_alpha(image)
    if image.ndim == 2 or image.shape[-1] == 1:
        grey = _stretched(image.reshape(image.shape[:2]))
        return np.stack([grey, grey, grey], axis=-1)
    channels = image.shape[-1]
    if channels == 3:
        return _stretched(image)
    planes = [_stretched(image[..., channel]) for channel in range(min(channels, 3))]
    if channels == 2:
        planes = [planes[0], planes[1], planes[0]]
    return np.stack(planes, axis=-1)


def _stretched(values: np.ndarray) -> np.ndarray:
    step = max(1, int(np.sqrt(values.size / 1_000_000)))  # a million values tell the percentiles well enough
    low, high = np.percentile(values[::step, ::step], (0.5, 99.8))
    if high <= low:
        low, high = float(values.min()), float(max(values.max(), values.min() + 1))
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(scaled, 0, 255).round().astype(np.uint8)


def without_opaque_alpha(image: np.ndarray) -> np.ndarray:
    """Drop the fourth of four channels where it is full everywhere: that is alpha, not a stain."""
    if image.ndim == 3 and image.shape[-1] == 4 and image.dtype.kind == "u":
        full: Any = np.iinfo(image.dtype).max
        if (image[..., 3] == full).all():
            return image[..., :3]
    return image

"""Colour as absorption: optical density over clear glass, and the looks that turn it back into light.

A cell absorbs; the glass, the lamp and the camera's white balance multiply. So a cell cut from one smear is
put into another by its optical density (Beer-Lambert), and at its rim, where it absorbs nothing, it meets
the new glass without a seam.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

Floats = NDArray[np.floating]

GLASS = 240  # grey of clear glass in a library: noise and reflections above it still fit 8 bits
# Mean optical density (red, green, blue) that each kind of cell is brought to in a library.
REFERENCE_DENSITY = {
    "white": np.array([0.53, 1.02, 0.30], np.float32),
    "red": np.array([0.19, 0.42, 0.26], np.float32),
    "platelet": np.array([0.38, 0.50, 0.16], np.float32),
}


def glass_colour(rgb: NDArray[np.uint8], excluded: NDArray[np.bool_] | None = None) -> Floats:
    """Colour (3,) of clear glass: the median of the pixels brighter in green than Otsu's threshold.

    Args:
        rgb: (H, W, 3).
        excluded: (H, W) True where there certainly is no glass.
    """
    green = rgb[..., 1]
    if green.min() == green.max():
        return rgb.reshape(-1, 3)[0].astype(np.float32)
    bright = green > threshold_otsu(green)
    if excluded is not None and (bright & ~excluded).any():
        bright &= ~excluded
    return np.median(rgb[bright], axis=0).astype(np.float32)


def optical_density(rgb: NDArray[np.uint8], glass: Floats) -> Floats:
    """Optical density float32 (H, W, 3): 0 on glass, a little below where noise is brighter."""
    light = np.maximum(rgb.astype(np.float32), 2.0) / np.maximum(glass, 2.0).astype(np.float32)
    return -np.log(light).astype(np.float32)


def on_reference_glass(density: Floats) -> NDArray[np.uint8]:
    """Optical density as uint8 light (H, W, 3) on glass of grey `GLASS`."""
    return np.clip(np.round(GLASS * np.exp(-density)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Look:
    """One smear's appearance.

    Attributes:
        glass: Colour of clear glass, 0..255 each.
        gain: Factor on the optical density per channel: strength of the stain.
    """

    glass: tuple[float, float, float]
    gain: tuple[float, float, float]

    def table(self) -> list[int]:
        """Lookup table of 3 x 256 entries for `PIL.Image.point` on light over reference glass."""
        light = np.arange(256, dtype=np.float64)[None] / GLASS
        values = np.array(self.glass)[:, None] * light ** np.array(self.gain)[:, None]
        return np.clip(np.round(values), 0, 255).astype(int).ravel().tolist()

"""Turning a sample and putting it over what is there, by its soft mask."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SOLID = 128  # from this alpha on a pixel belongs to the cell


def turned(rgba: NDArray[np.uint8] | Image.Image, angle: float, flipped: bool) -> Image.Image:
    """A sample mirrored and then turned by `angle` degrees, on a canvas that holds all of it.

    Pillow interpolates colours weighted by alpha, so nothing from outside the mask bleeds into the rim.
    """
    stamp = rgba if isinstance(rgba, Image.Image) else Image.fromarray(rgba)
    if flipped:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return stamp.rotate(angle, Image.Resampling.BILINEAR, expand=True)


def paste(canvas: Image.Image, stamp: Image.Image, left: int, top: int) -> None:
    """Blend a stamp over an RGB canvas; what lies outside is cut off."""
    canvas.paste(stamp, (left, top), stamp)


def mark(labels: NDArray[np.uint16], stamp: Image.Image, left: int, top: int, number: int) -> None:
    """Write `number` into the label image (H, W) where the stamp is solid."""
    height, width = labels.shape
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + stamp.height), min(width, left + stamp.width)
    if y0 < y1 and x0 < x1:
        solid = np.asarray(stamp.getchannel("A"))[y0 - top : y1 - top, x0 - left : x1 - left] >= SOLID
        labels[y0:y1, x0:x1][solid] = number

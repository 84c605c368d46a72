"""Preprocessing of whole images for a classifier: squaring, one size or several, a central crop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .image_processing_cells import CellImageProcessor

SQUARES = ("white", "zero", "reflect")
SIZINGS = ("resize", "pad", "variable")


class CellClassificationImageProcessor(CellImageProcessor):
    r"""Images of any depth, channel count and size to `pixel_values` of one size.

    Args:
        square: Pad the shorter side, centred, before resizing: "white" (the brightest value), "zero" (the darkest) or
            "reflect"; None lets `size` change the aspect.
        crop_size: `{"height": H, "width": W}` cut from the middle after resizing, or None.
        size: `{"height": H, "width": W}`, see `sizing`. Without it every image keeps its pixels.
        sizing: How `size` is reached. "resize": the image is scaled to it. "pad": it keeps its pixels, and its
            surroundings are filled with the darkest value, as it lies around a cell that was cut out. "variable": it
            keeps its pixels and its size; batches of several sizes are made in training, see `ImageSamples`. In the
            last two, images larger than `size` are scaled to fit into it, their aspect kept: what is large in the
            microscope is large for the model.
        **kwargs: As for [`CellImageProcessor`].
    """

    def __init__(
        self,
        square: str | None = None,
        crop_size: dict[str, int] | None = None,
        size: dict[str, int] | None = None,
        sizing: str = "resize",
        **kwargs: Any,
    ):
        super().__init__(size=size, **kwargs)
        if sizing not in SIZINGS:
            raise ValueError(f"sizing={sizing!r} is unknown; choose one of {', '.join(SIZINGS)}")
        if sizing != "resize" and (size is None or square or crop_size):
            raise ValueError(
                f"sizing={sizing!r} needs size, the largest, and takes no square and no crop_size"
            )
        self.sizing = sizing
        if square not in (*SQUARES, None):
            raise ValueError(f"square={square!r} is unknown; choose one of {', '.join(SQUARES)}")
        self.square = square
        self.crop_size = crop_size

    def frame(self, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Pad `(H, W, C)` to a square."""
        height, width = image.shape[:2]
        if self.square is None or height == width:
            return image
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        pads = ((top, side - height - top), (left, side - width - left), (0, 0))
        if self.square == "reflect":  # "symmetric" repeats the border pixel, so it works from one pixel on
            return np.pad(image, pads, "symmetric")
        ground = high if self.square == "white" else low
        if image.dtype.kind in "ui":
            most = np.iinfo(image.dtype).max
            if self.square == "white" and self.scaling == "none":
                ground = np.asarray(most)
            ground = np.clip(ground, 0, most)  # `high` is one above the level of a constant image
        framed = np.empty((side, side, image.shape[2]), image.dtype)
        framed[:] = ground
        framed[top : top + height, left : left + width] = image
        return framed

    def network_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width to which an image of this height and width is scaled."""
        if self.sizing == "resize" or self.size is None:
            return super().network_size(size)
        height, width = int(size[0]), int(size[1])
        factor = min(1.0, self.size["height"] / height, self.size["width"] / width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _margins(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, right, top and bottom margin of a scaled image of this size within `size`."""
        if self.sizing != "pad" or self.size is None:
            return 0, 0, 0, 0
        free_y, free_x = self.size["height"] - height, self.size["width"] - width
        return free_x // 2, free_x - free_x // 2, free_y // 2, free_y - free_y // 2

    def _padded(self, tensor: Tensor) -> Tensor:
        """Lay `(C, h, w)` in the middle of `size`, on the darkest value as mean and deviation leave it."""
        margins = self._margins(*tensor.shape[-2:])
        if self.image_mean is None or self.image_std is None:
            return F.pad(tensor, margins)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        ground = (-mean / std).to(tensor.dtype)
        return F.pad(tensor - ground, margins) + ground

    def _one(self, image: Any) -> Tensor:
        tensor = self._padded(super()._one(image)) if self.sizing == "pad" else super()._one(image)
        if self.crop_size is None:
            return tensor
        height, width = self.crop_size["height"], self.crop_size["width"]
        top, left = (tensor.shape[-2] - height) // 2, (tensor.shape[-1] - width) // 2
        if top < 0 or left < 0:
            raise ValueError(
                f"crop_size {height}x{width} is larger than the image ({tensor.shape[-2]}x{tensor.shape[-1]}); "
                "enlarge size or lower crop_size"
            )
        return tensor[..., top : top + height, left : left + width].contiguous()

    def to_original_size(self, maps: Tensor, size: tuple[int, int] | None) -> Tensor:
        """Lay maps `(C, h, w)` of what the model saw over the image: `(C, H, W)`, 0 where a crop hid it."""
        if size is None:
            return maps
        height, width = int(size[0]), int(size[1])
        if self.sizing == "pad":
            inner = self.network_size((height, width))
            left, _, top, _ = self._margins(*inner)
            return super().to_original_size(maps[..., top : top + inner[0], left : left + inner[1]], size)
        side = max(height, width)
        framed = (side, side) if self.square else (height, width)
        if self.crop_size is not None:
            whole = self.network_size(framed)
            top, left = (whole[0] - maps.shape[-2]) // 2, (whole[1] - maps.shape[-1]) // 2
            rest = (left, whole[1] - maps.shape[-1] - left, top, whole[0] - maps.shape[-2] - top)
            maps = F.pad(maps, rest)
        maps = super().to_original_size(maps, framed)
        top, left = (framed[0] - height) // 2, (framed[1] - width) // 2
        return maps[..., top : top + height, left : left + width]


__all__ = ["CellClassificationImageProcessor"]

"""Preprocessing of whole images for a classifier: squaring, one size, a central crop."""

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .image_processing_cells import CellImageProcessor

SQUARES = ("white", "zero", "reflect")


class CellClassificationImageProcessor(CellImageProcessor):
    r"""Images of any depth, channel count and size to `pixel_values` of one size.

    Args:
        square: Pad the shorter side, centred, before resizing: "white" (the brightest value), "zero" (the darkest) or
            "reflect"; None lets `size` change the aspect.
        crop_size: `{"height": H, "width": W}` cut from the middle after resizing, or None.
        size: `{"height": H, "width": W}` to resize to. Without it every image keeps its pixels.
        **kwargs: As for [`CellImageProcessor`].
    """

    def __init__(
        self,
        square: str | None = None,
        crop_size: dict[str, int] | None = None,
        size: dict[str, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(size=size, **kwargs)
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

    def _one(self, image: Any) -> Tensor:
        tensor = super()._one(image)
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

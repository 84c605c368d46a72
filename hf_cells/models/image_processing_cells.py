"""The only preprocessing: training, pipelines, command line and server all go through these classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from .image_reading import read_image
from .instance_decoding import DECODING_DEFAULTS, decode_instances

SCALINGS = ("percentile", "dtype", "none")


class CellImageProcessor(BaseImageProcessor):
    r"""Images of any bit depth, channel count and size to `pixel_values`.

    The steps: bring the channels to `num_channels`, scale the intensities without passing through 8 bits, optionally
    resize, subtract `image_mean` and divide by `image_std`.

    Args:
        num_channels: Channels the model wants. Grey images are repeated, an alpha channel is dropped, colour becomes
            grey (Rec. 601 luma) for a one-channel model.
        channel_names: Names of the channels. An image that is given as a mapping of channels is stacked by them.
        scaling: "percentile" maps the image's own percentiles to 0 and 1, so that 8- and 16-bit copies of an image
            look the same to the model; "dtype" divides by the largest value of the type; "none" keeps the numbers.
        percentiles: The two percentiles (0–100), taken over all channels together, or per channel.
        per_channel: Take the percentiles of each channel alone (for stains on separate detectors).
        image_mean: Per channel, subtracted after scaling; None for no subtraction.
        image_std: Per channel.
        size: `{"height": H, "width": W}` to resize to (antialiased), or None to keep the pixels.
        magnification: Factor by which the image is enlarged before the model sees it; its maps are brought back to
            the image's own pixels. Small objects gain the precision of their outlines.
        max_pixels: Larger images are refused.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        num_channels: int = 3,
        channel_names: list[str] | None = None,
        scaling: str = "percentile",
        percentiles: Sequence[float] = (0.5, 99.8),
        per_channel: bool = False,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        size: dict[str, int] | None = None,
        magnification: float = 1.0,
        max_pixels: int = 100_000_000,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if scaling not in SCALINGS:
            raise ValueError(f"scaling={scaling!r} is unknown; choose one of {', '.join(SCALINGS)}")
        self.num_channels = num_channels
        self.channel_names = channel_names
        self.scaling = scaling
        self.percentiles = list(percentiles)
        self.per_channel = per_channel
        self.image_mean = image_mean
        self.image_std = image_std
        self.size = size
        self.magnification = magnification
        self.max_pixels = max_pixels

    def preprocess(self, images: Any, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """Turn one image or a list into a batch.

        Args:
            images: Paths, bytes, PIL images, arrays or tensors, one or a list of them.
            return_tensors: Only "pt".
            **kwargs: Taken and not used: stock pipelines pass settings of their own.

        Returns:
            `pixel_values` `(B, num_channels, H, W)` float32. Images of several sizes are padded at the bottom and on
            the right by repeating the border; `target_sizes` in the post-processing crops them again.

        Raises:
            ValueError: For an image that cannot be read, has other channels than the model, or is too large.
        """
        single = not isinstance(images, (list, tuple))
        tensors = [self._one(image) for image in ([images] if single else images)]
        height = max(t.shape[-2] for t in tensors)
        width = max(t.shape[-1] for t in tensors)
        padded = [
            F.pad(t[None], (0, width - t.shape[-1], 0, height - t.shape[-2]), mode="replicate")
            for t in tensors
        ]
        return BatchFeature({"pixel_values": torch.cat(padded)}, tensor_type=return_tensors)

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        """Same as `preprocess`."""
        return self.preprocess(images, *args, **kwargs)

    def _one(self, image: Any) -> Tensor:
        pixels = self.conform(read_image(image, self.max_pixels, self.channel_names))
        low, high = self.intensity_range(pixels)
        pixels = self.frame(pixels, low, high)
        tensor = torch.from_numpy(self.scale_intensities(pixels, low, high)).permute(2, 0, 1).contiguous()
        size = self.network_size(tensor.shape[-2:])
        if size == tuple(tensor.shape[-2:]):
            return tensor
        # Without antialiasing enlarging is what augmentation's resampling does; shrinking needs it.
        return F.interpolate(tensor[None], size=size, mode="bilinear", antialias=size[0] < tensor.shape[-2])[
            0
        ]

    def frame(self, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Hook for what changes the outline of `(H, W, C)` before it is scaled; here nothing does."""
        return image

    def network_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width that the model sees of an image of this height and width."""
        if self.size is not None:
            return self.size["height"], self.size["width"]
        height, width = (max(1, round(int(extent) * self.magnification)) for extent in size)
        return height, width

    def conform(self, image: np.ndarray) -> np.ndarray:
        """Bring `(H, W)` or `(H, W, C)` to `(H, W, num_channels)`, the values untouched where channels agree."""
        if image.ndim == 2:
            image = image[..., None]
        channels, wanted = image.shape[-1], self.num_channels
        if (channels in (2, 4) and channels == wanted + 1) or (channels == 4 and wanted == 1):
            image, channels = image[..., :-1], channels - 1
        if channels == wanted:
            return image
        if channels == 1:
            return np.repeat(image, wanted, axis=-1)
        if wanted == 1 and channels == 3:
            grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            return (np.rint(grey) if image.dtype.kind in "ui" else grey).astype(image.dtype)[..., None]
        raise ValueError(f"the image has {channels} channels, the model takes {wanted}; give {wanted} or 1")

    def intensity_range(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what maps to 0 and to 1: two float32 arrays of shape `(1,)` or `(num_channels,)`."""
        if self.scaling == "percentile":
            channels = [image[..., c] for c in range(image.shape[-1])] if self.per_channel else [image]
            low, high = np.array(
                [_percentiles(channel, self.percentiles) for channel in channels], np.float32
            ).T
            # One grey level, or what float32 can still tell apart: a constant image must not divide by zero.
            least = np.maximum(np.abs(low), 1) * np.float32(1e-6) if image.dtype.kind == "f" else 1
            return low, np.maximum(high, low + least)
        top = np.iinfo(image.dtype).max if self.scaling == "dtype" and image.dtype.kind in "ui" else 1
        return np.zeros(1, np.float32), np.full(1, top, np.float32)

    def scale_intensities(self, image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Map `low` to 0 and `high` to 1, then mean and standard deviation; float32, same shape."""
        centred = (
            image.astype(np.float32) - low
        )  # first, so that a narrow range far from zero keeps its digits
        if self.image_mean is None or self.image_std is None:
            return centred * (1 / (high - low))
        mean, std = np.asarray(self.image_mean, np.float32), np.asarray(self.image_std, np.float32)
        return centred * (1 / (high - low) / std) - mean / std

    def to_original_size(self, maps: Tensor, size: tuple[int, int] | None) -> Tensor:
        """Undo what `preprocess` did to the size: crop the padding, or resize back. `(C, h, w)` to `(C, H, W)`."""
        if size is None:
            return maps
        original = (int(size[0]), int(size[1]))
        height, width = self.network_size(original)
        maps = maps[..., :height, :width]
        if tuple(maps.shape[-2:]) == original:
            return maps
        shrink = maps.shape[-2] > original[0]
        return F.interpolate(maps[None], size=original, mode="bilinear", antialias=shrink)[0]


class CellSemanticImageProcessor(CellImageProcessor):
    """Preprocessing, and label maps out of a semantic model's logits."""

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Return one `(H, W)` int64 label map per image.

        Args:
            outputs: Model output with `logits` `(B, num_labels, h, w)`.
            target_sizes: Height and width of each original image.
        """
        logits = outputs["logits"].float()
        sizes = target_sizes if target_sizes is not None else [None] * len(logits)
        return [self.to_original_size(maps, size).argmax(0) for maps, size in zip(logits, sizes)]


class CellInstanceImageProcessor(CellImageProcessor):
    r"""Preprocessing, and objects out of an instance model's maps.

    Args:
        decision_thresholds: Settings of the decoding, chosen on validation images; see
            `instance_decoding.DECODING_DEFAULTS` for their names and meaning.
        thresholds_chosen_on: Where they come from: "default", or the split they were chosen on.
        **kwargs: As for [`CellImageProcessor`].
    """

    def __init__(
        self,
        decision_thresholds: dict[str, float] | None = None,
        thresholds_chosen_on: str = "default",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.thresholds_chosen_on = thresholds_chosen_on
        unknown = set(decision_thresholds or {}) - set(DECODING_DEFAULTS)
        if unknown:
            raise ValueError(
                f"unknown decision_thresholds {sorted(unknown)}; known: {', '.join(DECODING_DEFAULTS)}"
            )
        self.decision_thresholds = {**DECODING_DEFAULTS, **(decision_thresholds or {})}

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.0,
        mask_threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Return the objects of each image.

        Args:
            outputs: Model output with `logits` `(B, len(INSTANCE_MAPS), h, w)`.
            threshold: Objects with a lower score are left out (the stock pipeline passes 0.9).
            mask_threshold: Taken and not used: the foreground threshold is part of `decision_thresholds`.
            overlap_mask_area_threshold: Taken and not used: objects never overlap.
            target_sizes: Height and width of each original image.
            **kwargs: `decision_thresholds` for this call alone.

        Returns:
            Per image `segmentation`, `(H, W)` int32 with 0 for background, and `segments_info`, a list of
            `{"id", "label_id", "score"}`.
        """
        thresholds = {**self.decision_thresholds, **kwargs.get("decision_thresholds", {})}
        logits = outputs["logits"].float().cpu()
        sizes = target_sizes if target_sizes is not None else [None] * len(logits)
        results = []
        for maps, size in zip(logits, sizes):
            labels, scores = decode_instances(self.to_original_size(maps, size).numpy(), thresholds)
            kept = np.flatnonzero(scores >= threshold) + 1
            renumber = np.zeros(len(scores) + 1, np.int32)
            renumber[kept] = np.arange(1, len(kept) + 1)
            info = [
                {"id": int(renumber[i]), "label_id": 0, "score": round(float(scores[i - 1]), 6)} for i in kept
            ]
            results.append({"segmentation": torch.from_numpy(renumber[labels]), "segments_info": info})
        return results


def _percentiles(values: np.ndarray, percentiles: Sequence[float]) -> list[float]:
    """Percentiles; of 8- and 16-bit images by their histogram, which is exact to one grey level and 20× faster."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel()).cumsum()
        return [float(np.searchsorted(counts, max(counts[-1] * p / 100, 1))) for p in percentiles]
    finite = values[np.isfinite(values)]
    return [float(p) for p in np.percentile(finite, percentiles)] if finite.size else [0.0, 1.0]


__all__ = ["CellImageProcessor", "CellInstanceImageProcessor", "CellSemanticImageProcessor"]

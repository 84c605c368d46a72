"""The model that is exported, and the images on which the export is compared with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import CellsError
from ...models.image_reading import read_image
from ...models.loading import pipeline

_PLAIN_SIDE = 96  # of the test image of a model that comes without examples


@dataclass(frozen=True)
class Source:
    """A model of this package on the CPU, in evaluation mode.

    Attributes:
        folder: Where it lies, or its name on the Hub.
        model: The network.
        processor: Its image processor.
        images: Names of the images, and their pixels as they were read.
    """

    folder: str
    model: Any
    processor: Any
    images: dict[str, np.ndarray]

    @property
    def segments(self) -> bool:
        """Whether the model gives maps and takes images of any size."""
        return hasattr(self.model, "multiple")

    @property
    def finds_instances(self) -> bool:
        """Whether its maps have to be decoded into objects."""
        return hasattr(self.processor, "post_process_instance_segmentation")

    @property
    def multiple(self) -> int:
        """Sides of what the exported network takes are multiples of this; 1 where it takes one size only."""
        if self.segments:
            return int(self.model.multiple)
        config = self.model.config
        sized = self.processor.size and self.processor.sizing != "variable"
        if sized or self.processor.crop_size or config.pooling == "flatten":
            return 1
        return (
            config.stem_stride * math.prod(config.per_stage("downsample")) if config.backbone is None else 32
        )

    @property
    def labels(self) -> list[str]:
        """Names of the classes in the order of the logits."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    def batches(self) -> list[Tensor]:
        """Return `(1, C, H, W)` pixel values of each image, cut to sides that every format takes."""
        return [self.cut(self.processor(image)["pixel_values"]) for image in self.images.values()]

    def cut(self, pixel_values: Tensor) -> Tensor:
        """Cut a batch from the top left to sides that are multiples of `multiple`, two of them at least."""
        if self.multiple == 1:
            return pixel_values
        height, width = (max(2, side // self.multiple) * self.multiple for side in pixel_values.shape[-2:])
        pad = (0, max(0, width - pixel_values.shape[-1]), 0, max(0, height - pixel_values.shape[-2]))
        padded = nn.functional.pad(pixel_values, pad, mode="replicate") if any(pad) else pixel_values
        return padded[..., :height, :width].contiguous()

    @torch.no_grad()
    def logits(self, pixel_values: Tensor) -> np.ndarray:
        """What the original says."""
        return self.model(pixel_values).logits.float().numpy()


class LogitsOnly(nn.Module):
    """The network with one tensor in and one out, as the exporters want it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(pixel_values).logits


def load_source(model: str | Path, images: Sequence[str | Path] = ()) -> Source:
    """Load what is to be exported.

    Args:
        model: Folder or name on the Hub.
        images: Files to compare on; by default the examples of the repository, else one smooth made-up image.

    Raises:
        CellsError: The model or an image cannot be loaded, or an image does not suit the model.
    """
    pipe = pipeline(model, device="cpu")
    network, processor = pipe.model.eval().to(memory_format=torch.contiguous_format), pipe.image_processor
    paths = [Path(path) for path in images] or sorted(Path(model).glob("examples/*"))
    pixels = {}
    for path in paths:
        try:
            pixels[path.name] = read_image(path)
            processor(pixels[path.name])
        except (OSError, ValueError) as error:
            raise CellsError(
                f"cannot compare on {path}: {error}; give an image that the model takes"
            ) from error
    return Source(
        str(model), network, processor, pixels or {"made-up image": _plain_image(processor.num_channels)}
    )


def _plain_image(channels: int) -> np.ndarray:
    """Soft spots on a slope, `(H, W)` or `(H, W, C)` uint8: any model takes it and no channel is constant."""
    rows, columns = np.mgrid[:_PLAIN_SIDE, :_PLAIN_SIDE] / _PLAIN_SIDE
    planes = [
        120 + 60 * np.sin(7 * rows + index) * np.cos(9 * columns - index) + 60 * rows * columns
        for index in range(channels)
    ]
    image = np.stack(planes, -1).round().astype(np.uint8)
    return image[..., 0] if channels == 1 else image

"""Augmentation of segmentation samples: geometry and light, drawn anew for every sample, training only.

Every draw is a function of (seed, epoch, position in the epoch): neither the number of workers nor a restart in the
middle of an epoch changes what a sample looks like.
"""

import copy
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CellsError


def sample_generator(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random generator of one sample (Philox, counter-based)."""
    key = np.array([seed % 2**64, (epoch << 40) + position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def settings_of(kind: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Check the section `augmentation` of a recipe against the fields of a dataclass; lists become tuples."""
    known = [field.name for field in fields(kind)]
    for name in settings:
        if name not in known:
            raise CellsError(f"augmentation.{name} is unknown; choose from: {', '.join(known)}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes. Zero (or one for `scale`) switches a change off.

    Attributes:
        size: Side of the square crop, in pixels.
        scale: Smallest and largest magnification, log-uniform.
        rotation: Largest rotation, in degrees.
        aspect: Largest log ratio of the two axes.
        flip: Mirror half of the samples.
        gamma: Largest log exponent on intensities, for half of the samples.
        contrast: Largest log gain.
        brightness: Standard deviation of the offset; 1 is the image's own range.
        noise: Largest standard deviation of pixel noise, for half of the samples.
        blur: Largest standard deviation of a Gaussian blur, in pixels, for a quarter of the samples.
        invert: Share of samples turned into their negative.
        colour: Standard deviation of a random mixing of the channels, for half of the colour samples.
        grey: Share of colour samples turned grey.
    """

    size: int = 256
    scale: tuple[float, float] = (0.6, 1.7)
    rotation: float = 180.0
    aspect: float = 0.15
    flip: bool = True
    gamma: float = 0.5
    contrast: float = 0.3
    brightness: float = 0.05
    noise: float = 0.06
    blur: float = 1.2
    invert: float = 0.05
    colour: float = 0.15
    grey: float = 0.2

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "Augmentation":
        """Build from a recipe's section; unknown names are an error."""
        settings = settings_of(cls, settings)
        scale = settings.get("scale", cls.scale)
        if not (isinstance(scale, tuple) and len(scale) == 2 and 0 < scale[0] <= scale[1]):
            raise CellsError(
                f"augmentation.scale is {scale}; give the smallest and largest, such as [0.8, 1.25]"
            )
        return cls(**settings)

    def __call__(
        self, window: "Window", labels: np.ndarray, draw: np.random.Generator
    ) -> tuple[Tensor, np.ndarray]:
        """Cut one random crop.

        Args:
            window: The image, and how to scale its intensities.
            labels: `(H, W)` integer label map; looked up at the nearest pixel, never mixed.
            draw: The sample's generator.

        Returns:
            `(C, size, size)` float32 and `(size, size)` int32.
        """
        height, width = labels.shape
        magnification = math.exp(draw.uniform(*np.log(self.scale)))
        angle = math.radians(draw.uniform(-self.rotation, self.rotation))
        stretch = math.exp(draw.uniform(-self.aspect, self.aspect))
        mirror = -1.0 if self.flip and draw.random() < 0.5 else 1.0
        half = self.size / 2 / magnification
        matrix = half * np.array(
            [
                [math.cos(angle) * stretch * mirror, -math.sin(angle) / stretch],
                [math.sin(angle) * stretch * mirror, math.cos(angle) / stretch],
            ]
        )
        reach = np.abs(matrix).sum(1)  # half the width and height of the box around the turned crop
        centre = [
            draw.uniform(min(half, extent / 2), max(extent - half, extent / 2)) for extent in (width, height)
        ]
        x0, x1 = max(0, int(centre[0] - reach[0]) - 2), min(width, int(centre[0] + reach[0]) + 3)
        y0, y1 = max(0, int(centre[1] - reach[1]) - 2), min(height, int(centre[1] + reach[1]) + 3)
        pixels = window.crop(y0, y1, x0, x1)
        if magnification < 0.8:  # fewer pixels than before: remove what they could not show
            pixels = gaussian_blur(pixels, 0.4 / magnification)
        extent = np.array([x1 - x0, y1 - y0], np.float64)
        theta = np.concatenate(
            [2 * matrix / extent[:, None], (2 * (centre - np.array([x0, y0])) / extent - 1)[:, None]], 1
        )
        grid = F.affine_grid(
            torch.from_numpy(theta).float()[None], [1, 1, self.size, self.size], align_corners=False
        )
        cut = torch.from_numpy(labels[y0:y1, x0:x1].astype(np.float32))[None, None]
        image = F.grid_sample(pixels[None], grid, padding_mode="reflection", align_corners=False)[0]
        truth = F.grid_sample(cut, grid, "nearest", padding_mode="reflection", align_corners=False)[0, 0]
        return self.light(image, draw), truth.numpy().astype(np.int32)

    def light(self, image: Tensor, draw: np.random.Generator) -> Tensor:
        """Change intensities and colours of `(C, H, W)`; a grey image comes as one channel and stays grey."""
        colour = len(image) == 3
        if self.gamma and draw.random() < 0.5:
            image = image.clamp(0, 1.5) ** math.exp(draw.uniform(-self.gamma, self.gamma))
        if colour and self.colour and draw.random() < 0.5:
            mixing = np.eye(3) + draw.normal(0, self.colour, (3, 3))
            image = torch.einsum("ij,jhw->ihw", torch.from_numpy(mixing).float(), image)
        if colour and draw.random() < self.grey:
            image = image.mean(0, keepdim=True)
        if draw.random() < self.invert:
            image = 1 - image
        if self.blur and draw.random() < 0.25:
            image = gaussian_blur(image, draw.uniform(0.3, max(self.blur, 0.3)))
        gain = math.exp(draw.uniform(-self.contrast, self.contrast))
        image = image * gain + draw.normal(0, 1) * self.brightness
        if self.noise and draw.random() < 0.5:
            noise = torch.from_numpy(draw.standard_normal(image.shape, np.float32))
            image = image + noise * draw.uniform(0, self.noise)
        return image


class Window:
    """A decoded image with its intensity range, so that a crop is scaled exactly as the whole image would be.

    Mean and standard deviation are left to the end: changes of light are defined on the range from 0 to 1.
    """

    def __init__(self, processor: Any, image: np.ndarray):
        self.processor = copy.copy(processor)
        self.processor.image_mean = self.processor.image_std = None
        conformed = processor.conform(image)
        self.low, self.high = processor.intensity_range(conformed)
        # Grey stored as colour is kept as one channel: a third of the work.
        flat = len(self.low) == 1 and (conformed[..., :1] == conformed).all()
        self.pixels = np.ascontiguousarray(conformed[..., :1] if flat else conformed)

    def crop(self, y0: int, y1: int, x0: int, x1: int) -> Tensor:
        """Return a scaled piece, `(C, h, w)` float32."""
        scaled = self.processor.scale_intensities(self.pixels[y0:y1, x0:x1], self.low, self.high)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur `(C, H, W)` with a separable Gaussian; borders repeat."""
    radius = max(1, math.ceil(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = (line / line.sum()).view(1, 1, 1, -1)
    x = F.pad(image[:, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(x, line), line.transpose(2, 3))[:, 0]

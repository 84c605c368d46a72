"""Augmentation of whole images for classifiers: parameters drawn per sample, applied to the batch at once.

Every draw is a function of (seed, epoch, position in the epoch), as in `augmentation`. The mixes (MixUp, CutMix,
Mosaic) take their partners from the same batch and return soft labels, so no label is ever wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CellsError
from .augmentation import sample_generator, settings_of

BORDERS = ("zeros", "border", "reflection")
_DRAWS = 24  # numbers drawn for each sample, whichever changes are on: switching one on leaves the others as they were


@dataclass(frozen=True)
class ImageAugmentation:
    """Ranges of the random changes. The defaults change nothing.

    Attributes:
        size: Height and width of the result, or None for those of the input.
        crop: Smallest and largest share of the side that is kept: a random crop, resized.
        scale: Smallest and largest magnification about the centre, log-uniform.
        aspect: Largest log ratio of the two axes.
        rotation: Largest rotation, in degrees.
        shear: Largest shear, in degrees (with the others: an affine map).
        shift: Largest shift, as a share of the side.
        horizontal_flip: Mirror half of the samples left to right.
        vertical_flip: Mirror half of the samples top to bottom.
        transpose: Exchange rows and columns of half of the samples; with both flips, all quarter turns.
        hue: Largest turn of the hue, as a share of the circle.
        saturation: Largest log gain of the saturation.
        exposure: Largest log gain of the intensities.
        brightness: Largest offset; 1 is the whole range.
        contrast: Largest log gain about the mean of the image.
        gamma: Largest log exponent.
        blur: Largest standard deviation of a Gaussian blur, in pixels, for half of the samples.
        noise: Largest standard deviation of pixel noise.
        cutout: Largest side of a square painted with the image's mean, as a share, for half of the samples (DeVries &
            Taylor 2017).
        mixup: Parameter of the Beta distribution of MixUp (Zhang et al. 2018); 0: off.
        cutmix: Parameter of the Beta distribution of CutMix (Yun et al. 2019); 0: off.
        mosaic: Share of samples that become a mosaic of four (Bochkovskiy et al. 2020).
        mix_probability: Share of samples that are mixed by MixUp or CutMix (either, where both are on).
        warp_probability: Share of samples that are scaled, stretched, rotated, sheared and shifted. Resampling blurs,
            and nothing is resampled in prediction: a network that has only seen soft pixels takes sharp ones for
            another texture. The others are flipped, transposed, cropped and resized only; changes of light, blur and
            noise are for all.
        border: What lies beyond the image: "zeros", "border" (repeat) or "reflection".
    """

    size: tuple[int, int] | None = None
    crop: tuple[float, float] = (1.0, 1.0)
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    transpose: bool = False
    warp_probability: float = 1.0
    hue: float = 0.0
    saturation: float = 0.0
    exposure: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mosaic: float = 0.0
    mix_probability: float = 1.0
    border: str = "reflection"

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "ImageAugmentation":
        """Build from a recipe's section; unknown names are an error."""
        made = cls(**settings_of(cls, settings))
        if made.border not in BORDERS:
            raise CellsError(
                f"augmentation.border={made.border!r} is unknown; choose from: {', '.join(BORDERS)}"
            )
        if made.size is not None and not (isinstance(made.size, tuple) and len(made.size) == 2):
            raise CellsError(f"augmentation.size is {made.size}; give height and width, such as [224, 224]")
        if not 0 <= made.warp_probability <= 1:
            raise CellsError(
                f"augmentation.warp_probability is {made.warp_probability}; give a share, 0 to 1"
            )
        for name in ("crop", "scale"):
            pair = getattr(made, name)
            if not (isinstance(pair, tuple) and len(pair) == 2 and 0 < pair[0] <= pair[1]):
                raise CellsError(
                    f"augmentation.{name} is {pair}; give the smallest and largest, such as [0.8, 1.25]"
                )
        return made

    @property
    def mixes(self) -> bool:
        """Whether labels come out soft."""
        return bool(self.mixup or self.cutmix or self.mosaic)

    def __call__(
        self, images: Tensor, labels: Tensor, seed: int, epoch: int, positions: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: `(B, C, H, W)` float, 0 to 1 (before mean and standard deviation).
            labels: `(B, K)` float, one-hot, 0/1 or soft.
            seed: Of the experiment.
            epoch: Epoch.
            positions: Place of each sample in the epoch.

        Returns:
            `(B, C, h, w)` float32 and `(B, K)` float32.
        """
        generators = [sample_generator(seed, epoch, position) for position in positions]
        draws = np.stack([generator.random(_DRAWS) for generator in generators])
        images = self._place(self._transposed(images.float(), draws), draws)
        images = self._colour(images, draws)
        images = self._spoil(images, draws, generators)
        return (
            self._mix(images, labels.float(), draws, generators) if self.mixes else (images, labels.float())
        )

    def _transposed(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Exchange the axes; images that are not square can be so only alone, as they then have another size."""
        if not self.transpose:
            return images
        chosen = _digits_after_the_first(draws[:, 5]) < 0.5
        if images.shape[-1] != images.shape[-2] and len(images) > 1:
            raise CellsError(
                f"augmentation.transpose needs square images, and these are {images.shape[-2]}x{images.shape[-1]}; "
                "give processor.size equal sides, or set augmentation.transpose=false"
            )
        if len(images) == 1:
            return images.transpose(-1, -2) if chosen[0] else images
        return torch.where(torch.from_numpy(chosen)[:, None, None, None], images.transpose(-1, -2), images)

    def _place(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Everything that moves pixels, in one resampling."""
        height, width = images.shape[-2:]
        size = self.size or (height, width)
        theta = torch.from_numpy(self._matrices(draws, height, width))
        still = np.array([[1, 0, 0], [0, 1, 0]])
        if size == (height, width) and np.array_equal(theta.numpy(), np.broadcast_to(still, theta.shape)):
            return images
        grid = F.affine_grid(theta.float(), [len(images), 1, *size], align_corners=False)
        return F.grid_sample(images, grid, padding_mode=self.border, align_corners=False)

    def _matrices(self, draws: np.ndarray, height: int, width: int) -> np.ndarray:
        """`(B, 2, 3)` maps from the result to the image, in coordinates from -1 to 1."""
        u = 2 * draws - 1
        warped = _digits_after_the_first(draws[:, 6]) < self.warp_probability
        angle = np.radians(self.rotation) * u[:, 0] * warped
        scale = np.exp(_between(np.log(self.scale), draws[:, 1]) * warped)
        kept = _between(self.crop, draws[:, 2])
        stretch = np.exp(self.aspect * u[:, 3] / 2 * warped)
        shear = np.tan(np.radians(self.shear) * u[:, 4] * warped)
        mirror_x = np.where(draws[:, 5] < 0.5 * self.horizontal_flip, -1.0, 1.0)
        mirror_y = np.where(draws[:, 6] < 0.5 * self.vertical_flip, -1.0, 1.0)
        cos, sin = np.cos(angle), np.sin(angle)
        zoom = kept / scale
        # Turned in pixels, where right angles are right, and then brought to the units of each axis.
        a, b = cos * stretch * mirror_x, (shear * cos - sin) / stretch * mirror_y
        c, d = sin * stretch * mirror_x, (shear * sin + cos) / stretch * mirror_y
        matrix = np.stack(
            [
                np.stack([a * zoom, b * zoom * height / width], 1),
                np.stack([c * zoom * width / height, d * zoom], 1),
            ],
            1,
        )
        # A crop may lie anywhere in the image, but on whole pixels: one that is not resized then stays as sharp.
        margin, sides = (1 - kept)[:, None], np.array([width, height])
        places = np.floor(margin * sides + 1e-9) + 1
        free = 2 * np.floor(draws[:, 7:9] * places) / sides - margin
        moved = 2 * self.shift * u[:, 9:11] * warped[:, None]
        return np.concatenate([matrix, (free + moved)[:, :, None]], 2)

    def _colour(self, images: Tensor, draws: np.ndarray) -> Tensor:
        """Everything that changes values: one affine map of the channels, then the exponent."""
        u = 2 * draws - 1
        channels = images.shape[1]
        if self.gamma:
            exponent = _column(np.exp(self.gamma * u[:, 11]))
            images = images.clamp(0, 1) ** exponent
        if channels == 3 and (self.hue or self.saturation):
            mixing = _hue_and_saturation(2 * np.pi * self.hue * u[:, 12], np.exp(self.saturation * u[:, 13]))
            images = torch.einsum("bij,bjhw->bihw", torch.from_numpy(mixing).float(), images)
        if self.exposure or self.contrast or self.brightness:
            gain = _column(np.exp(self.exposure * u[:, 14]))
            contrast = _column(np.exp(self.contrast * u[:, 15]))
            mean = images.mean((1, 2, 3), keepdim=True)
            images = (images - mean) * (gain * contrast) + mean * gain + _column(self.brightness * u[:, 16])
        return images

    def _spoil(self, images: Tensor, draws: np.ndarray, generators: list[np.random.Generator]) -> Tensor:
        """Blur, noise and cutout."""
        height, width = images.shape[-2:]
        if self.blur:
            sigma = np.where(draws[:, 17] < 0.5, self.blur * draws[:, 18], 0)
            images = blur(images, sigma)
        if self.noise:
            fields = np.stack([g.standard_normal(images.shape[1:], np.float32) for g in generators])
            images = images + torch.from_numpy(fields) * _column(self.noise * draws[:, 19])
        if self.cutout:
            images = images.clone()
            for image, draw, generator in zip(images, draws, generators):
                if draw[20] < 0.5:
                    side = self.cutout * generator.random()
                    top, left, rows, columns = _box(side, side, height, width, generator)
                    image[:, top : top + rows, left : left + columns] = image.mean((1, 2), keepdim=True)
        return images

    def _mix(
        self, images: Tensor, labels: Tensor, draws: np.ndarray, generators: list[np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Mix each sample with the next ones of the batch."""
        height, width = images.shape[-2:]
        mixed, soft = images.clone(), labels.clone()
        for i, (draw, generator) in enumerate(zip(draws, generators)):
            partners = [(i + step) % len(images) for step in (1, 2, 3)]
            if draw[21] < self.mosaic:
                mixed[i], soft[i] = _mosaic(images, labels, [i, *partners], generator)
            elif draw[22] < self.mix_probability and (self.mixup or self.cutmix):
                other = partners[0]
                if self.cutmix and (not self.mixup or draw[23] < 0.5):
                    side = math.sqrt(1 - generator.beta(self.cutmix, self.cutmix))
                    top, left, rows, columns = _box(side, side, height, width, generator)
                    mixed[i, :, top : top + rows, left : left + columns] = images[
                        other, :, top : top + rows, left : left + columns
                    ]
                    share = 1 - rows * columns / (height * width)
                else:
                    share = generator.beta(self.mixup, self.mixup)
                    mixed[i] = share * images[i] + (1 - share) * images[other]
                soft[i] = share * labels[i] + (1 - share) * labels[other]
        return mixed, soft


def _digits_after_the_first(draws: np.ndarray) -> np.ndarray:
    """Return another draw from 0 to 1: a flip takes the first binary digit only, and the rest is as good."""
    return (2 * draws) % 1


def _mosaic(
    images: Tensor, labels: Tensor, members: list[int], generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Four images, each shrunk into its corner about a random centre; labels by area."""
    height, width = images.shape[-2:]
    y, x = (round(side * generator.uniform(0.3, 0.7)) for side in (height, width))
    y, x = min(max(y, 1), height - 1), min(max(x, 1), width - 1)
    canvas, soft = torch.empty_like(images[0]), torch.zeros_like(labels[0])
    corners = ((0, y, 0, x), (0, y, x, width), (y, height, 0, x), (y, height, x, width))
    for member, (top, bottom, left, right) in zip(members, corners):
        piece = F.interpolate(
            images[member][None], (bottom - top, right - left), mode="bilinear", antialias=True
        )
        canvas[:, top:bottom, left:right] = piece[0]
        soft += labels[member] * ((bottom - top) * (right - left) / (height * width))
    return canvas, soft


def blur(images: Tensor, sigmas: np.ndarray) -> Tensor:
    """Blur `(B, C, H, W)` with a separable Gaussian of its own width for each image; 0 leaves it alone."""
    radius = min(math.ceil(2.5 * float(sigmas.max(initial=0))), min(images.shape[-2:]) - 1)
    if radius < 1:
        return images
    batch, channels = images.shape[:2]
    taps = np.arange(-radius, radius + 1)
    reach = np.ceil(2.5 * sigmas)[:, None]  # each image's own: the others of the batch must not matter
    lines = np.exp(-0.5 * (taps / np.maximum(sigmas, 1e-3)[:, None]) ** 2) * (np.abs(taps) <= reach)
    lines = lines / lines.sum(1, keepdims=True)
    kernel = torch.from_numpy(np.repeat(lines, channels, 0)).float()[:, None, None]
    flat = F.pad(images.reshape(1, batch * channels, *images.shape[-2:]), (radius,) * 4, mode="reflect")
    flat = F.conv2d(
        F.conv2d(flat, kernel, groups=batch * channels), kernel.transpose(2, 3), groups=batch * channels
    )
    return flat.reshape(images.shape)


def _between(limits: Any, share: np.ndarray) -> np.ndarray:
    low, high = limits
    return low + (high - low) * share


def _column(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))[:, None, None, None]


def _box(
    rows: float, columns: float, height: int, width: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of a box that lies within the image; the sides are given as shares."""
    h, w = round(rows * height), round(columns * width)
    return int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1)), h, w


def _hue_and_saturation(angle: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """`(B, 3, 3)` maps of RGB that turn and stretch the two colour axes of YIQ and leave the luma."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -saturation * np.sin(angle), saturation * np.sin(angle)
    return np.linalg.inv(to_yiq) @ turn @ to_yiq

"""Distributions of intensities, in which every image counts alike, at the depth that the files have."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.display import without_opaque_alpha

MOST_PIXELS = 2**18  # of an image; a regular grid of so many tells its distribution
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
Channel = tuple[str, str]  # name and dtype
Group = tuple[str, str]  # ("split", "train") or ("class", "Golgi")

_COLOURS = ("red", "green", "blue")


def channels_of(image: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """Channels by name; an opaque alpha is none, and grey that is saved as colour is grey.

    Args:
        image: (H, W) or (H, W, C).
        names: Of the columns that hold the channels; [] where one column holds the image.
    """
    if names:
        return dict(zip(names, np.moveaxis(np.atleast_3d(image), -1, 0)))
    image = without_opaque_alpha(image)
    if image.ndim == 2 or (image == image[..., :1]).all():
        return {"grey": image.reshape(image.shape[0], image.shape[1], -1)[..., 0]}
    count = image.shape[-1]
    named = _COLOURS if count == 3 else [f"channel {number}" for number in range(1, count + 1)]
    return {name: image[..., index] for index, name in enumerate(named)}


def histogram(values: np.ndarray) -> np.ndarray:
    """Share of the pixels at each value, (256,) or (65536,) float32.

    16 bits are counted one by one. Other numbers are counted at half precision, whose 65536 codes suffice for a
    figure whatever their range is; `levels` gives the values back.
    """
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
    elif values.dtype == np.uint16:
        counts = np.bincount(values.ravel(), minlength=65536)
    else:
        largest = np.finfo(np.float16).max
        halves = np.clip(np.nan_to_num(values), -largest, largest).astype(np.float16)
        counts = np.bincount(halves.view(np.uint16).ravel(), minlength=65536)
    return (counts / values.size).astype(np.float32)


def levels(dtype: str) -> np.ndarray:
    """Value of each entry of a histogram."""
    if dtype in ("uint8", "uint16"):
        return np.arange(256 if dtype == "uint8" else 65536, dtype=np.float64)
    return np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)


@dataclass
class Intensities:
    """Sums of the histograms of images, by channel and by split or class; half a megabyte each at 16 bits."""

    sums: dict[Channel, dict[Group, np.ndarray]] = field(default_factory=dict)
    images: dict[Channel, int] = field(default_factory=dict)

    def add(self, found: Mapping[Channel, Mapping[Group, np.ndarray]]) -> None:
        """Add the histograms of one image."""
        for channel, groups in found.items():
            self.images[channel] = self.images.get(channel, 0) + 1
            own = self.sums.setdefault(channel, {})
            for group, shares in groups.items():
                if group in own:
                    own[group] += shares
                else:
                    own[group] = shares.astype(np.float64)

    def distribution(self, channel: Channel, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """Values in rising order, and the share of pixels at each, summing to 1."""
        values, shares = levels(channel[1]), self.sums[channel][group]
        kept = np.flatnonzero(shares > 0)
        kept = kept[np.argsort(values[kept], kind="stable")]
        return values[kept], shares[kept] / shares.sum()

    def numbers(self, channel: Channel, group: Group) -> dict[str, float]:
        """Mean, standard deviation, percentiles, and the share of pixels at the largest value of the type."""
        values, shares = self.distribution(channel, group)
        mean = float((values * shares).sum())
        cumulative = np.cumsum(shares)
        places = np.searchsorted(cumulative, np.array(PERCENTILES) / 100).clip(max=len(values) - 1)
        told = {f"p{p}": float(values[place]) for p, place in zip(PERCENTILES, places)}
        told |= {"mean": mean, "std": float(np.sqrt(((values - mean) ** 2 * shares).sum()))}
        if channel[1] != "float32":
            told["saturated"] = float(shares[values == np.iinfo(channel[1]).max].sum())
        return {key: float(f"{value:.6g}") for key, value in told.items()}

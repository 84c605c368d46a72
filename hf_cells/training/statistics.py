"""What a recipe leaves to the training split: mean and standard deviation of intensities, frequency of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.samples import truth_of
from ..errors import CellsError
from ..progress import track

FROM_TRAINING = "train"
_MOST_IMAGES = 2000  # of a larger split a seeded draw is measured: the third digit no longer moves


def resolve_normalisation(
    processor_class: Any, settings: dict[str, Any], rows: Sequence[Any], seed: int
) -> dict[str, Any]:
    """Replace `image_mean: train` and `image_std: train` by what the training images have.

    Measured on `pixel_values` as the processor gives them without normalisation, so scaled and resized.

    Args:
        processor_class: Class of the image processor.
        settings: Its arguments; numbers are left as they are.
        rows: Of the training split, with `image`.
        seed: Draws the images of a split with more than 2000.

    Raises:
        CellsError: Only one of the two is `train`, or a text is neither a list of numbers nor `train`.
    """
    wanted = [settings.get(name) for name in ("image_mean", "image_std")]
    if not any(isinstance(value, str) for value in wanted):
        return settings
    if wanted != [FROM_TRAINING, FROM_TRAINING]:
        raise CellsError(
            f"processor.image_mean={wanted[0]!r} and image_std={wanted[1]!r}: give `train` for both, or numbers"
        )
    processor = processor_class(**{**settings, "image_mean": None, "image_std": None})
    count, total, squares = 0, np.zeros(processor.num_channels), np.zeros(processor.num_channels)
    for index in track(_drawn(len(rows), seed), "measuring mean and std"):
        pixels = processor(rows[index]["image"])["pixel_values"][0].double().numpy()
        count += pixels[0].size
        total += pixels.sum((1, 2))
        squares += (pixels**2).sum((1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return {**settings, "image_mean": _short(mean), "image_std": _short(np.maximum(std, 1e-3))}


def frequency_weights(rows: Sequence[Any], num_labels: int, seed: int, power: float = 1.0) -> list[float]:
    """Weigh every class by (pixels of all classes / its pixels)^power, scaled so that the mean pixel weighs 1.

    A class without a pixel in the training split weighs as much as the rarest one.

    Args:
        rows: Of the training split, with `semantic_mask`.
        num_labels: Classes, background included.
        seed: Draws the images of a split with more than 2000.
        power: 1 makes all classes count alike, 0.5 halves the imbalance on a log scale.

    Raises:
        CellsError: A mask holds a class that the model does not have.
    """
    counts = np.zeros(256, np.int64)
    for index in track(_drawn(len(rows), seed), "measuring class frequencies"):
        counts += np.bincount(truth_of(rows[index]).ravel(), minlength=256)[:256]
    counts, foreign = counts[:num_labels], np.flatnonzero(counts[num_labels:255]) + num_labels
    if len(foreign):
        raise CellsError(
            f"the training masks hold class {foreign[0]}, and the model has {num_labels} classes (0 to "
            f"{num_labels - 1}); set model.config.id2label or mend the masks"
        )
    present = counts > 0
    weights = np.maximum(counts, counts[present].min()) ** -power
    return _short(weights / (weights * counts).sum() * counts.sum())


def _drawn(length: int, seed: int) -> list[int]:
    if length <= _MOST_IMAGES:
        return list(range(length))
    return sorted(np.random.default_rng(seed).choice(length, _MOST_IMAGES, replace=False).tolist())


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]

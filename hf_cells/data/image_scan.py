"""One pass over the pixels of a dataset: what an audit compares, without keeping the images."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import datasets
import numpy as np
from PIL import Image

from ..errors import CellsError
from ..models.image_reading import read_image
from ..progress import track
from .samples import ImageRows, channel_columns

T = TypeVar("T")

SIDE = 32  # of a thumbnail: a cell is still one, its noise is gone
_BATCH = 256


@dataclass
class ImageScan:
    """What is known of N readable images, in the order of the splits.

    Attributes:
        places: Split and row in it of each image.
        image_ids: N names.
        hashes: N hashes of the pixels.
        thumbnails: (N, 32, 32) float32, mean over channels, in the image's own intensities.
        colours: (N, 3) float32, mean of the first three channels; grey counts three times.
        sizes: (N, 2) height and width.
        unreadable: Split, name and reason of every image that cannot be read.
    """

    places: list[tuple[str, int]]
    image_ids: list[str]
    hashes: list[str]
    thumbnails: np.ndarray
    colours: np.ndarray
    sizes: np.ndarray
    unreadable: list[tuple[str, str, str]]


def scan_images(splits: Mapping[str, datasets.Dataset]) -> ImageScan:
    """Read every image once.

    Args:
        splits: Datasets by split name, with the columns `image_id` and `image`.

    Raises:
        CellsError: No image can be read.
    """

    def measure(place: tuple[str, int], image_id: str, stored: Any) -> tuple[Any, ...]:
        try:
            pixels = read_pixels(place[0], image_id, stored)
        except CellsError as error:
            return place[0], image_id, str(error)
        return place, image_id, pixel_hash(pixels), *_small(pixels), pixels.shape[:2]

    measured = list(map_images(splits, measure, "Reading images"))
    readable = [result for result in measured if len(result) > 3]
    unreadable = [result for result in measured if len(result) == 3]
    if not readable:
        raise CellsError(unreadable[0][2] if unreadable else "the data has no images; check data_dir")
    places, image_ids, hashes, thumbnails, colours, sizes = zip(*readable)
    return ImageScan(
        list(places),
        list(image_ids),
        list(hashes),
        np.stack(thumbnails),
        np.stack(colours),
        np.array(sizes),
        unreadable,
    )


def map_images(
    splits: Mapping[str, datasets.Dataset],
    function: Callable[[tuple[str, int], str, Any], T],
    description: str,
) -> Iterator[T]:
    """Yield `function((split, row), image id, stored image)` of every image in order, from a thread per core."""
    total = sum(len(dataset) for dataset in splits.values())
    images = track(_stored_images(splits), description, total=total)
    with ThreadPoolExecutor(
        min(16, os.cpu_count() or 1)
    ) as pool:  # decoders let go of the interpreter's lock
        while batch := list(islice(images, _BATCH)):
            yield from pool.map(lambda item: function(*item), batch)


def read_pixels(split: str, image_id: str, stored: Any) -> np.ndarray:
    """Read an image, (H, W) or (H, W, C), at full depth.

    Raises:
        CellsError: It cannot be read; names it and its split.
    """
    try:
        return read_image(stored)
    except (ValueError, OSError) as error:
        reason = str(error).removeprefix("image bytes: ")
        raise CellsError(f"image {image_id} of {split}: {reason}") from error


def pixel_hash(image: Image.Image | np.ndarray) -> str:
    """Hash decoded pixels, so that another file format, an opaque alpha channel or grey saved as colour
    does not hide a copy.
    """
    pixels = _without_empty_channels(np.asarray(image))
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def stored_rows(splits: Mapping[str, datasets.Dataset]) -> dict[str, ImageRows]:
    """Return the rows of each split with `image_id` and the stored `image`."""
    return {
        split: ImageRows(
            dataset.select_columns(["image_id", *(channel_columns(dataset.features) or ["image"])])
        )
        for split, dataset in splits.items()
    }


def _stored_images(splits: Mapping[str, datasets.Dataset]) -> Iterator[tuple[tuple[str, int], str, Any]]:
    for split, rows in stored_rows(splits).items():
        for index in range(len(rows)):
            row = rows[index]
            yield (split, index), row["image_id"], row["image"]


def _without_empty_channels(pixels: np.ndarray) -> np.ndarray:
    """Drop an opaque alpha channel, and all but one of equal channels."""
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4) and (pixels[..., -1] == 255).all():
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return pixels


def _small(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a grey thumbnail and the mean of three channels."""
    pixels = np.atleast_3d(_without_empty_channels(pixels))
    means = pixels.mean(axis=(0, 1), dtype=np.float64)
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1, dtype=np.float32)
    # Hamming is as sharp as a box and symmetric: a flipped image has the flipped thumbnail.
    small = Image.fromarray(grey.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.HAMMING)
    return np.asarray(small), np.resize(means, 3).astype(np.float32)

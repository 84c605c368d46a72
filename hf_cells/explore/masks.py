"""The objects of one mask: where they are, how large, and of which class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..metrics import class_regions
from ..models.image_reading import read_image
from .content import Content

IGNORED = 255


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one image.

    Attributes:
        labels: (H, W) int32, objects 1..n, 0 elsewhere.
        class_map: (H, W) class of every pixel, 0 = background.
        classes: (n,) class of each object.
        areas: (n,) pixels.
        boxes: n slices of rows and columns.
    """

    labels: np.ndarray
    class_map: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    boxes: Sequence[tuple[slice, slice]]


def read_objects(row: Mapping[str, Any], content: Content, shape: tuple[int, ...]) -> ImageObjects | None:
    """Read the mask of a row and find its objects.

    Instances are taken as they are. Of a map of classes these are the cells of `cell_labels` where the dataset
    knows them, else regions as of `hf_cells.metrics.class_regions`.

    Args:
        row: As of `ImageRows`.
        content: Of the dataset.
        shape: Of the image.

    Returns:
        None where the image has no mask.

    Raises:
        ValueError: The mask cannot be read, or has another size than its image.
    """
    assert content.mask_column is not None
    if row.get(content.mask_column) is None:
        return None
    mask = _read(row[content.mask_column], content.mask_column, shape)
    if content.mask_column == "instance_labels":
        ids, labels = _consecutive(mask)
        given = row.get("instance_classes")
        classes = np.ones(len(ids), np.int64)
        if given:
            classes = np.array(
                [given[number - 1] + 1 if number <= len(given) else 1 for number in ids], np.int64
            )
        class_map = np.append(0, classes)[labels]
    else:
        class_map = np.where(mask == IGNORED, 0, mask)
        if row.get("cell_labels") is not None:
            cells = _read(row["cell_labels"], "cell_labels", shape)
            _, labels = _consecutive(np.where(class_map > 0, cells, 0))
            classes = _class_of(labels, class_map)
        else:
            labels, classes = class_regions(class_map)
    areas = np.bincount(labels.ravel(), minlength=len(classes) + 1)[1:]
    return ImageObjects(labels, class_map, classes, areas, ndimage.find_objects(labels))


def class_name(content: Content, number: int) -> str:
    """Name a class of the masks; numbers that the dataset has no name for are named by themselves."""
    return content.object_names[number] if number < len(content.object_names) else f"class {number}"


def _read(stored: Any, column: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        mask = np.asarray(read_image(stored))
    except ValueError as error:
        raise ValueError(f"{column}: {str(error).removeprefix('image bytes: ')}") from error
    if mask.shape != shape[:2]:
        sizes = " and its image ".join("x".join(map(str, size)) for size in (mask.shape, shape[:2]))
        raise ValueError(f"{column} is {sizes}; replace it with one of the image's size")
    return mask.astype(np.int32)


def _consecutive(labels: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Number objects 1..n; return their old numbers and the new map."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    new = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return np.flatnonzero(present).tolist(), new[labels]


def _class_of(labels: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    """Class that most pixels of each object have."""
    count, kinds = int(labels.max(initial=0)) + 1, int(class_map.max(initial=0)) + 1
    table = np.bincount((labels.astype(np.int64) * kinds + class_map).ravel(), minlength=count * kinds)
    return table.reshape(count, kinds)[1:].argmax(axis=1)

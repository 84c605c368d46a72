"""`CellSegmentator`: the interface of the Human Protein Atlas' segmentation tool, on the libraries of today.

The published tool (HPA-Cell-Segmentation, `hpacellseg.cellsegmentator`) no longer runs on current numpy, torch and
scikit-image. Programs written for it run with this class and `label_cell` in place of its own.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..models.image_reading import read_image
from .cell_segmentator_labels import as_prediction, label_cell, label_nuclei
from .nuclei_cells import find_nuclei_of, segment_field
from .nuclei_cells_engines import CLASSICAL, load_engines

__all__ = ["CellSegmentator", "label_cell", "label_nuclei"]


class CellSegmentator:
    """Segment nuclei and whole cells of confocal images.

    Args:
        nuclei_model: "classical" (no weights), the folder or Hub name of an instance model, or its pipeline.
        cell_model: The same for cells; the model takes microtubules, ER and nuclei.
        scale_factor: Scale at which images are segmented; None chooses it by the size of the nuclei.
        device: "cpu", "cuda" or one of several such as "cuda:1"; without an accelerator, the CPU.
        padding: Reflect the images beyond their border while they are segmented, so that a network sees
            surroundings there; results have the size of the image in any case.
        multi_channel_model: Whether `pred_cells` takes the ER channel (True) or None in its place (False).

    Raises:
        CellsError: A model cannot be loaded.
        ValueError: The device is none.
    """

    def __init__(
        self,
        nuclei_model: Any = CLASSICAL,
        cell_model: Any = CLASSICAL,
        scale_factor: float | None = 0.25,
        device: str = "cuda",
        padding: bool = False,
        multi_channel_model: bool = True,
    ):
        self.device = _device(device)
        self.nuclei_engine, self.cell_engine = load_engines(nuclei_model, cell_model, self.device)
        self.scale_factor = scale_factor
        self.padding = padding
        self.multi_channel_model = multi_channel_model

    def pred_nuclei(self, images: Sequence[Any]) -> list[np.ndarray]:
        """Predict the nuclei of images.

        Args:
            images: Arrays or paths: (H, W) nuclear stains, or (H, W, 3) colour images with the nuclei in blue.

        Returns:
            A (H, W, 3) uint8 prediction for each, see `as_prediction`.
        """
        predictions = []
        for image in _listed(images, "images"):
            blue = _read(image)
            blue = blue[..., 2] if blue.ndim == 3 else blue
            (padded,), crop = self._padded([blue])
            labels = find_nuclei_of(padded, scale_factor=self.scale_factor, nuclei_engine=self.nuclei_engine)
            predictions.append(as_prediction(labels[crop]))
        return predictions

    def pred_cells(self, images: Sequence[Any], precombined: bool = False) -> list[np.ndarray]:
        """Predict the whole cells of images.

        Args:
            images: `[[microtubules, …], [ER, …], [nuclei, …]]`, lists of arrays or paths of equal length; the second
                is None when `multi_channel_model` is False.
            precombined: `images` is instead a list of (H, W, 3) arrays with these channels.

        Returns:
            A (H, W, 3) uint8 prediction for each, see `as_prediction`.

        Raises:
            ValueError: The lists are not of this form, or the channels of an image differ in size.
        """
        predictions = []
        for red, yellow, blue in self._combined(images, precombined):
            planes, crop = self._padded([plane for plane in (red, yellow, blue) if plane is not None])
            labels = segment_field(
                planes[0],
                planes[1] if yellow is not None else None,
                planes[-1],
                scale_factor=self.scale_factor,
                nuclei_engine=self.nuclei_engine,
                cell_engine=self.cell_engine,
            )
            predictions.append(as_prediction(labels.cells[crop]))
        return predictions

    def _combined(self, images: Sequence[Any], precombined: bool) -> list[tuple[Any, Any, Any]]:
        if precombined:
            colour = [_read(image) for image in _listed(images, "images")]
            if any(image.ndim != 3 or image.shape[2] < 3 for image in colour):
                raise ValueError("precombined images are (H, W, 3): microtubules, ER, nuclei")
            if not self.multi_channel_model:
                return [(image[..., 0], None, image[..., 2]) for image in colour]
            return [(image[..., 0], image[..., 1], image[..., 2]) for image in colour]
        if len(images) != 3:
            raise ValueError("images are three lists: microtubules, ER (or None), nuclei")
        red, yellow, blue = images
        if self.multi_channel_model and yellow is None:
            raise ValueError("the ER images are missing; give them, or multi_channel_model=False")
        if not self.multi_channel_model and yellow is not None:
            raise ValueError("with multi_channel_model=False the second list, of ER, is to be None")
        lists = [_listed(red, "microtubules"), _listed(blue, "nuclei")]
        lists.insert(1, [None] * len(lists[0]) if yellow is None else _listed(yellow, "ER"))
        if len({len(one) for one in lists}) > 1:
            raise ValueError(
                f"the lists hold {', '.join(str(len(one)) for one in lists)} images; give equally many"
            )
        return [(_plane(r), None if y is None else _plane(y), _plane(b)) for r, y, b in zip(*lists)]

    def _padded(self, planes: list[np.ndarray]) -> tuple[list[np.ndarray], tuple[slice, slice]]:
        """Reflect planes beyond their border; return them and where the image lies in them."""
        height, width = planes[0].shape
        if not self.padding:
            return planes, (slice(0, height), slice(0, width))
        margin = min(round(32 / (self.scale_factor or 0.25)), min(height, width) - 1)
        padded = [np.pad(plane, margin, mode="reflect") for plane in planes]
        return padded, (slice(margin, margin + height), slice(margin, margin + width))


def _device(device: str) -> str:
    if device != "cpu" and not device.startswith("cuda"):
        raise ValueError(f"{device} is not a valid device; give cpu, cuda or cuda:<number>")
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            print("No GPU found, using CPU.", file=sys.stderr)
            return "cpu"
    return device


def _listed(images: Any, what: str) -> list[Any]:
    if not isinstance(images, list | tuple):
        raise ValueError(f"{what} are to be a list of arrays or paths, not one {type(images).__name__}")
    return list(images)


def _read(image: Any) -> np.ndarray:
    return read_image(os.path.expanduser(image) if isinstance(image, str) else image)


def _plane(image: Any) -> np.ndarray:
    pixels = _read(image)
    return pixels[..., :3].max(axis=-1) if pixels.ndim == 3 else pixels

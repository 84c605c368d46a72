"""Training batches of a classifier: prepared once, then changed anew as a batch in every epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import CellsError
from .image_augmentation import ImageAugmentation
from .samples import CACHE_BYTES, Key, normalise, without_normalisation


class ImageSamples(Dataset[dict[str, Tensor]]):
    """Batches of augmented images with their labels.

    What the image processor does is done once for each image; the result is kept in half precision (up to 8, its step
    is no coarser than that of 8 bits). Mean and standard deviation come after the augmentation, as changes of light
    are defined on the range from 0 to 1.

    Args:
        rows: Rows with `image` and `label` or `labels`.
        processor: The model's image processor.
        augmentation: What changes.
        num_labels: K.
        seed: Of the experiment.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        processor: Any,
        augmentation: ImageAugmentation,
        *,
        num_labels: int,
        seed: int,
    ):
        self.rows, self.augmentation, self.num_labels, self.seed = rows, augmentation, num_labels, seed
        self.processor, self.prepare = processor, without_normalisation(processor)
        self.cache: dict[int, tuple[Tensor, Tensor]] = {}
        self.free = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: list[Key]) -> dict[str, Tensor]:
        """Return `pixel_values` `(B, C, H, W)` and `labels`: `(B,)` int64, or `(B, K)` float if soft or several.

        With a processor of `sizing="variable"` there is `image_sizes` `(B, 2)` too: images lie in the upper left of
        the largest height and width of the batch, and the model's pooling leaves the rest out.
        """
        items = [self._prepared(index) for _, _, index in keys]
        epoch, positions = keys[0][0], [position for _, position, _ in keys]
        variable = getattr(self.processor, "sizing", "resize") == "variable"
        batch = (self._of_several_sizes if variable else self._of_one_size)(items, epoch, positions)
        if not self.augmentation.mixes and "label" in self.rows[keys[0][2]]:
            batch["labels"] = batch["labels"].argmax(1)
        return batch

    def _of_one_size(
        self, items: list[tuple[Tensor, Tensor]], epoch: int, positions: list[int]
    ) -> dict[str, Tensor]:
        if len(sizes := {tuple(image.shape[-2:]) for image, _ in items}) > 1:
            found = " and ".join(f"{height}x{width}" for height, width in sorted(sizes)[:2])
            raise CellsError(
                f"the images are of several sizes ({found}): give them one, such as "
                "processor.size={height: 96, width: 96}"
            )
        images = torch.stack([image for image, _ in items]).float()
        truth = torch.stack([label for _, label in items])
        images, labels = self.augmentation(images, truth, self.seed, epoch, positions)
        return {"pixel_values": normalise(images, self.processor).contiguous(), "labels": labels}

    def _of_several_sizes(
        self, items: list[tuple[Tensor, Tensor]], epoch: int, positions: list[int]
    ) -> dict[str, Tensor]:
        """Every image is changed alone, and padded after mean and deviation with 0, as convolutions pad."""
        if self.augmentation.mixes:
            raise CellsError(
                "images of several sizes cannot be mixed; set augmentation.mixup, cutmix and mosaic to 0"
            )
        made = []
        for (image, _), position in zip(items, positions):
            changed, _ = self.augmentation(
                image[None].float(), torch.zeros(1, 1), self.seed, epoch, [position]
            )
            made.append(normalise(changed[0], self.processor))
        sizes = torch.tensor([image.shape[-2:] for image in made])
        height, width = sizes.amax(0).tolist()
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in made]
        labels = torch.stack([label for _, label in items])
        return {"pixel_values": torch.stack(padded), "labels": labels, "image_sizes": sizes}

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave a batch as it is: `__getitems__` has made it."""
        return batch

    def _prepared(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self.cache:
            return self.cache[index]
        row = self.rows[index]
        image = self.prepare(row["image"])["pixel_values"][0]
        if image.abs().max() <= 8:  # numbers that were not scaled may be too large for half precision
            image = image.half()
        item = image, torch.from_numpy(one_hot(row, self.num_labels))
        size = image.numel() * image.element_size()
        if size <= self.free:
            self.cache[index], self.free = item, self.free - size
        return item


def one_hot(row: dict[str, Any], num_labels: int) -> np.ndarray:
    """Return the truth of a row as `(K,)` float32, from `label` or `labels`."""
    truth = np.zeros(num_labels, np.float32)
    if "label" in row and (row["label"] is None or row["label"] < 0):
        raise CellsError(f"the image {row.get('image_id', '')!r} has no label: leave it out of the split")
    truth[row["label"] if "label" in row else list(row["labels"])] = 1
    return truth

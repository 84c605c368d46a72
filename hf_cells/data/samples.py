"""Training batches: which sample comes when, decoded once, augmented, with its targets.

The order is a pure function of (seed, epoch), shared by all processes; each takes its own slice of every global batch.
So a restart at step k continues exactly where it stopped, and no sample is seen twice or dropped.
"""

import copy
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..models.image_reading import read_image
from ..models.instance_targets import instance_targets
from .augmentation import Augmentation, Window, sample_generator

Key = tuple[int, int, int]  # epoch, position in the epoch, row of the dataset
# Decoded images that a worker keeps; beyond it the rest are decoded each time.
CACHE_BYTES = 2_000_000_000


@dataclass
class EpochOrder:
    """The rows of an epoch, by position.

    Attributes:
        length: Rows in the dataset.
        samples: Samples in an epoch; rounded up to whole updates by `EpochBatches`.
        weights: Probability of each row, or None for a permutation of all rows (repeated as often as needed).
        seed: Of the experiment.
    """

    length: int
    samples: int
    weights: np.ndarray | None
    seed: int

    def rows(self, epoch: int, count: int) -> np.ndarray:
        """Return `count` row numbers."""
        draw = sample_generator(self.seed, epoch, 2**39)
        if self.weights is not None:
            # Systematic sampling: every row comes as often as its weight says, give or take one.
            points = (np.arange(count) + draw.random()) / count
            rows = np.searchsorted(np.cumsum(self.weights), points * self.weights.sum())
            return draw.permutation(np.minimum(rows, self.length - 1))
        rounds = [draw.permutation(self.length) for _ in range(-(-count // self.length))]
        return np.concatenate(rounds)[:count]


class EpochBatches(Sampler[list[Key]]):
    """Batches of keys of one epoch for one process, from a given step on."""

    def __init__(
        self, order: EpochOrder, batch_size: int, rank: int = 0, world: int = 1, accumulation: int = 1
    ):
        self.order, self.batch_size, self.rank, self.world = order, batch_size, rank, world
        # Whole updates: half an accumulated gradient at the end of an epoch would be in no checkpoint.
        self.steps = -(-order.samples // (batch_size * world * accumulation)) * accumulation
        self.epoch = 0
        self.first_step = 0

    def set_position(self, epoch: int, first_step: int = 0) -> None:
        """Say where the next iteration starts."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Key]]:
        rows = self.order.rows(self.epoch, self.steps * self.batch_size * self.world)
        for step in range(self.first_step, self.steps):
            start = (step * self.world + self.rank) * self.batch_size
            yield [(self.epoch, p, int(rows[p])) for p in range(start, start + self.batch_size)]


class SegmentationSamples(Dataset[dict[str, Tensor]]):
    """Decoded once per worker, then augmented crops with what the model's loss needs."""

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        processor: Any,
        augmentation: Augmentation,
        *,
        instances: bool,
        seed: int,
    ):
        self.rows, self.processor, self.augmentation = rows, processor, augmentation
        self.instances, self.seed = instances, seed
        self.cache: dict[int, tuple[Window, np.ndarray]] = {}
        self.free = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, position, index = key
        window, labels = self._decoded(index)
        draw = sample_generator(self.seed, epoch, position)
        pixels, truth = self.augmentation(window, labels, draw)
        pixels = normalise(pixels.expand(self.processor.num_channels, -1, -1), self.processor)
        return {"pixel_values": pixels.contiguous(), **training_targets(truth, self.instances)}

    def _decoded(self, index: int) -> tuple[Window, np.ndarray]:
        if index in self.cache:
            return self.cache[index]
        row = self.rows[index]
        image = read_image(row["image"], channels=self.processor.channel_names)
        item = Window(self.processor, image), truth_of(row)
        size = item[0].pixels.nbytes + item[1].nbytes
        if size <= self.free:
            self.cache[index], self.free = item, self.free - size
        return item


def without_normalisation(processor: Any) -> Any:
    """Return a copy of an image processor that leaves mean and standard deviation to `normalise`."""
    copied = copy.copy(processor)
    copied.image_mean = copied.image_std = None
    return copied


def normalise(image: Tensor, processor: Any) -> Tensor:
    """Subtract the processor's mean and divide by its standard deviation, as it does itself in prediction.

    Works on `(C, H, W)` and on batches of it.
    """
    if processor.image_mean is None or processor.image_std is None:
        return image
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    return (image - mean[:, None, None]) / std[:, None, None]


_TRUTH_COLUMNS = ("semantic_mask", "instance_labels")


def channel_columns(features: datasets.Features) -> list[str]:
    """Columns that are one channel each of an image that a dataset keeps in several; none where it has `image`."""
    if "image" in features:
        return []
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    return [name for name in images if name not in _TRUTH_COLUMNS]


class ImageRows(Sequence[dict[str, Any]]):
    """Rows of a dataset with their images as stored bytes, so that no decoder cuts 16 bits to 8; `extra` rows follow.

    Where a dataset has a column for each channel, `image` is a dictionary of them, which `read_image` stacks.
    """

    def __init__(self, dataset: Any):
        self.channels = channel_columns(dataset.features)
        columns = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
        for column in columns:
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
        self.dataset, self.columns = dataset, columns
        self.extra: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.dataset) + len(self.extra)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self.dataset):
            return self.extra[index - len(self.dataset)]
        row = dict(self.dataset[int(index)])
        for column in self.columns:
            stored = row[column]
            row[column] = None if stored is None else stored["bytes"] or stored["path"]
        if self.channels:
            row["image"] = {name: row.pop(name) for name in self.channels}
        return row


def truth_of(row: dict[str, Any]) -> np.ndarray:
    """Return the label map of a row, `(H, W)` int32, whichever column carries it."""
    column = "instance_labels" if row.get("instance_labels") is not None else "semantic_mask"
    return np.asarray(read_image(row[column])).astype(np.int32)


def training_targets(truth: np.ndarray, instances: bool) -> dict[str, Tensor]:
    """Return the arguments of the model's `forward` that carry the truth."""
    if instances:
        return {"target_maps": torch.from_numpy(instance_targets(truth))}
    return {"labels": torch.from_numpy(truth.astype(np.int64))}


def balanced_weights(values: Sequence[Any], power: float = 0.5) -> np.ndarray:
    """Weigh rows by how rare their value is: count^-power, so 0.5 halves the imbalance on a log scale."""
    _, inverse, counts = np.unique([str(v) for v in values], return_inverse=True, return_counts=True)
    weights = counts[inverse].astype(np.float64) ** -power
    return weights / weights.sum()


def loader(
    samples: Dataset[dict[str, Tensor]], batches: EpochBatches, workers: int
) -> DataLoader[dict[str, Tensor]]:
    """Return the batches of the epoch that `batches` points at; workers live as long as the loader."""
    return DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=getattr(samples, "collate", None),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_survive_group_signal if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that iterating never draws from the model's random state
    )


@contextmanager
def workers_ended(data: DataLoader[dict[str, Tensor]]) -> Iterator[None]:
    """End the workers with the block, however it ends: evaluation wants their cores, an exit would wait for them."""
    try:
        yield
    finally:
        iterator: Any = data._iterator  # there when the workers are persistent
        if iterator is not None:
            iterator._shutdown_workers()


def _survive_group_signal(worker: int) -> None:
    """Ctrl-C and schedulers signal all processes at once: the main one saves first, and that needs its workers.

    A second SIGTERM, as the main process sends it to a worker that does not end, works as ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))

"""Truth and prediction of every image of a split, for the evaluation of a classifier."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.samples import ImageRows
from ..errors import CellsError
from ..models.image_reading import read_image
from ..progress import track
from .sections import naming_image

_BATCH = 32


def read_labels(
    dataset: Any, names: Sequence[str], multi_label: bool, image_ids: Sequence[str], split_name: str
) -> np.ndarray:
    """Truth in the model's class ids, matched by name: (N,) int64, or (N, K) bool with `multi_label`.

    Raises:
        CellsError: When the column is missing, or an image has no label or one that the model does not know.
    """
    wanted = ("labels", "label") if multi_label else ("label",)
    found = label_names(dataset, wanted)
    if found is None:
        raise CellsError(
            f"split {split_name!r} has no column {wanted[0]!r} (it has {', '.join(dataset.column_names)}); "
            f"the model gives {'several labels' if multi_label else 'one label'} an image"
        )
    place = {name: index for index, name in enumerate(names)}
    truth = np.zeros((len(found), len(names)), dtype=bool)
    for index, (image_id, labels) in enumerate(zip(image_ids, found, strict=True)):
        if not labels and not (multi_label and labels == []):
            raise CellsError(
                f"image {image_id!r} of split {split_name!r} has no label; "
                "give it one, or evaluate another split"
            )
        for name in labels:
            if name not in place:
                raise CellsError(
                    f"image {image_id!r} of split {split_name!r} has the label {name!r}, and the model "
                    f"knows {', '.join(names)}; evaluate a model that was trained on these classes"
                )
            truth[index, place[name]] = True
    return truth if multi_label else truth.argmax(axis=1)


def label_names(dataset: Any, columns: Sequence[str] = ("label", "labels")) -> list[list[str] | None] | None:
    """Names of the labels of every image, None for an image without; None where no such column is there."""
    column = next((name for name in columns if name in dataset.column_names), None)
    if column is None:
        return None
    feature = dataset.features[column]
    known = getattr(getattr(feature, "feature", feature), "names", None)
    rows = ([row] if not isinstance(row, list | None) else row for row in dataset[column])
    return [
        None
        if row is None or any(one is None or one == -1 for one in row)
        else [known[one] if known else str(one) for one in row]
        for row in rows
    ]


def predict_probabilities(
    pipe: Any, dataset: Any, identities: Sequence[Mapping[str, Any]], split_name: str, progress: bool
) -> tuple[np.ndarray, list[float], Any]:
    """Probabilities (N, K) float32, seconds per image, and a hash of everything that was seen.

    Raises:
        CellsError: When an image cannot be read or predicted; it is named.
    """
    images, channels = ImageRows(dataset), pipe.image_processor.channel_names
    found: list[np.ndarray] = []
    seconds: list[float] = []
    content = hashlib.sha256()
    starts = range(0, len(images), _BATCH)
    for start in track(starts, f"evaluating {split_name}") if progress else starts:
        batch, members = [], identities[start : start + _BATCH]
        for index, identity in enumerate(members, start):
            with naming_image(identity["image_id"], split_name):
                batch.append(read_image(images[index]["image"], channels=channels))
            content.update(f"{identity['image_id']} {batch[-1].shape} {batch[-1].dtype}".encode())
            content.update(batch[-1].tobytes())
        started = time.perf_counter()
        try:
            found.append(np.asarray(pipe.probabilities(batch, batch_size=_BATCH)))
        except Exception:
            for identity, image in zip(members, batch, strict=True):  # which of them was it?
                with naming_image(identity["image_id"], split_name):
                    pipe.probabilities([image])
            raise
        seconds += [(time.perf_counter() - started) / len(batch)] * len(batch)
    probabilities = np.concatenate(found)
    if not np.isfinite(probabilities).all():
        first = int(np.argmin(np.isfinite(probabilities).all(axis=1)))
        raise CellsError(
            f"image {identities[first]['image_id']!r} of split {split_name!r} got a probability that is no "
            "number; the model has diverged: train it again"
        )
    return probabilities, seconds, content

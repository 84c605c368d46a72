"""Run lengths: the contest text form of masks, and the one pass over a label image that measures share.

The contest form (Kaggle, 2018 Data Science Bowl) is `start length start length …`, pixels counted from 1,
down the columns first. A CSV has the columns `ImageId,EncodedPixels`, one row per object; an image without an
object has one row with empty pixels.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import CellsError
from ..files import atomic_write

COLUMNS = ("ImageId", "EncodedPixels")


def label_runs(flat: np.ndarray, row_length: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the runs of equal non-zero values.

    Args:
        flat: (N,) labels, 0 is background.
        row_length: When given, no run goes on over the end of a row of this length.

    Returns:
        Labels, starts (from 0) and lengths of the runs, in order of their starts.
    """
    changes = np.ones(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=changes[1:])
    if row_length:
        changes[::row_length] = True
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=flat.size)
    values = flat[starts]
    kept = values != 0
    return values[kept], starts[kept], lengths[kept]


def encode_labels(labels: np.ndarray) -> dict[int, str]:
    """Encode every object of a label image in one pass.

    Args:
        labels: (H, W) integers, 0 is background.

    Returns:
        Run lengths by object id, ids ascending.
    """
    values, starts, lengths = label_runs(labels.ravel(order="F"))
    order = np.argsort(values, kind="stable")  # stable keeps the runs of an object in image order
    values = values[order]
    words = list(map(str, np.column_stack([starts[order] + 1, lengths[order]]).ravel().tolist()))
    first = np.flatnonzero(np.diff(values, prepend=0)) if values.size else values
    bounds = [*(2 * first).tolist(), len(words)]
    return {
        int(value): " ".join(words[start:stop])
        for value, start, stop in zip(values[first], bounds[:-1], bounds[1:])
    }


def encode_rle(mask: np.ndarray) -> str:
    """Encode one (H, W) mask, non-zero is foreground; an empty mask gives an empty string."""
    return encode_labels(np.asarray(mask) != 0).get(1, "")


def decode_rle(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Decode run lengths to a (H, W) bool mask.

    Raises:
        ValueError: When the text is not pairs of whole numbers or a run leaves the image.
    """
    try:
        numbers = np.array(rle.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError(
            "run lengths are not whole numbers; expected 'start length start length …'"
        ) from None
    if numbers.size % 2:
        raise ValueError(f"run lengths have {numbers.size} numbers; they come in pairs: start, length")
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    pixels = shape[0] * shape[1]
    if (starts < 0).any() or (lengths < 1).any() or (starts > pixels - lengths).any():
        raise ValueError(
            f"run lengths leave an image of {shape[0]} x {shape[1]} (height x width); check its size"
        )
    # Each pixel of a run is its start plus a count from 0.
    counts = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mask = np.zeros(pixels, dtype=bool)
    mask[np.repeat(starts, lengths) + counts] = True
    return mask.reshape(shape, order="F")


def decode_labels(rles: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Decode objects to a (H, W) int32 label image with ids 1..n in their order; later objects lie on top."""
    labels = np.zeros(shape, dtype=np.int32)
    for object_id, rle in enumerate(rles, start=1):
        labels[decode_rle(rle, shape)] = object_id
    return labels


def rle_rows(image_id: str, labels: np.ndarray) -> list[tuple[str, str]]:
    """Return the CSV rows of one image: one per object, or one with empty pixels."""
    return [(image_id, rle) for rle in encode_labels(labels).values()] or [(image_id, "")]


def write_rle_csv(path: str | os.PathLike[str], images: Mapping[str, np.ndarray]) -> None:
    """Write the label images of a set, by image id, as a contest CSV."""
    rows: Iterable[tuple[str, str]] = (
        row for name, labels in images.items() for row in rle_rows(name, labels)
    )
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def read_rle_csv(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read a contest CSV: the run lengths of every image's objects, an empty list for an image without one.

    Raises:
        CellsError: When the file is missing or lacks a column.
    """
    objects: dict[str, list[str]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise CellsError(f"{path}: has no column {missing[0]}; expected {','.join(COLUMNS)}")
            for row in reader:
                found = objects.setdefault(row[COLUMNS[0]], [])
                if (row[COLUMNS[1]] or "").strip():
                    found.append(row[COLUMNS[1]])
    except FileNotFoundError:
        raise CellsError(f"{path}: no such file; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CellsError(f"{path}: is not a CSV ({error}); expected {','.join(COLUMNS)}") from None
    return objects

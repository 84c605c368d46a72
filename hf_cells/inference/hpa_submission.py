"""The submission file of the 2021 Human Protein Atlas single-cell challenge: written, and read back.

`ID,ImageWidth,ImageHeight,PredictionString`, one row per field; the prediction is `class confidence mask` for each
statement, with spaces between, the mask being base64(zlib(COCO run lengths)).
"""

import base64
import csv
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CellsError
from ..files import atomic_write
from .coco_rle import decode_runs, encode_runs, mask_of_runs, runs_of_mask

COLUMNS = ("ID", "ImageWidth", "ImageHeight", "PredictionString")
_LARGEST_TEXT = 1 << 24  # run lengths of one mask that unpack to more are a zip bomb


@dataclass(frozen=True)
class FieldPrediction:
    """What is said of the cells of one field.

    Attributes:
        image_id: ID of the field.
        shape: Height and width of the field.
        runs: Each cell's pixels as runs `(m, 2)`, see `coco_rle`.
        cells: (n,) index into `runs` of each statement.
        classes: (n,) class of each statement.
        scores: (n,) confidence of each statement, 0 to 1.
    """

    image_id: str
    shape: tuple[int, int]
    runs: Sequence[np.ndarray]
    cells: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def mask(self, cell: int) -> np.ndarray:
        """Return the `(H, W)` bool mask of one of `runs`."""
        return mask_of_runs(self.runs[cell], self.shape)


def field_prediction(
    image_id: str, cell_labels: np.ndarray, scores: np.ndarray, least: float = 0.0
) -> FieldPrediction:
    """Build the prediction of one field from its label image.

    Args:
        image_id: ID of the field.
        cell_labels: (H, W) integers, 0 background, cell k is row k - 1 of `scores`.
        scores: (n, K) confidence of each class for each cell; NaN says nothing.
        least: Statements of lower confidence are left out.

    Raises:
        ValueError: There are more cells than rows of `scores`.
    """
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    shape = (int(cell_labels.shape[0]), int(cell_labels.shape[1]))
    found = runs_of_labels(cell_labels)
    if found and max(found) > len(scores):
        raise ValueError(f"{image_id}: has cell {max(found)} and scores of {len(scores)} cells only")
    numbers = sorted(found)
    rows = scores[np.array(numbers, np.intp) - 1] if numbers else scores[:0]
    cells, classes = np.nonzero(rows >= least)  # NaN is not
    return FieldPrediction(image_id, shape, [found[n] for n in numbers], cells, classes, rows[cells, classes])


def runs_of_labels(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Return the runs `(m, 2)` of every object of a label image `(H, W)`, by its number, in one pass."""
    flat = np.asarray(labels).ravel(order="F")
    starts = (
        np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, int)
    )
    runs = np.stack([starts, np.append(starts[1:], flat.size)], axis=1).astype(np.int64)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    numbers, first = np.unique(values[order], return_index=True)
    parts = np.split(runs[order], first[1:])
    return {int(number): part for number, part in zip(numbers, parts, strict=True) if number > 0}


def encode_mask(mask: np.ndarray) -> str:
    """Encode a `(H, W)` mask as in the submission file."""
    return _pack(runs_of_mask(mask), (int(mask.shape[0]), int(mask.shape[1])))


def decode_mask(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Decode a mask of the submission file: `(H, W)` bool.

    Raises:
        ValueError: It is broken, or not of this height and width.
    """
    return mask_of_runs(_unpack(text, shape), shape)


def write_submission(path: str | os.PathLike[str], fields: Iterable[FieldPrediction]) -> None:
    """Write a submission file; a field without a statement has an empty prediction.

    Raises:
        CellsError: Two fields have one ID, or a score is not within 0 and 1.
    """
    seen: set[str] = set()
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for field in fields:
            if field.image_id in seen:
                raise CellsError(f"{path}: the field {field.image_id} comes twice; give every field once")
            if not all(0 <= score <= 1 for score in field.scores):
                raise CellsError(f"{path}: a score of {field.image_id} is not within 0 and 1; mend the model")
            seen.add(field.image_id)
            masks = [_pack(runs, field.shape) for runs in field.runs]
            words = (
                f"{int(label)} {score:.6g} {masks[cell]}"
                for cell, label, score in zip(field.cells, field.classes, field.scores, strict=True)
            )
            height, width = field.shape
            table.writerow((field.image_id, width, height, " ".join(words)))


def read_submission(path: str | os.PathLike[str]) -> list[FieldPrediction]:
    """Read a submission file; statements with one mask share a cell.

    Raises:
        CellsError: The file is missing, lacks a column, or a row is broken; names the field.
    """
    csv.field_size_limit(1 << 30)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise CellsError(f"{path}: has no column {missing[0]}; expected {','.join(COLUMNS)}")
            fields = [_read_row(row) for row in reader]
    except FileNotFoundError:
        raise CellsError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise CellsError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CellsError(f"{path}: is not a CSV ({error}); expected {','.join(COLUMNS)}") from None
    except ValueError as error:
        raise CellsError(f"{path}: {error}; write the file again") from None
    ids = [field.image_id for field in fields]
    if twice := sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []:
        raise CellsError(f"{path}: the field {twice[0]} is listed twice; keep one row")
    return fields


def _read_row(row: dict[str, str]) -> FieldPrediction:
    image_id = (row["ID"] or "").strip()
    size = (row["ImageHeight"] or "").strip(), (row["ImageWidth"] or "").strip()
    if not image_id or not all(re.fullmatch(r"[1-9]\d{0,5}", side) for side in size):
        raise ValueError(f"field {image_id!r} has the height and width {size}; they must be whole numbers")
    shape = int(size[0]), int(size[1])
    words = (row["PredictionString"] or "").split()
    if len(words) % 3:
        raise ValueError(f"field {image_id}: {len(words)} words are no triples of class, confidence and mask")
    place: dict[str, int] = {}
    cells = [place.setdefault(mask, len(place)) for mask in words[2::3]]
    try:
        classes = np.array([int(word) for word in words[0::3]], np.int64)
        scores = np.array([float(word) for word in words[1::3]], np.float64)
        runs = [_unpack(mask, shape) for mask in place]
    except ValueError as error:
        raise ValueError(f"field {image_id}: {error}") from None
    return FieldPrediction(image_id, shape, runs, np.array(cells, np.intp), classes, scores)


def _pack(runs: np.ndarray, shape: tuple[int, int]) -> str:
    return base64.b64encode(zlib.compress(encode_runs(runs, shape), zlib.Z_BEST_COMPRESSION)).decode("ascii")


def _unpack(text: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        stream = zlib.decompressobj()
        counts = stream.decompress(base64.b64decode(text, validate=True), _LARGEST_TEXT)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"a mask is not base64 of zlib ({error})") from None
    if not stream.eof:
        raise ValueError("a mask is cut off or too long")
    return decode_runs(counts, shape)

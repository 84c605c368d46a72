"""What scripts of labelled images share: their sources, label tables, equal pixels, classes in splits.

Only the standard library, numpy and Pillow are imported, as in `_reading.py`.
"""

import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image

from ._reading import FolderSource, Source, ZipSource, read_csv, zips_in

IMAGE_SUFFIX = re.compile(r"\.(png|tiff?|bmp|jpe?g)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass
class LabelledFile:
    """An image file with its label, a class name."""

    image_id: str
    source: Source
    file: str
    label: str = ""

    @property
    def where(self) -> str:
        """How an error message should call the file."""
        return self.source.locate(self.file)

    def read(self) -> bytes:
        """Return the bytes of the file."""
        return self.source.read(self.file)


F = TypeVar("F", bound=LabelledFile)


@dataclass(frozen=True)
class LabelTable:
    """CSVs of labels: class names by image id; an image whose cell is empty has none."""

    where: str
    labels: dict[str, str]


def find_sources(path: str, word: str) -> list[Source]:
    """Return the zip, or the folder and then its zips: those with `word` in their name, else all of them.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: A zip is damaged or unsafe.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder; check data_dir")
    zips = zips_in(path)
    named = [name for name in zips if word in os.path.basename(name).lower()]
    whole = [name for name in zips if zipfile.is_zipfile(name)]
    is_zip = os.path.isfile(path)
    archives = [ZipSource(name) for name in ([path] if is_zip else named or whole or zips)]
    for archive in archives:
        archive.check()
    return [*archives] if is_zip else [FolderSource(path), *archives]


def file_key(name: str) -> str:
    """Return the name of an image without folder and suffix, which a table may or may not give."""
    return IMAGE_SUFFIX.sub("", re.split(r"[/\\]", name.strip())[-1])


def add_file(files: dict[str, F], item: F) -> None:
    """Add a file by its id.

    Raises:
        ValueError: There is one of that id.
    """
    first = files.setdefault(item.image_id, item)
    if first is not item:
        raise ValueError(f"{item.where}: has the same ID as {first.where}; keep one of the two or rename one")


def find_tables(
    sources: Sequence[Source],
    id_columns: Sequence[str],
    label_columns: Sequence[str],
    classes: Mapping[str, str],
    key: Callable[[str], str] = file_key,
    first_source_only: bool = False,
) -> list[LabelTable]:
    """Read every CSV that has an image column and a label column.

    Args:
        sources: Where to look; `simulated.csv`, which describes simulated images, is left alone.
        id_columns: Names of the image column, the usual first; case, spaces and punctuation do not count.
        label_columns: Names of the label column, as `id_columns`.
        classes: Class name by what may stand in a cell, in lower case.
        key: Turns what stands in the image column into the id of an image.
        first_source_only: Look no further than the first source with such a CSV.

    Raises:
        ValueError: There are CSVs but none has such columns, or one has a label that is no class, or two
            labels for one image.
    """
    tables: list[LabelTable] = []
    useless = ""
    for source in sources:
        if tables and first_source_only:
            break
        for name in source.names():
            if not name.lower().endswith(".csv") or PurePosixPath(name).name == "simulated.csv":
                continue
            where = source.locate(name)
            rows = read_csv(where, source.read(name))
            columns = {_plain(column): column for column in (rows[0] if rows else {})}
            id_column = next((columns[c] for c in map(_plain, id_columns) if c in columns), None)
            label_column = next((columns[c] for c in map(_plain, label_columns) if c in columns), None)
            if id_column is None or label_column is None:
                useless = useless or f"{where}: has the columns {list(columns.values())}"
                continue
            pairs = [(row.get(id_column) or "", row.get(label_column) or "") for row in rows]
            tables.append(LabelTable(where, _labels_by_id(where, pairs, classes, key)))
    if useless and not tables:
        raise ValueError(f"{useless}; give it the header '{id_columns[0]},{label_columns[0]}'")
    return tables


def _plain(column: str) -> str:
    return re.sub(r"[\W_]", "", column.lower())


def _labels_by_id(
    where: str, pairs: Sequence[tuple[str, str]], classes: Mapping[str, str], key: Callable[[str], str]
) -> dict[str, str]:
    labels: dict[str, str] = {}
    for given, text in pairs:
        image_id, text = key(given), text.strip()
        if not image_id or not text:
            continue
        label = classes.get(text.lower())
        if label is None:
            raise ValueError(
                f"{where}: {text!r} of image {given.strip()!r} is not a class; mend it to one of: "
                + ", ".join(_spellings(classes))
            )
        if labels.setdefault(image_id, label) != label:
            raise ValueError(
                f"{where}: image {image_id!r} is listed twice, as {labels[image_id]} and as {label}; "
                "keep one of the rows"
            )
    return labels


def _spellings(classes: Mapping[str, str]) -> list[str]:
    first: dict[str, str] = {}
    for text, name in classes.items():
        first.setdefault(name, text)
    return [name if text == name.lower() else f"{text} ({name})" for name, text in first.items()]


def merge_tables(tables: Sequence[LabelTable]) -> LabelTable:
    """Return all labels as one table.

    Raises:
        ValueError: Two tables disagree on an image.
    """
    origin: dict[str, LabelTable] = {}
    for table in tables:
        for image_id, label in table.labels.items():
            other = origin.setdefault(image_id, table)
            if other.labels[image_id] != label:
                raise ValueError(
                    f"{table.where}: says that image {image_id} is {label}, but {other.where} says "
                    f"{other.labels[image_id]}; mend one of them"
                )
    labels = {image_id: table.labels[image_id] for image_id, table in origin.items()}
    return LabelTable(", ".join(table.where for table in tables), labels)


def pixel_hash(image: Image.Image) -> str:
    """Hash decoded pixels, so that two files of one picture are found although their bytes differ.

    An opaque alpha channel, and grey saved as colour, do not hide a copy.
    """
    pixels = np.asarray(image.convert("RGBA") if image.mode == "P" else image)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4) and (pixels[..., -1] == 255).all():
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def check_classes(path: str, splits: Mapping[str, Sequence[str]], names: Sequence[str], remedy: str) -> None:
    """Refuse training data of one class, and warn of each split in which a class is absent.

    Args:
        path: The data, for the message.
        splits: Class name of each image, by split.
        names: All classes.
        remedy: How to get more than one class into train.

    Raises:
        ValueError: The split `train` holds one class only.
    """
    present = sorted(set(splits.get("train", ())))
    if len(present) == 1:
        raise ValueError(f"{path}: the training split holds one class only ({present[0]}); {remedy}")
    for split, labels in splits.items():
        if absent := [name for name in names if name not in labels]:
            logger.warning(f"{path}: no images of {', '.join(absent)} in the split {split}")

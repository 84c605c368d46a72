"""What dataset scripts share: files in folders and zips, decoding with clear errors, group-wise splits.

Only the standard library, numpy and Pillow are imported, so that a script beside this file also runs
under `datasets` 3 as a genuine loading script.
"""

import csv
import hashlib
import io
import os
import re
import stat
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

IMAGE_COLUMNS = ("imageid", "image_id", "image", "id", "name", "file", "filename", "crop")
GROUP_COLUMNS = ("project", "group", "source", "experiment")
MAX_PIXELS = 100_000_000
MAX_MEMBER_BYTES = 1 << 30  # one image that unpacks to more than 1 GiB is a zip bomb or not an image


@dataclass(frozen=True)
class FolderSource:
    """The files of a folder, by their path relative to it with forward slashes."""

    path: str
    max_depth: int = 6  # a limit, so that a link back to a parent cannot loop

    def names(self) -> list[str]:
        """List files in sorted order; hidden files and folders are left out."""
        found: list[str] = []

        def scan(folder: str, prefix: str, depth: int) -> None:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if not entry.is_dir():
                        found.append(prefix + entry.name)
                    elif depth < self.max_depth:
                        scan(entry.path, f"{prefix}{entry.name}/", depth + 1)

        scan(self.path, "", 1)
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file."""
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def locate(self, name: str) -> str:
        """Return how an error message should call the file."""
        return os.path.join(self.path, name)


class ZipSource:
    """The files of a zip, read in place: nothing is ever extracted, so nothing can leave a folder."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_zip": None}  # worker processes open their own handle

    def names(self) -> list[str]:
        """List files in sorted order, without hidden files and macOS resource forks."""
        names = (info.filename for info in self._open().infolist() if not info.is_dir())
        return sorted(n for n in names if not PurePosixPath(n).name.startswith(".") and "__MACOSX" not in n)

    def check(self) -> None:
        """Refuse an archive with a member that would leave its folder when unpacked.

        Raises:
            ValueError: Names the first absolute, parent-relative, drive-letter or symbolic-link member.
        """
        for info in self._open().infolist():
            name = info.filename
            parts = re.split(r"[/\\]", name)
            absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name)
            link = stat.S_ISLNK(info.external_attr >> 16)
            if absolute or ".." in parts or link:
                kind = "is a symbolic link" if link else "points outside the archive"
                raise ValueError(
                    f"{self.path}: member {name!r} {kind}; the zip is unsafe, "
                    "get a clean copy from the dataset's own site"
                )

    def read(self, name: str) -> bytes:
        """Return the bytes of one member."""
        try:
            if self._open().getinfo(name).file_size > MAX_MEMBER_BYTES:
                raise ValueError(
                    f"{self.locate(name)}: unpacks to over {MAX_MEMBER_BYTES:,} bytes; remove it from the zip"
                )
            return self._open().read(name)
        # RuntimeError: a password is wanted, or the compression is unknown.
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, zlib.error) as error:
            raise ValueError(
                f"{self.locate(name)}: cannot be read from the zip ({error}); download the zip again"
            ) from error

    def locate(self, name: str) -> str:
        """Return how an error message should call the member."""
        return f"{self.path}!{name}"

    def _open(self) -> zipfile.ZipFile:
        if self._zip is None:
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise ValueError(
                    f"{self.path}: is truncated or not a zip ({error}); download it again"
                ) from error
        return self._zip


Source: TypeAlias = FolderSource | ZipSource


def zips_in(path: str) -> list[str]:
    """Return the zips directly in a folder, sorted."""
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return [os.path.join(path, name) for name in names if name.lower().endswith(".zip")]


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode every pixel of an image, so that a broken file is found here and not in the middle of training.

    Raises:
        ValueError: The bytes are not an image, are damaged, or hold more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"{image.width}x{image.height} is over {MAX_PIXELS:,} pixels: cut it into tiles"
                )
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        reason = str(error).partition("<_io")[0].strip() or type(error).__name__
        raise ValueError(
            f"{name}: cannot be decoded ({reason}); replace the file or remove it from the dataset"
        ) from error
    return image


def foreground(image: Image.Image) -> tuple[int, int, np.ndarray]:
    """Return (top, left, bool array (h, w)): the non-zero pixels of a mask within their bounding box.

    Alpha is ignored. The box is what makes thousands of one-nucleus masks quick to merge.
    """
    if image.mode not in ("1", "L"):
        pixels = np.asarray(image if image.mode.startswith(("I", "F")) else image.convert("RGB")) > 0
        image = Image.fromarray(pixels if pixels.ndim == 2 else pixels.any(-1))
    box = image.getbbox()
    if box is None:
        return 0, 0, np.zeros((0, 0), bool)
    return box[1], box[0], np.asarray(image.crop(box)) > 0


def merge_objects(shape: tuple[int, int], objects: Sequence[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """Paint objects into one uint16 label image (H, W): 0 is background, 1..n follow the given order.

    Where two objects overlap, the pixel belongs to the smaller one, so a nucleus lying on a larger
    one survives. An object without a pixel of its own gets no label; nothing is dilated.

    Raises:
        ValueError: There are more objects than a 16-bit label image can number.
    """
    if len(objects) > np.iinfo(np.uint16).max:
        raise ValueError(f"{len(objects)} objects in one image do not fit 16-bit labels: cut it into tiles")
    labels = np.zeros(shape, np.uint16)
    areas = [int(pixels.sum()) for _, _, pixels in objects]
    for index in sorted(range(len(objects)), key=lambda i: areas[i], reverse=True):
        top, left, pixels = objects[index]
        view = labels[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        view[pixels] = index + 1
    present = np.bincount(labels.ravel(), minlength=len(objects) + 1) > 0
    present[0] = False
    return (np.cumsum(present) * present).astype(np.uint16)[labels]


def decode_rle(runs: str, height: int, width: int, name: str) -> tuple[int, int, np.ndarray]:
    """Decode the Data Science Bowl run lengths: pairs of start and length, 1-based, column by column.

    Returns:
        (top, left, bool array), as `foreground`.

    Raises:
        ValueError: The runs are not pairs of numbers within the image.
    """
    try:
        numbers = np.array(runs.split(), np.int64).reshape(-1, 2)
    except ValueError as error:
        raise ValueError(f"{name}: EncodedPixels are not pairs of numbers; get the CSV again") from error
    flat = np.zeros(height * width, bool)
    for start, length in numbers:
        if start < 1 or length < 1 or start - 1 + length > flat.size:
            raise ValueError(
                f"{name}: run '{start} {length}' lies outside {height}x{width} pixels; "
                "check Height and Width or get the CSV again"
            )
        flat[start - 1 : start - 1 + length] = True
    return foreground(Image.fromarray(flat.reshape(width, height).T))


def modality_of(image: Image.Image) -> str:
    """Name the kind of microscope image from its pixels alone.

    Grey images are fluorescence when their median is dark, else bright field. Coloured ones are told
    apart by their background, the brightest quarter of the pixels: white, pink or purple.
    """
    rgb = np.asarray(image.convert("RGB") if not image.mode.startswith(("I", "F")) else _to_8_bit(image))
    step = max(1, min(rgb.shape[:2]) // 256)
    red, green, blue = np.ascontiguousarray(rgb[::step, ::step].reshape(-1, 3).T, np.float32)
    brightness = (red + green + blue) / 3
    saturation = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    dark = float(np.median(brightness)) < 80
    if saturation.mean() < 2:
        return "fluorescence_dark" if dark else "brightfield_grey"
    if dark:
        return "fluorescence_colour"
    background = brightness >= np.percentile(brightness, 75)
    colour = [float(plane[background].mean()) for plane in (red, green, blue)]
    if max(colour) - min(colour) < 25:
        return "purple_on_white"
    return "purple_on_pink" if colour[0] > colour[2] else "purple_on_purple"


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float32)
    scale = 255 / max(float(values.max()), 1.0)
    return Image.fromarray((values.clip(0) * scale).astype(np.uint8)).convert("RGB")


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a uint8 or uint16 array (H, W) as PNG; level 1 is three times as quick as the default."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_csv(where: str, data: bytes) -> list[dict[str, str]]:
    """Read a CSV with a header; column names come back in lower case.

    Spreadsheets write commas, semicolons or tabs, in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
        ValueError: The bytes are no such text.
    """
    try:
        text = data.decode(_encoding(data)).lstrip("\ufeff\r\n")
        first = text.partition("\n")[0]
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        header = [name.strip().lower() for name in next(rows, [])]
        return [dict(zip(header, row)) for row in rows if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where}: is not a CSV ({error}); save it as comma-separated UTF-8") from error


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if data[:1] == b"\0":  # a header is Latin text: in UTF-16 every second byte of it is zero
        return "utf-16-be"
    return "utf-16-le" if data[1:2] == b"\0" else "utf-8-sig"


def read_group_table(path: str) -> dict[str, str]:
    """Read image id -> group (project, source); the image may be written as an id, a file name or a path."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such project table; give a CSV of image_id,project")
    with open(path, "rb") as file:
        rows = read_csv(path, file.read())
    columns = list(rows[0]) if rows else []
    image_column = next((name for name in IMAGE_COLUMNS if name in columns), None)
    group_column = next((name for name in GROUP_COLUMNS if name in columns), None)
    if image_column is None or group_column is None:
        raise ValueError(f"{path}: has the columns {columns}; it needs image_id and project")
    return {
        PurePath(row[image_column]).stem: row[group_column].strip()
        for row in rows
        if row[image_column] and (row[group_column] or "").strip()
    }


def assign_splits(
    groups: Sequence[str],
    fractions: Mapping[str, float],
    seed: int = 0,
    forced: Mapping[str, str] | None = None,
) -> list[str]:
    """Give every item a split such that no group is on two sides; what is left over is `train`.

    Groups are ordered by a hash of seed and name, so the outcome depends on nothing else: not on the
    order of files, the machine, or the Python version. A split takes groups while that brings it
    nearer to its share, and at least one where there are enough; `train` always keeps one.

    Args:
        groups: One group name per item (give each item its own for a plain random split).
        fractions: Share of all items per split, such as {"test": .2, "validation": .1}.
        seed: Another seed, another order.
        forced: Groups that must be in a certain split, whatever the fractions.

    Raises:
        ValueError: Fractions below 0 or not below 1 together, or a forced group that does not exist.
    """
    if min(fractions.values(), default=0) < 0 or sum(fractions.values()) >= 1:
        raise ValueError(f"split fractions {dict(fractions)} must be 0 or more and below 1 together")
    sizes: dict[str, int] = defaultdict(int)
    for group in groups:
        sizes[group] += 1
    side = dict(forced or {})
    if unknown := sorted(side.keys() - sizes.keys()):
        raise ValueError(f"no images of group {unknown[0]!r}; the groups are {', '.join(sorted(sizes))}")

    free = sorted(sizes.keys() - side.keys(), key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest())
    open_splits = [s for s, fraction in fractions.items() if fraction > 0 and s not in side.values()]
    for later, split in zip(reversed(range(len(open_splits))), open_splits):
        wanted, held = fractions[split] * len(groups), 0
        taken: list[str] = []
        for group in free:
            if len(free) - len(taken) <= 1 + later:  # one group is kept for train and for each later split
                break
            if abs(held + sizes[group] - wanted) < abs(held - wanted):
                taken.append(group)
                held += sizes[group]
        if not taken and len(free) > 1:
            taken = [min(free, key=lambda g: sizes[g])]
        side.update(dict.fromkeys(taken, split))
        free = [group for group in free if group not in side]
    return [side.get(group, "train") for group in groups]

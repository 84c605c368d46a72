"""A user's own folder of images and masks, without writing a script.

    cells/images/a.tif   cells/masks/a.png     label image (0, 1..n) or binary; 8/16-bit, TIFF or npy
    cells/images/b.png   cells/masks/b/*.png   or a folder of the image's name with one mask per object

The same below `train/`, `validation/` and `test/` when the split is already made.
"""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..dataset_scripts._reading import (
    assign_splits,
    decode_image,
    encode_png,
    foreground,
    merge_objects,
    modality_of,
)
from ..errors import CellsError
from .splits import check_split_options

SPLIT_FOLDERS = {
    "train": ("train", "training", "tra"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing", "tes"),
}
IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy")
BINARY_VALUES = (1, 255, 65535)

logger = datasets.logging.get_logger(__name__)


@dataclass
class CellFolderConfig(datasets.BuilderConfig):
    """How an own folder is read.

    Args:
        groups: Regular expression searched in each file's stem; what it finds (its first bracket, if it
            has one) is the group, such as a patient or slide, and groups are never divided.
        masks: "labels" when each object has its own value, "binary" when touching pixels make an object,
            "auto" to take a mask whose only value is 1 or the maximum as binary.
        split_seed: Seed of the split.
        validation_fraction: Share of `validation` when there is no such subfolder.
        test_fraction: Share of `test` when there are no subfolders at all.
    """

    groups: str | None = None
    masks: str = "auto"
    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2


@dataclass
class Pair:
    """An image, its mask file or folder of masks, and its group."""

    image: Path
    mask: Path
    group: str | None


class CellFolder(datasets.GeneratorBasedBuilder):
    """Builder of own folders: `semantic` (0/1 masks) or `instance` (label images)."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = CellFolderConfig
    BUILDER_CONFIGS = [
        CellFolderConfig(name="semantic", version=VERSION),
        CellFolderConfig(name="instance", version=VERSION),
    ]
    DEFAULT_CONFIG_NAME = "instance"

    license = "unknown"
    redistributable = False
    homepage = ""
    citation = ""
    class_names = ("background", "cell")
    class_colors = {"background": (0, 0, 0), "cell": (255, 255, 255)}
    group_pattern = None  # the option `groups` says it

    def _info(self) -> datasets.DatasetInfo:
        target = "semantic_mask" if self.config.name == "semantic" else "instance_labels"
        columns = {name: datasets.Value("string") for name in ("image_id", "group", "modality")}
        features = datasets.Features({**columns, "image": datasets.Image(), target: datasets.Image()})
        return datasets.DatasetInfo(features=features)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.masks not in ("auto", "labels", "binary"):
            raise CellsError(f"masks={self.config.masks!r}: choose 'auto', 'labels' or 'binary'")
        check_split_options(self.config)
        root = Path(self.config.data_dir)
        given = {
            split: find_pairs(folder, self.config.groups) for split, folder in split_folders(root).items()
        }
        fractions = {"validation": self.config.validation_fraction}
        if not given:
            given = {"train": find_pairs(root, self.config.groups)}
            fractions["test"] = self.config.test_fraction
        if "train" in given and "validation" not in given:
            given |= self._divide(given.pop("train"), fractions)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"pairs": given[split]})
            for split in SPLIT_FOLDERS
            if given.get(split)
        ]

    def _divide(self, pairs: list[Pair], fractions: dict[str, float]) -> dict[str, list[Pair]]:
        groups = [pair.group or pair.image.stem for pair in pairs]
        sides = assign_splits(groups, fractions, self.config.split_seed)
        return {side: [p for p, s in zip(pairs, sides) if s == side] for side in set(sides)}

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        for pair in pairs:
            image_bytes, image = read_image_file(pair.image)
            labels = read_mask(pair.mask, (image.height, image.width), self.config.masks)
            row: dict[str, Any] = {
                "image_id": pair.image.stem,
                "group": pair.group,
                "modality": modality_of(image),
                "image": {"bytes": image_bytes, "path": pair.image.name},
            }
            if self.config.name == "semantic":
                row["semantic_mask"] = {"bytes": encode_png((labels > 0).astype(np.uint8)), "path": None}
            else:
                row["instance_labels"] = {"bytes": encode_labels(labels), "path": None}
            yield pair.image.stem, row


def looks_like_cell_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder, or a split below it, has `images/` in it."""
    return (Path(path) / "images").is_dir() or bool(split_folders(Path(path)))


def split_folders(root: Path) -> dict[str, Path]:
    """Return the split subfolders that hold `images/`.

    Raises:
        CellsError: The folder holds `images/` of its own as well, so it is unclear what is meant.
    """
    found = {
        split: root / name
        for split, names in SPLIT_FOLDERS.items()
        for name in names
        if (root / name / "images").is_dir()
    }
    if found and (root / "images").is_dir():
        raise CellsError(
            f"{root}: has images/ and {next(iter(found.values())).name}/images/; keep one of the two"
        )
    return found


def find_pairs(folder: Path, groups: str | None) -> list[Pair]:
    """Pair `images/<stem>.*` with `masks/<stem>.*` or `masks/<stem>/`, in sorted order.

    Raises:
        CellsError: An image without a mask, a mask without an image, two files of one stem, or no files.
    """
    images = _by_stem(folder / "images", IMAGE_SUFFIXES, allow_folders=False)
    if not images:
        raise CellsError(
            f"{folder / 'images'}: holds no images; put {', '.join(IMAGE_SUFFIXES)} files into it"
        )
    if not (folder / "masks").is_dir():
        raise CellsError(
            f"{folder}: has images/ but no masks/; put masks of the same names into {folder / 'masks'}, "
            "or for class labels a table labels.csv beside images/, or class folders instead of it"
        )
    masks = _by_stem(folder / "masks", MASK_SUFFIXES, allow_folders=True)
    for missing, there, what in ((images, masks, "mask"), (masks, images, "image")):
        if alone := sorted(missing.keys() - there.keys()):
            raise CellsError(
                f"{missing[alone[0]]}: has no {what} of the same name ({len(alone)} such files); "
                f"add {what}s/{alone[0]}.* or remove the file"
            )
    return [Pair(images[stem], masks[stem], find_group(images[stem], groups)) for stem in sorted(images)]


def _by_stem(folder: Path, suffixes: tuple[str, ...], allow_folders: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    skipped: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not (path.is_dir() if path.is_dir() and allow_folders else path.suffix.lower() in suffixes):
            skipped.append(path)
            continue
        stem = path.name if path.is_dir() else path.stem
        if stem in found:
            raise CellsError(f"{path}: has the same stem as {found[stem].name}; keep one of the two")
        found[stem] = path
    if skipped:
        logger.warning(
            f"{folder}: {len(skipped)} files are not {', '.join(suffixes)}, such as {skipped[0].name}"
        )
    return found


def find_group(image: Path, groups: str | None, root: Path | None = None) -> str | None:
    """Return what the expression finds in the stem of an image; its first bracket if it has one.

    With a root, an expression that has a slash is searched in the path from there.
    """
    if groups is None:
        return None
    name = image.relative_to(root).with_suffix("").as_posix() if root and "/" in groups else image.stem
    try:
        match = re.search(groups, name)
    except re.error as error:
        raise CellsError(f"groups={groups!r} is not a regular expression: {error}; mend it") from error
    found = match and (match.group(1) if match.re.groups else match.group())
    if not found:
        raise CellsError(f"{image}: groups={groups!r} finds nothing in this name; widen the expression")
    return found


def read_image_file(path: Path) -> tuple[bytes, Image.Image]:
    """Return the bytes of an image file and its pixels, which must be one plane."""
    data = path.read_bytes()
    image = decode_image(data, str(path))
    if getattr(image, "n_frames", 1) > 1:
        raise CellsError(f"{path}: is a stack of {image.n_frames} planes; save one file a plane")
    return data, image


def read_mask(path: Path, shape: tuple[int, int], kind: str = "auto") -> np.ndarray:
    """Read a mask file or a folder of one mask per object.

    Args:
        path: PNG, TIFF, BMP or npy file, or a folder of such files.
        shape: Height and width of the image, which the mask must have.
        kind: "labels", "binary" or "auto", as in `CellFolderConfig`.

    Returns:
        uint16 or int32 array (H, W): 0 is background, 1..n in the order of the file's own values.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in MASK_SUFFIXES]
        if not files:
            raise CellsError(f"{path}: holds no masks; put one file per object into it or remove the image")
        objects = [foreground(Image.fromarray(_read_plane(file, shape) > 0)) for file in files]
        try:
            return merge_objects(shape, objects)
        except ValueError as error:
            raise CellsError(f"{path}: {error}") from error
    mask = _read_plane(path, shape)
    values, labels = np.unique(mask, return_inverse=True)
    binary = len(values) <= 2 and int(values[-1]) in BINARY_VALUES
    if kind == "binary" or (kind == "auto" and binary):
        from scipy import ndimage

        return ndimage.label(mask > 0, structure=np.ones((3, 3)))[0]
    return labels.reshape(shape).astype(np.int32) + int(values[0] != 0)


def _read_plane(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read one plane of whole numbers of the given shape; equal colour channels count as one plane."""
    try:
        if path.suffix.lower() == ".npy":
            mask = np.load(path, allow_pickle=False)
        elif path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            mask = tifffile.imread(path)
        else:
            image = decode_image(path.read_bytes(), str(path))
            mask = np.asarray(image.convert("RGB") if image.mode in ("LA", "RGBA") else image)
    except Exception as error:  # readers raise all sorts on a damaged file
        message = (
            str(error) if str(path) in str(error) else f"{path}: cannot be read ({error}); replace the file"
        )
        raise CellsError(message) from error
    if mask.ndim == 3 and mask.shape[-1] in (3, 4) and (mask[..., :3] == mask[..., :1]).all():
        mask = mask[..., 0]
    if mask.shape != shape:
        raise CellsError(f"{path}: is {mask.shape} but its image is {shape}; save one plane of its size")
    if mask.dtype == bool:
        return mask.astype(np.uint8)
    fractions = mask.dtype.kind == "f" and not (mask == np.floor(mask)).all()
    if fractions or mask.dtype.kind not in "iuf" or mask.min(initial=0) < 0:
        raise CellsError(f"{path}: holds fractions or negative numbers; save labels as whole numbers from 0")
    return mask if mask.dtype.kind in "iu" else mask.astype(np.int64)


def encode_labels(labels: np.ndarray) -> bytes:
    """Encode labels (H, W) as 16-bit PNG, or as 32-bit TIFF when there are more than 65,535 objects."""
    if labels.max(initial=0) <= np.iinfo(np.uint16).max:
        return encode_png(labels.astype(np.uint16))
    buffer = io.BytesIO()
    Image.fromarray(labels.astype(np.int32)).save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()

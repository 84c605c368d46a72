"""Writes tiny own folders: `images/` and `masks/` in the forms that `CellFolder` reads."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SHAPE = (20, 24)
# (option, value, message) of options of the split that both kinds of folders refuse
WRONG_SPLIT_OPTIONS = [
    ("test_fraction", 1.5, "test_fraction=1.5: give a share from 0 to below 1, such as 0.2"),
    ("validation_fraction", "abc", "validation_fraction=abc: give a share from 0 to below 1"),
    ("validation_fraction", True, "validation_fraction=True: give a share from 0 to below 1"),
    ("test_fraction", float("nan"), "test_fraction=nan: give a share"),
    ("split_seed", "a", "split_seed=a: give a whole number, such as 1"),
]


def label_image(count: int = 3) -> np.ndarray:
    """Return uint16 labels (20, 24): `count` separate 4x4 squares."""
    labels = np.zeros(SHAPE, np.uint16)
    for index in range(count):
        labels[2:6, 1 + 6 * index : 5 + 6 * index] = index + 1
    return labels


def write_image(folder: Path, stem: str, suffix: str = ".png", seed: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    seed = sum(stem.encode()) if seed is None else seed
    pixels = np.random.default_rng(seed).integers(0, 30, SHAPE, np.uint8)
    path = folder / f"{stem}{suffix}"
    Image.fromarray(np.where(label_image() > 0, 200, pixels).astype(np.uint8)).save(path)
    return path


def write_mask(folder: Path, stem: str, form: str = "labels") -> None:
    """Write the truth of `label_image` in one of the accepted forms."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = label_image()
    byte_labels = labels.astype(np.uint8)
    binary = (labels > 0).astype(np.uint8) * 255
    if form == "objects":
        (folder / stem).mkdir()
        for index in (1, 2, 3):
            Image.fromarray(((labels == index) * 255).astype(np.uint8)).save(folder / stem / f"{index}.png")
    elif form == "npy":
        np.save(folder / f"{stem}.npy", labels.astype(np.int64))
    elif form == "float npy":
        np.save(folder / f"{stem}.npy", labels.astype(np.float32))
    elif form == "bool npy":
        np.save(folder / f"{stem}.npy", labels > 0)
    elif form in ("tiff", "float tiff"):
        tifffile.imwrite(folder / f"{stem}.tif", labels.astype(np.float32 if "float" in form else np.int32))
    else:
        image = {
            "labels": Image.fromarray(labels),
            "gaps": Image.fromarray(byte_labels * 20),
            "binary": Image.fromarray(binary),
            "zero one": Image.fromarray((labels > 0).astype(np.uint8)),
            "one bit": Image.fromarray(labels > 0),
            "colour": Image.fromarray(binary).convert("RGB"),
            "alpha": Image.fromarray(byte_labels).convert("RGBA"),
            "palette": Image.fromarray(byte_labels, "P"),
        }[form]
        if form == "palette":
            image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(folder / f"{stem}.png")


PICTURES = ["labels", "gaps", "binary", "zero one", "one bit", "colour", "alpha", "palette", "objects"]
ARRAYS = ["npy", "float npy", "bool npy", "tiff", "float tiff"]
FORMS = [*PICTURES, *ARRAYS]


def write_folder(root: Path, stems: list[str], form: str = "labels") -> Path:
    for stem in stems:
        write_image(root / "images", stem)
        write_mask(root / "masks", stem, form)
    return root

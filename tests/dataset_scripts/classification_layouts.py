"""Writes tiny HEp-2 and glomerulus layouts: pictures of a few pixels, each with its own noise."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

PATTERNS = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
HEADER = "Image ID,Image class"


def noise(seed: int, shape: tuple[int, ...] = (6, 6)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def write_hep2(
    root: Path,
    per_class: int = 20,
    *,
    folders: Mapping[str, int] | None = None,
    by_class: bool = False,
    padded: bool = True,
    copies: Mapping[int, int] | None = None,
    classes: Iterable[str] = PATTERNS,
) -> dict[int, str]:
    """Write IDs 1, 2, ... class after class, dealt out to split folders in turn.

    Args:
        folders: How many of each ten cells a folder gets.
        by_class: Class folders instead of a CSV.
        copies: ID -> ID whose pixels it has.

    Returns:
        Class by ID.
    """
    shares = folders or {"training": 6, "validation": 2, "test": 2}
    turn = [folder for folder, share in shares.items() for _ in range(share)]
    labels = {i + 1: name for i, name in enumerate(name for name in classes for _ in range(per_class))}
    for number, name in labels.items():
        folder = root / turn[number % len(turn)] / (name if by_class else "")
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(noise((copies or {}).get(number, number)))
        level = 0 if number in (copies or {}) else 6  # equal pixels in files of other bytes
        image.save(folder / (f"{number:05d}.png" if padded else f"{number}.png"), compress_level=level)
    if not by_class:
        write_labels(root / "gt_training.csv", {f"{i:05d}": label for i, label in labels.items()})
    return labels


def write_labels(
    path: Path, labels: Mapping[str, str], header: str = HEADER, delimiter: str = ",", encoding: str = "utf-8"
) -> Path:
    lines = [header, *(f"{image_id},{label}" for image_id, label in labels.items())]
    path.write_bytes("".join(line.replace(",", delimiter) + "\r\n" for line in lines).encode(encoding))
    return path


def crop_name(case: int, number: int) -> str:
    """An invented name of the published form."""
    return f"S-1900-{case:06d}_PAS_{1 + number % 2}of2_{number:024x}.png"


def write_glomeruli(root: Path, cases: int = 10, per_case: int = 4, sclerotic: int = 1) -> dict[str, int]:
    """Write `public/*.png`, RGB and RGBA, and `public.csv`; the first `sclerotic` crops of a case are.

    Returns:
        0 or 1 by file name.
    """
    (root / "public").mkdir(parents=True)
    labels = {}
    for case in range(cases):
        for number in range(per_case):
            name = crop_name(case, number)
            shape = (5, 6 + number, 4 if number % 2 else 3)
            Image.fromarray(noise(case * per_case + number, shape)).save(root / "public" / name)
            labels[name] = int(number < sclerotic)
    write_labels(root / "public.csv", {n: str(v) for n, v in labels.items()}, "name,ground truth")
    return labels


def zip_all(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
    return target

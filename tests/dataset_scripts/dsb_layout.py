"""Writes tiny contest layouts: images of three square nuclei, in one of several stains."""

import csv
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

STAINS = {
    "fluorescence_dark": ((10, 10, 10), (200, 200, 200)),
    "brightfield_grey": ((220, 220, 220), (40, 40, 40)),
    "purple_on_white": ((215, 214, 220), (90, 30, 130)),
    "purple_on_purple": ((182, 164, 206), (70, 20, 150)),
    "purple_on_pink": ((212, 160, 204), (100, 40, 130)),
    "fluorescence_colour": ((0, 5, 30), (20, 30, 220)),
}


def nuclei(shape: tuple[int, int], count: int = 3) -> list[np.ndarray]:
    """Return bool masks (H, W) of squares side by side; the n-th is 6 + n pixels high."""
    masks = []
    for index in range(count):
        mask = np.zeros(shape, bool)
        mask[2 : 8 + index, 2 + 10 * index : 10 + 10 * index] = True
        masks.append(mask)
    return masks


def paint(shape: tuple[int, int], stain: str = "fluorescence_dark", seed: int = 0) -> Image.Image:
    background, nucleus = STAINS[stain]
    pixels = np.empty((*shape, 3), np.uint8)
    pixels[:] = background
    for mask in nuclei(shape):
        pixels[mask] = nucleus
    noise = np.random.default_rng(seed).integers(0, 5, shape, np.uint8)
    return Image.fromarray(pixels + noise[..., None]).convert("RGBA")


def write_image(
    stage: Path,
    image_id: str,
    shape: tuple[int, int] = (36, 40),
    stain: str = "fluorescence_dark",
    masks: bool = True,
) -> Path:
    folder = stage / image_id
    (folder / "images").mkdir(parents=True)
    seed = int.from_bytes(image_id.encode()[-4:], "little")
    paint(shape, stain, seed).save(folder / "images" / f"{image_id}.png")
    if masks:
        (folder / "masks").mkdir()
        for index, mask in enumerate(nuclei(shape)):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"m{index}.png")
    return folder


def write_stage(root: Path, stage: str = "stage1_train", count: int = 10, masks: bool = True) -> Path:
    """Write images `1_t00`, `1_t01`, ... of two sizes."""
    for index in range(count):
        shape = (36, 40) if index % 3 else (50, 64)
        write_image(root / stage, f"1_t{index:02d}", shape, masks=masks)
    return root / stage


def zip_folder(folder: Path, target: Path, top: str) -> Path:
    """Zip a folder with `top` in front of every name ('' for none)."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return target


def run_lengths(mask: np.ndarray) -> str:
    """Encode a mask as the contest does: 1-based starts and lengths, column by column."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat)) + 1
    return " ".join(f"{start} {stop - start}" for start, stop in zip(edges[::2], edges[1::2]))


def write_solution(path: Path, shapes: dict[str, tuple[int, int]], ignored: tuple[str, ...] = ()) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "EncodedPixels", "Height", "Width", "Usage"])
        for image_id, shape in shapes.items():
            if image_id in ignored:
                rows.writerow([image_id, "1 1", *shape, "Ignored"])
                continue
            rows.writerows([image_id, run_lengths(mask), *shape, "Private"] for mask in nuclei(shape))
    return path

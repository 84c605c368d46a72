"""A tiny culture drawn with ellipses: nuclei, bodies with a dark line between neighbours, known labels."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

COLOURS = ("red", "green", "blue", "yellow")


def draw_culture(
    side: int = 256, seed: int = 0, cells: int = 9
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return uint8 images by colour, nucleus labels and cell labels: a grid of touching round cells."""
    rng = np.random.default_rng(seed)
    per_row = round(cells**0.5)
    pitch = side / (per_row + 0.6)
    rows, columns = np.mgrid[:side, :side]
    cell, nucleus = np.zeros((side, side), np.int32), np.zeros((side, side), np.int32)
    level = np.zeros((side, side), np.float32)
    for number in range(1, per_row**2 + 1):
        y, x = (0.8 + np.array(divmod(number - 1, per_row))) * pitch + rng.uniform(-0.03, 0.03, 2) * pitch
        away = np.hypot(rows - y, columns - x)
        body = (away < 0.53 * pitch) & (cell == 0)
        cell[body] = number
        level[body] = rng.uniform(0.6, 1.0)
        nucleus[away < 0.2 * pitch] = number
    rim = ndimage.maximum_filter(cell, 3) != ndimage.minimum_filter(np.where(cell > 0, cell, 99), 3)
    body = ndimage.gaussian_filter(np.where(rim, 0.2, 1) * level, 1)
    stains = {"red": body, "yellow": 0.8 * body, "green": 0.3 * body, "blue": (nucleus > 0) * 0.9}
    images = {}
    for colour in COLOURS:
        plane = ndimage.gaussian_filter(stains[colour].astype(np.float32), 0.7)
        noisy = plane * 180 + rng.normal(4, 2, plane.shape)
        images[colour] = np.clip(noisy, 0, 255).astype(np.uint8)
    return images, nucleus, cell


def write_field(folder: Path, name: str, images: dict[str, np.ndarray], suffix: str = "png") -> None:
    """Write `<name>_<colour>.<suffix>`."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour, plane in images.items():
        Image.fromarray(plane).save(folder / f"{name}_{colour}.{suffix}")

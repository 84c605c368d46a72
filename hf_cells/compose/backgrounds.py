"""Backgrounds: 1000x1000 pixels of red cells on glass, with the place of every cell recorded."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .classes import CLASS_IDS, RED_CELL_DIAMETER
from .library import Library, Sample
from .pasting import mark, paste, turned
from .plan import KINDS, generator, split_number
from .stain import GLASS, Look

SIDE = 1000
COVERAGE = (0.08, 0.55)  # share of the area under red cells
SPACING = 0.93  # of the touching distance: neighbours overlap a little at most


@dataclass
class Background:
    """One background.

    Attributes:
        name: Such as "train-0007".
        kind: "infected", "healthy" or "mixed".
        light: (SIDE, SIDE, 3) uint8 over reference glass.
        labels: (SIDE, SIDE) uint16, 0 glass, i the i-th cell.
        cells: Of cell i at i - 1: class, sample_id, centre x and y, angle, flipped.
        class_ids: (n + 1,) uint8 class of each label, 0 first.
    """

    name: str
    kind: str
    light: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    cells: list[dict[str, Any]]
    class_ids: NDArray[np.uint8]


def kind_of(number: int) -> str:
    """Kind of a background by its number: the three kinds take turns."""
    return KINDS[number % len(KINDS)]


def make_background(library: Library, seed: int, split: str, number: int) -> Background:
    """Compose background `number` of a split from red cells of that split only."""
    rng = generator(seed, split_number(split), 2, number)
    kind = kind_of(number)
    centres = scatter(rng)
    infected = {"infected": 1.0, "healthy": 0.0}.get(kind, float(rng.uniform(0.2, 0.8)))
    canvas = Image.fromarray(_glass(rng))
    labels = np.zeros((SIDE, SIDE), np.uint16)
    cells: list[dict[str, Any]] = []
    for y, x in centres:
        class_name = "infected_rbc" if rng.random() < infected else "healthy_rbc"
        samples = library.of(split, class_name)
        sample: Sample = samples[int(rng.integers(len(samples)))]
        angle, flipped = float(np.round(rng.uniform(0, 360), 1)), bool(rng.random() < 0.5)
        stamp = turned(sample.rgba, angle, flipped)
        left, top = round(float(x) - stamp.width / 2), round(float(y) - stamp.height / 2)
        paste(canvas, stamp, left, top)
        mark(labels, stamp, left, top, len(cells) + 1)
        cells.append(
            {
                "class": class_name,
                "sample": sample.sample_id,
                "x": round(float(x), 1),
                "y": round(float(y), 1),
                "angle": angle,
                "flipped": flipped,
            }
        )
    light = np.asarray(canvas.point(_red_cell_look(rng).table()))
    class_ids = np.array([0, *(CLASS_IDS[cell["class"]] for cell in cells)], np.uint8)
    return Background(f"{split}-{number:04d}", kind, light, labels, cells, class_ids)


def scatter(rng: np.random.Generator) -> NDArray[np.floating]:
    """Centres (n, 2) row, column of red cells at a random density, some beyond the border, none piled up."""
    margin = RED_CELL_DIAMETER / 2
    span = SIDE + 2 * margin
    wanted = int(rng.uniform(*COVERAGE) * span**2 / (np.pi * margin**2))
    tried = rng.uniform(-margin, SIDE + margin, (wanted * 6, 2))
    # Some centres draw others near: smears have crowds and gaps.
    drawn = rng.random(len(tried)) < rng.uniform(0, 0.6)
    near = tried[rng.integers(len(tried), size=len(tried))] + rng.normal(
        0, 1.5 * RED_CELL_DIAMETER, tried.shape
    )
    tried = np.where(drawn[:, None], near, tried)
    kept = np.empty((wanted, 2))
    count = 0
    least = (SPACING * RED_CELL_DIAMETER) ** 2
    for place in tried:
        if count == wanted:
            break
        if not (((kept[:count] - place) ** 2).sum(1) < least).any():
            kept[count] = place
            count += 1
    return kept[:count]


def _red_cell_look(rng: np.random.Generator) -> Look:
    """Strength and hue of haemoglobin in this smear; glass stays as it is."""
    gain = np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.07, 3))
    red, green, blue = (float(value) for value in gain)
    return Look((GLASS, GLASS, GLASS), (red, green, blue))


@cache
def _grain(number: int) -> NDArray[np.int16]:
    """Four tiles of camera noise, correlated over a pixel as after demosaicing; drawn once a process."""
    noise = generator(20, number).standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.7, 0.7, 0), mode="wrap")
    return np.round(noise * np.float32(1.6 / noise.std())).astype(np.int16)


def _glass(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Glass with faint stains of plasma and camera noise."""
    coarse = Image.fromarray(rng.normal(0, 1, (12, 12)).astype(np.float32))
    stains = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) * np.float32(
        rng.uniform(0.5, 3)
    )
    tile = np.roll(_grain(int(rng.integers(4))), rng.integers(0, SIDE, 2), (0, 1))
    return np.clip(tile + (GLASS + np.round(stains)).astype(np.int16)[..., None], 0, 255).astype(np.uint8)

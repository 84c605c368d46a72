"""The appearance of a whole sample: one glass, one stain and one sharpness for all that is in it."""

import numpy as np
from PIL import Image, ImageFilter

from .classes import WHITE_CELLS
from .library import Library, Sample
from .stain import Look

GAIN_RANGE = (0.5, 1.8)
BLUR = (0.35, 0.75)  # pixels


def look_sources(library: Library, split: str) -> list[Sample]:
    """Samples of a split whose smears lend their look; white cells, as each comes from a smear of its own."""
    white = [s for s in library.samples if s.split == split and s.class_name in WHITE_CELLS]
    return sorted(white or [s for s in library.samples if s.split == split], key=lambda s: s.sample_id)


def draw_look(rng: np.random.Generator, sources: list[Sample]) -> Look:
    """The glass of one source image, and its stain to a random degree, both a little changed."""
    source = sources[int(rng.integers(len(sources)))]
    glass = np.clip(np.array(source.glass) * rng.uniform(0.94, 1.0) + rng.normal(0, 4, 3), 90, 255)
    native = np.array(source.gain) ** -rng.uniform(0, 1)
    gain = np.clip(native * np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.05, 3)), *GAIN_RANGE)
    return Look(_triple(glass, 1), _triple(gain, 3))


def apply_look(rng: np.random.Generator, image: Image.Image, look: Look) -> Image.Image:
    """Blur all of the sample alike, so that sharpness tells nothing of a paste, and give it its colours."""
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(*BLUR)))).point(look.table())


def _triple(values: np.ndarray, digits: int) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), digits) for value in values)
    return red, green, blue

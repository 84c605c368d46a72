"""The appearance of a whole sample: one glass, one stain and one sharpness for all that is in it."""

from collections import defaultdict

import numpy as np
from PIL import Image, ImageFilter

from .classes import WHITE_CELLS
from .library import Library, Sample
from .stain import Look

GAIN_RANGE = (0.5, 1.8)
BLUR = (0.06, 0.5)  # radius in pixels of a box: three taps [r, 1, r] along each axis


def look_sources(library: Library, split: str) -> list[list[Sample]]:
    """Samples of a split that lend their look, by source database: each database counts alike."""
    by_source: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(library.samples, key=lambda sample: sample.sample_id):
        if sample.split == split and sample.built_from is None:
            by_source[sample.source].append(sample)
    return [by_source[name] for name in sorted(by_source)]


def draw_look(rng: np.random.Generator, sources: list[list[Sample]]) -> Look:
    """The glass of one source image, and its stain to a random degree, both a little changed.

    Only white cells lend their stain: they have all its colours, red cells and platelets one each.
    """
    samples = sources[int(rng.integers(len(sources)))]
    sample = samples[int(rng.integers(len(samples)))]
    glass = np.clip(np.array(sample.glass) * rng.uniform(0.94, 1.0) + rng.normal(0, 4, 3), 90, 255)
    degree = rng.uniform(0, 1) if sample.class_name in WHITE_CELLS else 0.0
    native = np.array(sample.gain) ** -degree
    gain = np.clip(native * np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.05, 3)), *GAIN_RANGE)
    return Look(_triple(glass, 1), _triple(gain, 3))


def apply_look(rng: np.random.Generator, image: Image.Image, look: Look) -> Image.Image:
    """Blur all of the sample alike, so that sharpness tells nothing of a paste, and give it its colours."""
    return image.filter(ImageFilter.BoxBlur(float(rng.uniform(*BLUR)))).point(look.table())


def _triple(values: np.ndarray, digits: int) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), digits) for value in values)
    return red, green, blue

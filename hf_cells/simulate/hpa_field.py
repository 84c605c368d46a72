"""One simulated field of the Human Protein Atlas: four channels, masks and the labels of every cell."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage
from .hpa_cell import Cell
from .hpa_culture import LINES, CellLine, Culture, grow_culture
from .hpa_markers import chromatin, microtubules, reticulum
from .hpa_proteins import INTERPHASE, NEGATIVE, SPINDLE, paint
from .optics import add_noise, digitise, draw, draw_log, point_spread

COLOURS = ("red", "green", "blue", "yellow")
_MARGIN = 14.0  # micrometres around the field, so that its border cuts whole cells


@dataclass(frozen=True)
class Antibody:
    """What a field is stained with.

    Attributes:
        name: Its identifier.
        labels: Numbers of the locations it shows, the strongest first.
        strengths: Brightness of each of them, 1 for the strongest.
        signal: Grey value of a bright place.
    """

    name: str
    labels: tuple[int, ...]
    strengths: tuple[float, ...]
    signal: float


@dataclass(frozen=True)
class Conditions:
    """How a field departs from the usual ones; every number is a factor, and 1 changes nothing.

    Attributes:
        blur: On the width of the point spread.
        noise: On the standard deviation of the camera's noise.
        brightness: On the grey values of all stains.
        density: On the share of the field under cells, as far as there is room for them.
    """

    blur: float = 1.0
    noise: float = 1.0
    brightness: float = 1.0
    density: float = 1.0

    def crowd(self, line: CellLine) -> CellLine:
        """Return the cell line at this density."""
        return replace(line, coverage=(line.coverage[0] * self.density, line.coverage[1] * self.density))


USUAL = Conditions()


@dataclass(frozen=True)
class SimulatedField:
    """A field of view with its truth.

    Attributes:
        channels: (H, W, 4) uint8 or uint16: red (microtubules), green (protein), blue (nuclei), yellow (ER).
        cell_labels: int32 (H, W), 0 between cells, 1..n without gaps.
        nucleus_labels: int32 (H, W), the same numbers.
        cell_classes: Labels of each cell 1..n, sorted.
    """

    channels: NDArray[np.uint8] | NDArray[np.uint16]
    cell_labels: NDArray[np.int32]
    nucleus_labels: NDArray[np.int32]
    cell_classes: list[tuple[int, ...]]


def simulate_field(
    rng: np.random.Generator,
    size: tuple[int, int],
    line: str,
    antibody: Antibody,
    pixel_um: float,
    bit_depth: int = 8,
    conditions: Conditions = USUAL,
) -> SimulatedField:
    """Draw one field.

    Args:
        rng: Source of randomness.
        size: (H, W) pixels.
        line: Cell line, one of LINES.
        antibody: The stain of the green channel.
        pixel_um: Side of a pixel in micrometres; .08 in the challenge.
        bit_depth: 8 or 16.
        conditions: How it departs from the usual.
    """
    scale = 1 / pixel_um
    margin = round(_MARGIN * scale)
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    seen_in_division = not INTERPHASE.issuperset(antibody.labels)
    division = "some" if SPINDLE in antibody.labels else "rare" if seen_in_division else "never"
    culture = grow_culture(rng, canvas, conditions.crowd(LINES[line]), scale, division)
    truth = _crop(culture, margin, size)
    classes = _express(rng, culture.cells, antibody)
    light = _stain(rng, culture, classes, antibody)
    window = (slice(margin, margin + size[0]), slice(margin, margin + size[1]))
    image = _expose(rng, [plane[window] for plane in light], antibody, scale, conditions)
    cells, nuclei, shown = truth
    return SimulatedField(digitise(rng, image, bit_depth), cells, nuclei, [classes[i] for i in shown])


def _crop(
    culture: Culture, margin: int, size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], list[int]]:
    """Cell labels, nucleus labels and indices of the cells whose nucleus the field shows.

    A cell whose nucleus lies outside is in the picture and not in the truth: nobody could tell it from its
    neighbours. So is one of whose nucleus there is only a sliver.
    """
    window = (slice(margin, margin + size[0]), slice(margin, margin + size[1]))
    cells, nuclei = culture.cell_labels[window], culture.nucleus_labels[window]
    n = len(culture.cells)
    whole = np.array([cell.nucleus.sum() for cell in culture.cells])
    seen = np.bincount(nuclei.ravel(), minlength=n + 1)[1:]
    shown = [i for i in range(n) if seen[i] >= max(4, 0.08 * whole[i])]
    renumber = np.zeros(n + 1, np.int32)
    renumber[np.array(shown, np.intp) + 1] = np.arange(1, len(shown) + 1)
    return renumber[cells], renumber[nuclei], shown


def _express(rng: np.random.Generator, cells: list[Cell], antibody: Antibody) -> list[tuple[int, ...]]:
    """Labels of every cell: all alike, some with fewer of the labels, or some with none (Negative)."""
    kind = rng.choice(["alike", "fewer", "none"], p=[0.5, 0.3, 0.2])
    share = rng.uniform(0.4, 0.85)
    classes = []
    for cell in cells:
        own = set(antibody.labels)
        if kind == "fewer" and len(own) > 1:
            own = {label for label in own if rng.random() < share} or {antibody.labels[0]}
        elif kind == "none" and rng.random() > share:
            own = set()
        if cell.dividing:
            own = {label for label in antibody.labels if label not in INTERPHASE}
        else:
            own -= {SPINDLE}
        classes.append(tuple(sorted(own)) or (NEGATIVE,))
    return classes


def _stain(
    rng: np.random.Generator, culture: Culture, classes: list[tuple[int, ...]], antibody: Antibody
) -> list[FloatImage]:
    """Emitted light in the order of COLOURS, about 1 where it is bright; float32 (H, W) each."""
    shape = culture.cell_labels.shape
    planes = [np.zeros(shape, np.float32) for _ in COLOURS]
    spread = rng.uniform(0.1, 0.3, 4)
    mottle = rng.uniform(0.08, 0.35)
    unspecific = rng.uniform(0.01, 0.06)
    strength = dict(zip(antibody.labels, antibody.strengths, strict=True))
    for cell, own in zip(culture.cells, classes, strict=True):
        tubules, yellow = microtubules(rng, cell), reticulum(rng, cell)
        protein = np.float32(unspecific) * cell.thickness * np.exp(0.3 * cell.texture(rng, 0.3))
        for label in own:
            if label != NEGATIVE:
                protein = protein + np.float32(strength[label]) * paint(rng, cell, label, tubules, yellow)
        light = (tubules, protein, chromatin(rng, cell, mottle), yellow)
        own_brightness = np.exp(spread * rng.standard_normal(4))
        own_brightness *= np.where(cell.dividing, 1.4, 1.0)
        for plane, part, brightness in zip(planes, light, own_brightness, strict=True):
            plane[cell.box] += np.float32(brightness) * np.where(cell.mask, part, np.float32(0))
    return planes


def _expose(
    rng: np.random.Generator,
    planes: list[FloatImage],
    antibody: Antibody,
    scale: float,
    conditions: Conditions,
) -> FloatImage:
    """Light to grey values: (H, W, 4) float32 on a 0..255 scale."""
    signals = [draw_log(rng, (70, 230)), antibody.signal, draw_log(rng, (70, 210)), draw_log(rng, (60, 220))]
    signals = [signal * conditions.brightness for signal in signals]
    blur, halo = draw(rng, (0.06, 0.13)) * scale * conditions.blur, draw(rng, (0.02, 0.18))
    bleed = rng.uniform(0, 0.02)
    exposed = []
    for plane, signal in zip(planes, signals, strict=True):
        seen = point_spread(plane, blur, halo, 1.5 * scale)
        image = np.float32(signal) * (seen + np.float32(bleed) * planes[0])
        image = image + _specks(rng, image.shape, scale) * np.float32(signal * 0.5)
        image = image + np.float32(draw(rng, (-2.5, 2.0)))
        read = draw_log(rng, (0.3, 1.5)) * conditions.noise
        shot = draw_log(rng, (0.1, 1.2)) * conditions.noise**2
        exposed.append(add_noise(rng, image, read, shot, 0.5))
    return np.stack(exposed, axis=-1)


def _specks(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> FloatImage:
    """A few grains of debris anywhere in the field."""
    specks = np.zeros(shape, np.float32)
    n = int(rng.integers(0, 8))
    specks[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = rng.exponential(1, n)
    sigma = max(0.6, 0.25 * scale)
    return ndimage.gaussian_filter(specks, sigma) * np.float32(2 * np.pi * sigma**2) if n else specks

"""Bright nuclei on a dark background: widefield and confocal fluorescence of DNA stains."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .fields import FloatImage, fibre_field, smooth_field, wide_blur
from .optics import (
    Range,
    add_noise,
    add_photon_noise,
    draw,
    draw_log,
    illumination,
    point_spread,
)
from .population import Nuclei, Population, draw_nuclei
from .shapes import Floats


@dataclass(frozen=True)
class FluorescenceLook:
    """Ranges from which one image draws its own values; grey values are on a 0..255 scale.

    Attributes:
        population: The nuclei.
        offset: Grey value of the empty background.
        signal: Grey values of the median nucleus above the background (log-uniform).
        unevenness: Standard deviation of log brightness between nuclei.
        dome: 0 flat discs, .5 spheres: how brightness falls towards the rim.
        chromatin: Standard deviation of log brightness inside a nucleus.
        bright: Share of condensed (mitotic, apoptotic) nuclei.
        blur: Standard deviation of the point spread core, pixels.
        halo: Share of light in the wide skirt of the point spread.
        haze: Cytoplasm and out-of-focus light around nuclei, in units of the signal.
        defocus: Share of nuclei out of the focal plane.
        noise: Read noise in grey values (log-uniform).
        photons: Probability of weak light with visible photon statistics.
    """

    population: Population
    offset: Range = (0, 15)
    signal: Range = (14, 150)
    unevenness: Range = (0.1, 0.4)
    dome: Range = (0.05, 0.4)
    chromatin: Range = (0.05, 0.25)
    bright: Range = (0.0, 0.08)
    blur: Range = (0.6, 1.3)
    halo: Range = (0.0, 0.4)
    haze: Range = (0.0, 0.1)
    defocus: Range = (0.0, 0.1)
    noise: Range = (0.2, 1.2)
    photons: float = 0.05
    sizes: tuple[tuple[int, int], ...] = field(default=((256, 256),))


def render_fluorescence(
    rng: np.random.Generator, shape: tuple[int, int], look: FluorescenceLook
) -> tuple[FloatImage, NDArray[np.int32]]:
    """Grey image float32 (H, W) on a 0..255 scale and its labels int32 (H, W)."""
    nuclei = draw_nuclei(rng, shape, look.population)
    signal = draw_log(rng, look.signal)
    light = _nuclear_light(rng, nuclei, look)
    diameter = nuclei.diameter

    surroundings = _surroundings(rng, shape, light, diameter, draw(rng, look.haze))
    specks = _specks(rng, shape) if rng.random() < 0.35 else 0.0
    halo = draw(rng, look.halo) if rng.random() < 0.8 else 0.0
    scene = point_spread(light + specks, draw(rng, look.blur), halo, diameter * draw(rng, (0.4, 1.5)))
    lamp = illumination(rng, shape, draw(rng, (0, 0.5))) if rng.random() < 0.5 else 1.0
    offset = draw(rng, look.offset)
    glow = draw(rng, (0, 0.15)) * signal if rng.random() < 0.3 else 0.0  # medium that fluoresces itself
    image = offset + lamp * (signal * (scene + surroundings) + glow)
    return _expose(rng, image, signal, look), nuclei.labels


def _nuclear_light(rng: np.random.Generator, nuclei: Nuclei, look: FluorescenceLook) -> FloatImage:
    """Emitted light of all nuclei, 1 for a typical one, sharp but for those out of focus."""
    raster, n = nuclei.raster, nuclei.raster.n
    brightness = np.exp(draw(rng, look.unevenness) * rng.standard_normal(n)).astype(np.float32)
    condensed = (rng.random(n) < draw(rng, look.bright)) | (nuclei.fragment & (rng.random(n) < 0.6))
    brightness[condensed] *= rng.uniform(1.3, 3.5, condensed.sum()).astype(np.float32)
    texture = chromatin(rng, nuclei, draw(rng, look.chromatin))
    texture *= np.where(condensed, np.float32(0.3), np.float32(1))[raster.owner]

    power = draw(rng, look.dome) * rng.uniform(0.6, 1.4, n).astype(np.float32)
    # Not quite to zero on the outline, so that half of the brightness stays where the truth ends.
    dome = np.maximum(1 - np.float32(0.88) * raster.level**2, np.float32(0.1)) ** power[raster.owner]
    value = np.clip(raster.depth + 0.5, 0, 1) * dome * np.exp(texture) * brightness[raster.owner]
    if rng.random() < 0.12:  # stained envelope: a bright rim
        ring = np.exp(-(((raster.depth - 1.5) / np.float32(1.2)) ** 2))
        value *= 1 + draw(rng, (0.1, 0.7)) * ring

    blurred = rng.random(n) < draw(rng, look.defocus)
    if not blurred.any():
        return raster.paint(value)
    deep = blurred[raster.owner]
    sharp = raster.paint(np.where(deep, np.float32(0), value))
    sigma = min(max(0.12 * nuclei.diameter, 1.0), 6.0) * draw(rng, (0.6, 1.5))
    return sharp + wide_blur(raster.paint(np.where(deep, value, np.float32(0))), sigma)


def chromatin(rng: np.random.Generator, nuclei: Nuclei, strength: float) -> Floats:
    """Log brightness (m,) along the raster: grain, larger clumps, bright chromocentres, dark nucleoli.

    Every nucleus reads the same random fields at its own random offset and strength.
    """
    raster = nuclei.raster
    height, width = raster.shape
    n, owner = raster.n, raster.owner
    row, column = np.divmod(raster.pixel, width)
    row = (row + rng.integers(0, height, n)[owner]) % height
    column = (column + rng.integers(0, width, n)[owner]) % width
    at = row * width + column
    diameter = nuclei.diameter
    own = (strength * rng.uniform(0.5, 1.5, n)).astype(np.float32)[owner]

    grain = smooth_field(rng, raster.shape, max(1.3, draw(rng, (0.04, 0.1)) * diameter)).ravel()[at]
    clumps = smooth_field(rng, raster.shape, max(2.0, draw(rng, (0.15, 0.35)) * diameter)).ravel()[at]
    mix = draw(rng, (0.3, 0.9))
    log_light = own * (mix * grain + (1 - mix) * clumps)
    kind = rng.random()
    if kind < 0.3:  # mouse-like chromocentres
        log_light += draw(rng, (0.2, 0.6)) * np.maximum(clumps - np.float32(0.9), 0)
    if kind > 0.6:  # nucleoli
        log_light -= draw(rng, (0.1, 0.5)) * np.maximum(-clumps - np.float32(0.9), 0)
    return log_light


def _surroundings(
    rng: np.random.Generator, shape: tuple[int, int], light: FloatImage, diameter: float, amount: float
) -> FloatImage:
    """Faint cytoplasm: light around nuclei, mottled, sometimes drawn out into processes."""
    if amount < 0.005:
        return np.zeros(shape, np.float32)
    cloud = wide_blur(np.minimum(light, 1.5), diameter * draw(rng, (0.8, 2.0)))
    mottle = np.exp(0.6 * smooth_field(rng, shape, diameter * draw(rng, (0.4, 1.0))))
    if rng.random() < 0.4:
        width = max(2.0, diameter * draw(rng, (0.2, 0.8)))
        strands = fibre_field(rng, shape, width, width * draw(rng, (4, 15)), rng.uniform(0, np.pi))
        mottle = mottle * np.exp(np.float32(draw(rng, (0.3, 0.8))) * strands)
    return np.float32(amount) * (3 * cloud + 0.15) * np.minimum(mottle, 3)


def _specks(rng: np.random.Generator, shape: tuple[int, int]) -> FloatImage:
    """Dust and dye crystals: specks too small to be nuclei, and a few dim smears; not in the truth."""
    specks = np.zeros(shape, np.float32)
    n = int(rng.integers(1, max(3, shape[0] * shape[1] // 3000)))
    rows, columns = rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)
    specks[rows, columns] = draw_log(rng, (0.3, 4)) * rng.exponential(1, n)
    if rng.random() < 0.5:
        smears = np.zeros(shape, np.float32)
        m = int(rng.integers(1, 6))
        smears[rng.integers(0, shape[0], m), rng.integers(0, shape[1], m)] = rng.uniform(0.05, 0.3, m)
        sigma = draw(rng, (3, 12))
        specks += wide_blur(smears, sigma) * np.float32(2 * np.pi * sigma**2) * draw(rng, (0.2, 0.8))
    return specks


def _expose(rng: np.random.Generator, image: FloatImage, signal: float, look: FluorescenceLook) -> FloatImage:
    if rng.random() < look.photons:
        image = add_photon_noise(rng, image, draw_log(rng, (0.3, 3.0)) * 30 / signal)
    read = draw_log(rng, look.noise)
    grain = draw(rng, (0.3, 0.8)) if rng.random() < 0.6 else 0.0
    return add_noise(rng, image, read, draw_log(rng, (0.001, 0.03)), grain)


def tint(rng: np.random.Generator, image: FloatImage) -> FloatImage:
    """The false colour in which some microscopes save a grey image: float32 (H, W, 3)."""
    colour = rng.random(3, dtype=np.float32)
    colour[rng.integers(3)] = 1
    return image[..., None] * colour


LOOKS = {
    # Sparse small nuclei of cultured cells, some very dim.
    "fluorescence": FluorescenceLook(
        Population((8, 22), (0.01, 0.16), aspect=(1.15, 1.6), patterns=("scattered", "scattered", "clumps")),
        sizes=((256, 256), (256, 256), (256, 320), (260, 347)),
    ),
    # Large smooth nuclei at high magnification.
    "large": FluorescenceLook(
        Population(
            (24, 80),
            (0.1, 0.5),
            spread=(0.1, 0.3),
            aspect=(1.2, 1.7),
            roughness=(0.02, 0.17),
            bend=(0.0, 0.3),
            spacing=(0.78, 1.05),
            patterns=("scattered", "scattered", "clumps", "islands"),
            fragments=0.4,
        ),
        offset=(2, 12),
        signal=(12, 90),
        unevenness=(0.1, 0.35),
        dome=(0.1, 0.35),
        chromatin=(0.08, 0.25),
        bright=(0.0, 0.08),
        blur=(0.8, 2.0),
        sizes=((360, 360), (360, 360), (520, 696), (1024, 1024)),
    ),
    # Round textured nuclei in touching and overlapping heaps, with haze.
    "clumps": FluorescenceLook(
        Population(
            (10, 30),
            (0.06, 0.35),
            aspect=(1.08, 1.35),
            spacing=(0.6, 1.0),
            patterns=("clumps", "clumps", "islands"),
        ),
        offset=(0, 10),
        signal=(25, 130),
        unevenness=(0.15, 0.4),
        dome=(0.15, 0.5),
        chromatin=(0.1, 0.4),
        halo=(0.1, 0.5),
        haze=(0.0, 0.15),
        defocus=(0.0, 0.3),
    ),
    # Weak light, black background, nuclei at many depths.
    "confocal": FluorescenceLook(
        Population((18, 48), (0.05, 0.25), spacing=(0.7, 1.1), fragments=0.1),
        offset=(-1, 4),
        signal=(12, 60),
        unevenness=(0.3, 0.6),
        chromatin=(0.1, 0.35),
        blur=(0.8, 1.8),
        halo=(0.2, 0.7),
        defocus=(0.1, 0.5),
        noise=(0.3, 2.5),
        photons=0.5,
        sizes=((512, 640), (256, 320)),
    ),
    # Tissue in fluorescence: dense, elongated, aligned.
    "packed": FluorescenceLook(
        Population(
            (8, 24),
            (0.15, 0.5),
            spread=(0.1, 0.3),
            aspect=(1.2, 2.4),
            spacing=(0.75, 1.1),
            order=(0.3, 1.0),
            patterns=("scattered", "rows", "islands"),
            fragments=0.1,
        ),
        offset=(-3, 18),
        signal=(15, 120),
        unevenness=(0.1, 0.5),
        dome=(0.1, 0.5),
        blur=(0.7, 1.6),
        halo=(0.2, 0.6),
        haze=(0.0, 0.2),
        defocus=(0.0, 0.25),
        sizes=((256, 256), (520, 696), (603, 1272)),
    ),
}

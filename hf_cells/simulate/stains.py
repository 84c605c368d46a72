"""Dark nuclei on a bright background: tissue stains by optical density, smears, grey cytology.

Stains absorb: transmitted light is lamp * exp(-amount * optical density) per channel (Beer and Lambert), the
model that colour deconvolution inverts (Ruifrok and Johnston 2001).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage, fibre_field, smooth_field, wide_blur
from .fluorescence import chromatin
from .optics import Range, add_noise, draw, draw_log, illumination, jpeg_blocks
from .population import Nuclei, Population, draw_nuclei
from .shapes import Outlines, draw_rims, rasterise

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """Lamp colour (grey values) and optical densities per RGB channel of the two stains."""

    lamp: Colour
    nuclear: Colour
    other: Colour


PALETTES = {
    "lavender": Palette((184, 166, 209), (0.55, 1.25, 0.09), (0.10, 0.16, 0.03)),
    "magenta": Palette((218, 220, 225), (0.50, 1.10, 0.26), (0.06, 0.14, 0.05)),
    "pink": Palette((240, 232, 240), (0.75, 1.05, 0.45), (0.10, 0.75, 0.30)),
    "yellow": Palette((214, 200, 140), (0.75, 0.95, 0.45), (0.20, 0.30, 0.35)),
    "white": Palette((235, 235, 232), (0.85, 0.95, 0.45), (0.20, 0.35, 0.15)),
    "blue": Palette((225, 230, 236), (1.00, 0.75, 0.30), (0.30, 0.30, 0.35)),
}


@dataclass(frozen=True)
class StainLook:
    """Ranges from which one image draws its own values.

    Attributes:
        population: The nuclei.
        palettes: Names in PALETTES, repeated to weigh them.
        strength: Amount of nuclear stain in the median nucleus (log-uniform).
        unevenness: Standard deviation of log amount between nuclei.
        chromatin: Standard deviation of log amount inside a nucleus.
        stroma: Amount of the other stain in tissue.
        ghosts: Out-of-focus nuclei outside the truth, as a share of the nuclei.
        defocus: Share of nuclei within the truth that are a little out of focus.
        open: Probability of empty spaces in the tissue.
        bodies: Probability of broad cell bodies around nuclei.
        grey: True for a one-channel camera.
    """

    population: Population
    palettes: tuple[str, ...]
    strength: Range = (0.4, 1.3)
    unevenness: Range = (0.15, 0.5)
    chromatin: Range = (0.15, 0.7)
    stroma: Range = (0.1, 1.0)
    ghosts: Range = (0.0, 0.6)
    defocus: Range = (0.0, 0.4)
    open: float = 0.5
    bodies: float = 0.05
    grey: bool = False
    sizes: tuple[tuple[int, int], ...] = ((256, 320),)


def render_stained(
    rng: np.random.Generator, shape: tuple[int, int], look: StainLook
) -> tuple[FloatImage, NDArray[np.int32]]:
    """Image float32 (H, W, 3), or (H, W) for a grey look, on a 0..255 scale, and labels int32 (H, W)."""
    nuclei = draw_nuclei(rng, shape, look.population)
    palette = PALETTES[str(rng.choice(look.palettes))]
    nuclear = _nuclear_stain(rng, nuclei, look) * np.float32(draw_log(rng, look.strength))
    ghosts = _ghosts(rng, nuclei, draw(rng, look.ghosts))
    other = _tissue(rng, nuclei, look)
    image = _transmit(rng, nuclear + ghosts, other, palette, look.grey)
    return image, nuclei.labels


def _nuclear_stain(rng: np.random.Generator, nuclei: Nuclei, look: StainLook) -> FloatImage:
    """Amount of nuclear stain, 1 in a typical nucleus: clumped chromatin, pale nuclei with a dark rim."""
    raster, n = nuclei.raster, nuclei.raster.n
    amount = np.exp(draw(rng, look.unevenness) * rng.standard_normal(n)).astype(np.float32)
    pale = rng.random(n) < (draw(rng, (0.1, 0.7)) if rng.random() < 0.5 else 0.05)
    amount[pale] *= rng.uniform(0.35, 0.7, pale.sum()).astype(np.float32)
    texture = chromatin(rng, nuclei, draw(rng, look.chromatin))
    rim_width = np.float32(max(1.0, 0.06 * nuclei.diameter))
    rim = np.exp(-(((raster.depth - 0.8 * rim_width) / rim_width) ** 2))
    rim_strength = np.where(pale, rng.uniform(0.3, 1.2, n), rng.uniform(0, 0.3, n)).astype(np.float32)
    dome = np.maximum(1 - raster.level**2, np.float32(0.02)) ** np.float32(draw(rng, (0, 0.2)))
    inside = np.clip(raster.depth + 0.5, 0, 1)
    value = inside * dome * amount[raster.owner] * (np.exp(texture) + rim_strength[raster.owner] * rim)
    soft = rng.random(n) < draw(rng, look.defocus)
    deep = soft[raster.owner]
    stain = raster.paint(np.where(deep, np.float32(0), value))
    if soft.any():
        sigma = max(1.2, draw(rng, (0.04, 0.12)) * nuclei.diameter)
        stain += wide_blur(raster.paint(np.where(deep, value, np.float32(0))), sigma)
    return np.float32(2.2) * np.tanh(stain / np.float32(2.2))  # piled nuclei do not get black without end


def _ghosts(rng: np.random.Generator, nuclei: Nuclei, share: float) -> FloatImage:
    """Pale blurs of nuclei above and below the focal plane, near the others; annotators leave them out."""
    shape = nuclei.raster.shape
    n = int(share * len(nuclei.outlines))
    if n == 0:
        return np.zeros(shape, np.float32)
    model = nuclei.outlines.take(rng.integers(0, len(nuclei.outlines), n))
    moved = model.centre + nuclei.diameter * rng.normal(0, 1.2, (n, 2))
    ghosts = rasterise(replace(model, centre=moved.astype(np.float32)), shape)
    amount = rng.uniform(0.1, 0.5, n).astype(np.float32)
    sigma = max(1.5, draw(rng, (0.1, 0.35)) * nuclei.diameter)
    return wide_blur(ghosts.paint(np.clip(ghosts.depth + 0.5, 0, 1) * amount[ghosts.owner]), sigma)


def _tissue(rng: np.random.Generator, nuclei: Nuclei, look: StainLook) -> FloatImage:
    """Amount of the other stain: fibres and mottle, empty lumens, cytoplasm around nuclei, cell bodies."""
    shape, diameter = nuclei.raster.shape, nuclei.diameter
    base = draw(rng, look.stroma)
    mottle = 0.25 * smooth_field(rng, shape, draw(rng, (0.5, 2)) * diameter)
    mottle += draw(rng, (0.05, 0.25)) * smooth_field(rng, shape, draw(rng, (1.5, 4)))
    if rng.random() < 0.7:
        direction = float(np.median(nuclei.outlines.angle)) if rng.random() < 0.7 else rng.uniform(0, np.pi)
        width = draw(rng, (1.5, 6))
        fibres = fibre_field(rng, shape, width, width * draw(rng, (4, 20)), direction)
        mottle += draw(rng, (0.05, 0.3)) * fibres
        if rng.random() < 0.5:  # membranes: thin lines where the field changes sign
            mottle += draw(rng, (-0.3, 0.6)) * np.exp(-((fibres / np.float32(0.12)) ** 2))
    tissue = base * np.exp(np.clip(mottle, -2, 1.2))
    occupied = wide_blur((nuclei.labels > 0).astype(np.float32), diameter * draw(rng, (0.3, 0.9)))
    if rng.random() < look.open:
        ground = smooth_field(rng, shape, draw(rng, (0.25, 0.7)) * min(shape)) + 3 * occupied
        edge = (ground - np.quantile(ground[::8, ::8], rng.uniform(0.2, 0.7))) / draw(rng, (0.05, 0.4))
        tissue = tissue / (1 + np.exp(-np.clip(edge * 4, -20, 20)))
    tissue = tissue + draw(rng, (0, 0.8)) * occupied * base
    if rng.random() < look.bodies:
        tissue = tissue + _cell_bodies(rng, nuclei)
    if rng.random() < 0.1:
        tissue = tissue + _red_cells(rng, shape, diameter)
    return tissue.astype(np.float32)


def _cell_bodies(rng: np.random.Generator, nuclei: Nuclei) -> FloatImage:
    """Broad angular cytoplasm of squamous cells around nuclei: speckled, folded, piling up."""
    outlines, shape = nuclei.outlines, nuclei.raster.shape
    typical = nuclei.diameter * draw(rng, (2, 6))
    n = min(len(outlines), 1 + int(draw(rng, (0.2, 0.9)) * shape[0] * shape[1] / typical**2))
    model = outlines.take(rng.permutation(len(outlines))[:n])
    size = typical * np.exp(0.25 * rng.standard_normal((n, 1)))
    squeeze = np.sqrt(rng.uniform(1.0, 2.0, (n, 1)))
    bodies = Outlines(
        centre=(model.centre + 0.15 * size * rng.standard_normal((n, 2))).astype(np.float32),
        axes=(0.5 * size * np.concatenate([squeeze, 1 / squeeze], 1)).astype(np.float32),
        angle=rng.uniform(0, np.pi, n).astype(np.float32),
        bend=np.zeros(n, np.float32),
        rim=draw_rims(rng, n, draw(rng, (0.2, 0.6))),
    )
    raster = rasterise(bodies, shape)
    amount = (draw(rng, (0.15, 0.9)) * np.exp(0.4 * rng.standard_normal(n))).astype(np.float32)
    edge = 1 + np.float32(draw(rng, (0, 0.8))) * np.exp(-np.maximum(raster.depth, 0))
    cytoplasm = np.tanh(raster.paint(np.clip(raster.depth + 0.5, 0, 1) * edge * amount[raster.owner]))
    texture = 0.15 * smooth_field(rng, shape, 3) + 0.2 * smooth_field(rng, shape, nuclei.diameter)
    if rng.random() < 0.6:  # granules
        granules = np.maximum(smooth_field(rng, shape, 1.5) - 1.8, 0)
        texture += draw(rng, (0.2, 1.0)) * granules
    if rng.random() < 0.5:  # folds
        folds = fibre_field(rng, shape, draw(rng, (8, 25)), draw(rng, (60, 200)), rng.uniform(0, np.pi))
        texture += draw(rng, (0.2, 0.7)) * np.maximum(folds - np.float32(0.8), 0)
    return cytoplasm * np.exp(texture)


def _red_cells(rng: np.random.Generator, shape: tuple[int, int], diameter: float) -> FloatImage:
    """Discs of the other stain that are no nuclei."""
    size = diameter * draw(rng, (0.6, 1.3))
    population = Population((size, size * 1.01), (0.02, 0.15), patterns=("clumps", "islands"))
    cells = draw_nuclei(rng, shape, population)
    inside = np.clip(cells.raster.depth + 0.5, 0, 1) * np.float32(draw(rng, (0.3, 1.2)))
    return np.minimum(cells.raster.paint(inside), 1.3)


def _transmit(
    rng: np.random.Generator, nuclear: FloatImage, other: FloatImage, palette: Palette, grey: bool
) -> FloatImage:
    """Light through the stains, blurred by the lens a little differently in each colour, then the camera."""
    shape = nuclear.shape
    jitter = np.exp(0.18 * rng.standard_normal((2, 3)))
    densities = np.array([palette.nuclear, palette.other]) * jitter
    if rng.random() < 0.06:  # a stain of any colour
        densities = densities[:, rng.permutation(3)]
    lamp = np.clip(np.array(palette.lamp) * draw(rng, (0.85, 1.08)) + rng.normal(0, 7, 3), 60, 253)
    if grey:
        densities, lamp = densities.mean(1, keepdims=True), lamp.mean(keepdims=True)
    light = illumination(rng, shape, draw(rng, (0, 0.12)))
    blur = draw(rng, (0.6, 2.0))
    shift = draw(rng, (0, 0.6)) if rng.random() < 0.4 else 0.0
    planes = []
    for channel, level in enumerate(lamp):
        density = nuclear * np.float32(densities[0, channel]) + other * np.float32(densities[1, channel])
        plane = np.float32(level) * light * np.exp(-density)
        plane = ndimage.gaussian_filter(plane, blur + 0.3 * shift * channel, mode="nearest", truncate=3.0)
        planes.append(plane if channel != 2 else _slide(plane, shift))
    image = planes[0] if grey else np.stack(planes, -1)
    read, shot = draw_log(rng, (0.5, 3)), draw_log(rng, (0.002, 0.02))
    image = add_noise(rng, image, read, shot, grain=draw(rng, (0.3, 1.0)))
    return jpeg_blocks(image, int(rng.integers(40, 96))) if rng.random() < 0.4 else image


def _slide(plane: FloatImage, shift: float) -> FloatImage:
    """Shift by a fraction of a pixel along both axes: lateral colour."""
    for axis in (0, 1):
        plane = (1 - shift) * plane + shift * np.roll(plane, 1, axis)
    return plane.astype(np.float32)


def negative(rng: np.random.Generator, image: FloatImage) -> FloatImage:
    """A fluorescence image printed as a negative: grey float32 (H, W), bright background."""
    ink = image / max(float(np.percentile(image, 99.5)), 1.0)
    return np.float32(draw(rng, (190, 250))) * (1 - np.float32(draw(rng, (0.4, 0.95))) * ink)


LOOKS = {
    # Sections: nuclei of every form in stroma and epithelium.
    "tissue": StainLook(
        Population(
            (12, 48),
            (0.06, 0.55),
            spread=(0.2, 0.45),
            aspect=(1.2, 2.4),
            roughness=(0.04, 0.25),
            bend=(0.0, 0.25),
            spacing=(0.65, 1.08),
            order=(0.0, 1.0),
            patterns=("scattered", "rows", "islands", "clumps"),
            fragments=0.15,
        ),
        palettes=("lavender", "lavender", "magenta", "magenta", "pink", "white"),
        sizes=((256, 320), (256, 320), (512, 640)),
    ),
    # Smears and cultures under a plain lamp.
    "brightfield": StainLook(
        Population(
            (10, 40), (0.03, 0.35), roughness=(0.03, 0.2), patterns=("scattered", "clumps", "islands")
        ),
        palettes=("yellow", "yellow", "white", "magenta", "blue"),
        stroma=(0.0, 0.4),
        open=0.8,
        bodies=0.35,
        sizes=((256, 256), (256, 320), (520, 696)),
    ),
    # One-channel transmitted light.
    "inverted": StainLook(
        Population((9, 36), (0.01, 0.2), roughness=(0.02, 0.2), patterns=("scattered", "clumps", "islands")),
        palettes=("white", "white", "yellow", "blue"),
        strength=(0.5, 2.0),
        chromatin=(0.05, 0.4),
        stroma=(0.0, 0.3),
        open=0.6,
        bodies=0.6,
        grey=True,
        sizes=((256, 256), (1024, 1024)),
    ),
}

"""One HEp-2 cell of a specimen: the light of its staining pattern, its neighbours, the microscope."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage, smooth_field
from .hep2_specimens import Specimen
from .optics import Range, add_noise, draw, point_spread
from .shapes import Floats, Outlines, Raster, draw_rims, rasterise

SIDE = 78
SHAPE = (SIDE, SIDE)


def render_cell(rng: np.random.Generator, specimen: Specimen) -> NDArray[np.uint8]:
    """One cell of a specimen in the middle of a uint8 (78, 78) picture, stretched to the full grey range."""
    own = {name: amount * np.exp(0.1 * rng.standard_normal()) for name, amount in specimen.pattern.items()}
    outlines = _outlines(rng, specimen)
    nuclei = rasterise(outlines, SHAPE, margin=6.0)
    brightness = np.exp(0.15 * rng.standard_normal(len(outlines))).astype(np.float32)

    light = _glow(rng, nuclei, outlines, brightness, own)
    light += _dots(rng, outlines, brightness, own)
    light += _blobs(rng, outlines, own)
    light += _rim(rng, nuclei, brightness, own)
    light += _clump(rng, outlines, brightness, own)
    light += _debris(rng, specimen)

    blur = specimen.blur * np.exp(0.08 * rng.standard_normal())
    if rng.random() < specimen.out_of_focus:
        blur = np.hypot(blur, draw(rng, (1.0, 2.5)))
    image = point_spread(light, blur, specimen.halo, 0.25 * specimen.diameter)
    image += specimen.background + _cytoplasm(rng, nuclei, own)
    if rng.random() < 0.04:  # light from a bright neighbour outside the picture
        image += _slope(rng, draw(rng, (0.1, 0.8)))
    image = add_noise(rng, image, specimen.read, 1 / specimen.photons, grain=0.3)
    return _stretch(image)


def _outlines(rng: np.random.Generator, specimen: Specimen) -> Outlines:
    """The cell, then its neighbours around it."""
    n = 1 + min(int(rng.poisson(specimen.crowding)), 4)
    size = specimen.diameter * np.exp(0.07 * rng.standard_normal(n))
    squeeze = np.sqrt(1 + 0.4 * rng.random(n))
    axes = 0.5 * size[:, None] * np.stack([squeeze, 1 / squeeze], 1)
    around = rng.uniform(0, 2 * np.pi) + 2 * np.pi / n * (np.arange(n) + rng.uniform(-0.2, 0.2, n))
    away = 0.5 * (size + size[0]) * rng.uniform(1.02, 1.3, n)
    away[0] = rng.uniform(0, 2.5)
    centre = (SIDE - 1) / 2 + away[:, None] * np.stack([np.sin(around), np.cos(around)], 1)
    return Outlines(
        centre=centre.astype(np.float32),
        axes=axes.astype(np.float32),
        angle=rng.uniform(0, np.pi, n).astype(np.float32),
        bend=np.zeros(n, np.float32),
        rim=draw_rims(rng, n, 0.05),
    )


def _glow(
    rng: np.random.Generator, nuclei: Raster, outlines: Outlines, brightness: Floats, own: dict[str, float]
) -> FloatImage:
    """Even light of the nuclei, with grain and with dark nucleoli."""
    dome = np.maximum(1 - 0.9 * nuclei.level**2, 0.05) ** np.float32(own["dome"])
    body = nuclei.paint(np.clip(nuclei.depth + 0.5, 0, 1) * dome * brightness[nuclei.owner])
    fine = smooth_field(rng, SHAPE, max(own["grain"], 1.2))
    coarse = smooth_field(rng, SHAPE, 3 * own["grain"])
    grain = np.exp(np.float32(own["contrast"]) * (0.9 * fine + 0.4 * coarse))
    counts = rng.poisson(own["holes"], len(outlines))
    holes = np.float32(min(own["hole_depth"], 0.9)) * _discs(rng, outlines, counts, (2.0, 5.0), 0.65)
    return np.float32(own["glow"]) * body * grain * (1 - holes)


def _discs(
    rng: np.random.Generator, outlines: Outlines, counts: NDArray[np.integer], radius: Range, reach: float
) -> FloatImage:
    """Round bodies, `counts` (n,) of them inside the n nuclei, 0..1: float32 (H, W)."""
    owner = np.repeat(np.arange(len(outlines)), counts)
    n = len(owner)
    if n == 0:
        return np.zeros(SHAPE, np.float32)
    axes = rng.uniform(*radius, (n, 1)) * rng.uniform(0.8, 1.25, (n, 2))
    bodies = rasterise(
        Outlines(
            centre=_inside(rng, outlines, owner, reach),
            axes=axes.astype(np.float32),
            angle=rng.uniform(0, np.pi, n).astype(np.float32),
            bend=np.zeros(n, np.float32),
            rim=draw_rims(rng, n, 0.12),
        ),
        SHAPE,
    )
    light = rng.uniform(0.5, 1.0, n).astype(np.float32)
    return np.minimum(bodies.paint(np.clip(bodies.depth + 0.5, 0, 1) * light[bodies.owner]), 1)


def _inside(rng: np.random.Generator, outlines: Outlines, owner: NDArray[np.intp], reach: float) -> Floats:
    """Random places (n, 2) in the nuclei `owner` (n,), up to `reach` of the way to the outline."""
    radius = reach * np.sqrt(rng.random(len(owner)))
    turn = rng.uniform(0, 2 * np.pi, len(owner))
    return _place(outlines, owner, radius, turn)


def _place(outlines: Outlines, owner: NDArray[np.intp], radius: Floats, turn: Floats) -> Floats:
    """Places (n, 2) at the polar angle `turn` from the long axis; radius 1 is the outline."""
    p = radius * np.cos(turn) * outlines.axes[owner, 0]
    q = radius * np.sin(turn) * outlines.axes[owner, 1]
    cosine, sine = np.cos(outlines.angle[owner]), np.sin(outlines.angle[owner])
    step = np.stack([p * sine + q * cosine, p * cosine - q * sine], 1)
    return (outlines.centre[owner] + step).astype(np.float32)


def _points(places: Floats, light: Floats, sigma: float) -> FloatImage:
    """Gaussian spots with peak `light` (n,) at subpixel places (n, 2): float32 (H, W)."""
    frame = np.zeros((SIDE + 1) * (SIDE + 1))
    corner = np.floor(places).astype(np.intp)
    seen = ((corner >= 0) & (corner < SIDE)).all(1)
    corner, part, light = corner[seen], (places - corner)[seen], light[seen]
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            at = (corner[:, 0] + down) * (SIDE + 1) + corner[:, 1] + right
            frame += np.bincount(at, share * light, minlength=len(frame))
    spots = frame.reshape(SIDE + 1, SIDE + 1)[:SIDE, :SIDE].astype(np.float32)
    return ndimage.gaussian_filter(spots, sigma, mode="constant") * np.float32(2 * np.pi * sigma**2)


def _dots(
    rng: np.random.Generator, outlines: Outlines, brightness: Floats, own: dict[str, float]
) -> FloatImage:
    """Discrete points through the depth of the nuclei: some sharp, some above or below the focal plane."""
    owner = np.repeat(np.arange(len(outlines)), rng.poisson(own["dots"], len(outlines)))
    light = own["dot_light"] * np.exp(0.45 * rng.standard_normal(len(owner))) * brightness[owner]
    places = _inside(rng, outlines, owner, 0.92)
    deep = rng.random(len(owner)) < 0.3
    sharp = _points(places[~deep], light[~deep], draw(rng, (0.6, 1.0)))
    return sharp + _points(places[deep], 0.4 * light[deep], draw(rng, (1.8, 2.8)))


def _blobs(rng: np.random.Generator, outlines: Outlines, own: dict[str, float]) -> FloatImage:
    """Stained nucleoli, at least one in every nucleus."""
    if own["blobs"] == 0:
        return np.zeros(SHAPE, np.float32)
    counts = 1 + rng.poisson(max(own["blobs"] - 1, 0.0), len(outlines))
    return _discs(rng, outlines, counts, (0.6 * own["blob_radius"], 1.4 * own["blob_radius"]), 0.6)


def _rim(rng: np.random.Generator, nuclei: Raster, brightness: Floats, own: dict[str, float]) -> FloatImage:
    """The nuclear envelope, smooth or beaded."""
    if own["rim"] == 0:
        return np.zeros(SHAPE, np.float32)
    ring = np.exp(-(((nuclei.depth - 1.0) / np.float32(own["rim_width"])) ** 2) / 2)
    beads = np.exp(np.float32(own["beads"]) * smooth_field(rng, SHAPE, 3.0))
    return np.float32(own["rim"]) * nuclei.paint(ring * brightness[nuclei.owner]) * beads


def _clump(
    rng: np.random.Generator, outlines: Outlines, brightness: Floats, own: dict[str, float]
) -> FloatImage:
    """The Golgi apparatus: curved pieces heaped beside the nucleus, strung along it or lying over it."""
    n = len(outlines)
    owner = np.repeat(np.arange(n), rng.poisson(own["clump"], n))
    m, length = len(owner), 7
    if m == 0:
        return np.zeros(SHAPE, np.float32)
    spread = own["clump_spread"] * np.exp(0.5 * rng.standard_normal(n))
    turn = (rng.uniform(0, 2 * np.pi, n)[owner] + spread[owner] * rng.standard_normal(m))[:, None]
    level = (rng.normal(1.12, 0.12, n)[owner] + 0.07 * rng.standard_normal(m))[:, None]
    light = (np.exp(0.25 * rng.standard_normal(n))[owner] * np.exp(0.5 * rng.standard_normal(m)))[:, None]
    along = np.linspace(-1, 1, length) + 0.2 * rng.standard_normal((m, length))
    turn = turn + along * rng.uniform(0.02, 0.3, (m, 1))
    level = level + along * rng.normal(0, 0.06, (m, 1)) + 0.015 * rng.standard_normal((m, length))
    light = light * np.exp(0.4 * rng.standard_normal((m, length))) * brightness[owner][:, None]
    places = _place(outlines, np.repeat(owner, length), level.ravel(), turn.ravel())
    deep = np.repeat(rng.random(m) < 0.35, length)
    sharp = _points(places[~deep], 0.6 * light.ravel()[~deep], draw(rng, (0.7, 1.3)))
    return sharp + _points(places[deep], 0.35 * light.ravel()[deep], draw(rng, (1.8, 2.8)))


def _debris(rng: np.random.Generator, specimen: Specimen) -> FloatImage:
    """Precipitate anywhere; a very bright piece leaves the cell dark once the picture is stretched."""
    n = int(rng.poisson(specimen.debris))
    if n == 0:
        return np.zeros(SHAPE, np.float32)
    light = np.exp(rng.uniform(np.log(0.3), np.log(4), n))
    return _points(rng.uniform(0, SIDE - 1, (n, 2)).astype(np.float32), light, draw(rng, (0.7, 2.2)))


def _cytoplasm(rng: np.random.Generator, nuclei: Raster, own: dict[str, float]) -> FloatImage:
    """Mottled light between the nuclei, fading away from them."""
    covered = nuclei.paint(np.clip(nuclei.depth / 6 + 1, 0, 1))
    cloud = ndimage.gaussian_filter(np.minimum(covered, 1), 9, mode="nearest", truncate=2.0)
    mottle = np.exp(0.2 * smooth_field(rng, SHAPE, 3) + 0.3 * smooth_field(rng, SHAPE, 16))
    return np.float32(own["haze"]) * (0.25 + cloud) * mottle


def _slope(rng: np.random.Generator, strength: float) -> FloatImage:
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    along = np.float32(np.sin(angle)) * axis[:, None] + np.float32(np.cos(angle)) * axis[None, :]
    return np.float32(strength / 4) * (1 + along) ** 2


def _stretch(image: FloatImage) -> NDArray[np.uint8]:
    """Grey range of the published pictures: the third brightest pixel is white, the darkest black."""
    ordered = np.partition(image.ravel(), [0, image.size - 3])
    low, high = ordered[0], ordered[image.size - 3]
    return np.clip(np.round((image - low) * (255 / (high - low))), 0, 255).astype(np.uint8)

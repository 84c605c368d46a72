"""One glomerulus in its surroundings: an open tuft in Bowman's space, or a globally sclerotic scar."""

import numpy as np
from numpy.typing import NDArray

from .fields import FloatImage
from .optics import draw, draw_log
from .pas_stain import Canvas, Slide, around, blob_depth, paint_interstitium, paint_tubules
from .shapes import Floats

FULL_SIZE = (256, 915)


def render_crop(
    rng: np.random.Generator, slide: Slide, sclerotic: bool, size_range: tuple[int, int] = FULL_SIZE
) -> NDArray[np.uint8]:
    """Crop around a glomerulus: uint8 (H, W, 4), opaque, with sides within `size_range`.

    Scars are smaller on average, but the sizes of both kinds overlap. In a smaller `size_range` than that
    of the scans everything is drawn at a lower magnification.
    """
    low, high = size_range
    unit = high / FULL_SIZE[1]
    diameter = draw_log(rng, (230, 560) if sclerotic else (310, 780)) * unit
    squeeze = np.sqrt(draw_log(rng, (1.0, 1.45)))
    sides = np.array([squeeze, 1 / squeeze]) if rng.random() < 0.5 else np.array([1 / squeeze, squeeze])
    margin = draw(rng, (1.08, 1.2))
    height, width = (int(side) for side in np.clip(np.round(diameter * margin * sides), low, high))
    axes = (height / 2 / margin, width / 2 / margin)
    canvas = Canvas(rng, (height, width), unit)
    paint_interstitium(rng, canvas, slide)
    centre = np.array([height, width]) / 2 + rng.normal(0, 0.015, 2) * diameter
    depth, turn = blob_depth(rng, canvas.shape, centre, axes, 0.05)
    depth = depth + 2.5 * unit * canvas.field(rng, 40)
    paint_tubules(rng, canvas, slide, -depth - 6 * unit)
    (_paint_scar if sclerotic else _paint_open)(rng, canvas, slide, depth, turn)
    if sclerotic and rng.random() < 0.25:
        _paint_glass(rng, canvas)
    rgb = canvas.scan(rng, slide)
    return np.concatenate([rgb, np.full((height, width, 1), 255, np.uint8)], 2)


def _paint_open(
    rng: np.random.Generator, canvas: Canvas, slide: Slide, depth: FloatImage, turn: FloatImage
) -> None:
    """Capsule, Bowman's space, and a tuft of capillary loops with many nuclei."""
    unit, radius = canvas.unit, float(depth.max())
    wall = unit * draw(rng, (2, 4 + 4 * slide.fibrosis)) * np.exp(0.45 * canvas.field(rng, 90))
    gap = radius * draw_log(rng, (0.04, 0.22)) * np.exp(0.5 * _closed_noise(rng, 5))
    pole = rng.uniform(-np.pi, np.pi)  # where the vessels enter, the tuft hangs on the capsule
    away = np.abs(np.angle(np.exp(1j * (np.linspace(-np.pi, np.pi, 64, endpoint=False) - pole))))
    gap *= 1 - np.exp(-((away / 0.45) ** 2))
    lobes = 7 * canvas.field(rng, 28) + 3 * canvas.field(rng, 9)
    tuft_depth = depth - around(turn, gap) - wall - unit * lobes
    clefts = np.exp(-((canvas.field(rng, 75) / 0.05) ** 2)) * np.exp(
        -np.maximum(tuft_depth, 0) / (0.4 * radius)
    )
    tuft = canvas.soft(tuft_depth, 0.8) * (1 - np.minimum(1.3 * clefts, 1))

    canvas.cover(canvas.soft(depth), 0.03)
    canvas.pas += draw(rng, (0.8, 1.2)) * np.exp(-((depth / wall) ** 2))
    lining = canvas.soft(depth - wall) * (1 - canvas.soft(depth - wall - 8 * unit))
    canvas.nuclei(rng, lining, 26, length=17, elongation=0.7, towards=turn + np.float32(np.pi / 2))
    _paint_loops(rng, canvas, tuft, tuft_depth)


def _paint_loops(rng: np.random.Generator, canvas: Canvas, tuft: FloatImage, depth: FloatImage) -> None:
    """Capillaries: pale lumens with magenta walls, in mesangium; a part of the tuft may be scarred."""
    loop = canvas.field(rng, draw(rng, (10, 17))) + 0.35 * canvas.field(rng, 35)
    openness = draw(rng, (0.1, 0.9))
    lumen = 1 / (1 + np.exp(-9 * (loop - openness)))
    walls = np.exp(-(((loop - openness) / 0.2) ** 2)) + np.exp(-((canvas.field(rng, 11) / 0.1) ** 2)) * 0.6
    mesangium = draw(rng, (0.25, 0.5)) * np.exp(0.5 * canvas.field(rng, 45) + 0.25 * canvas.field(rng, 4))
    pas = mesangium * (1 - 0.85 * lumen) + draw(rng, (0.4, 0.8)) * np.minimum(walls, 1)
    edge = np.exp(-((depth / (2 * canvas.unit)) ** 2))
    pas += 0.35 * edge
    scar = np.zeros(canvas.shape, np.float32)
    if rng.random() < 0.35:  # segmental sclerosis is not global sclerosis
        scar = canvas.soft(canvas.field(rng, 130) - np.float32(draw(rng, (0.6, 1.6))), 0.15 / canvas.unit)
        pas = pas * (1 - scar) + scar * 0.8 * np.exp(0.2 * canvas.field(rng, 6))
    canvas.cover(tuft, pas)
    solid = tuft * (1 - lumen) * (1 - scar)
    canvas.nuclei(rng, solid, draw(rng, (20, 28)), length=17, elongation=0.35)
    canvas.red_cells(rng, tuft * lumen * (1 - scar), draw(rng, (0, 60)))


def _paint_scar(
    rng: np.random.Generator, canvas: Canvas, slide: Slide, depth: FloatImage, turn: FloatImage
) -> None:
    """A shrunken solid tuft with few nuclei in a laminated capsule; some scars are pale or moth-eaten."""
    unit, radius = canvas.unit, float(depth.max())
    ring = radius * draw(rng, (0.05, 0.4)) * np.exp(0.25 * _closed_noise(rng, 4))
    core_depth = depth - around(turn, ring) - unit * (5 * canvas.field(rng, 30) + 2 * canvas.field(rng, 8))
    layer = depth / (draw(rng, (4, 8)) * unit) + 1.2 * canvas.field(rng, 50)
    lamellae = np.interp(layer.ravel(), np.arange(-400, 400), rng.standard_normal(800)).reshape(canvas.shape)
    capsule = draw(rng, (0.2, 0.45)) * np.exp(0.3 * lamellae.astype(np.float32) + 0.2 * canvas.field(rng, 4))
    canvas.cover(canvas.soft(depth, 3), capsule)
    canvas.pas += draw(rng, (0, 0.8)) * np.exp(-((depth / (unit * draw(rng, (2, 5)))) ** 2))
    shell = canvas.soft(depth) * (1 - canvas.soft(core_depth))
    canvas.nuclei(
        rng, shell, draw(rng, (45, 70)), length=19, elongation=0.9, towards=turn + np.float32(np.pi / 2)
    )

    wrinkle = canvas.field(rng, draw(rng, (7, 12))) + 0.4 * canvas.field(rng, 25)
    strength = draw_log(rng, (0.35, 1.1))
    texture = 0.2 * canvas.field(rng, 20) + draw(rng, (0.1, 0.35)) * canvas.field(rng, 4)
    pas = strength * np.exp(texture) + draw(rng, (0.1, 0.5)) * np.exp(-((wrinkle / 0.2) ** 2))
    core = canvas.soft(core_depth, 2)
    canvas.cover(core, pas)
    holes = wrinkle + draw(rng, (0.1, 1.0)) * canvas.field(rng, 40)  # slits everywhere, or a few large holes
    share = 0.4 * rng.random() ** 1.5
    eaten = 1 / (1 + np.exp(-7 * (holes - np.quantile(holes[::4, ::4], 1 - share))))
    canvas.cover(eaten * core * (1 - np.exp(-np.maximum(core_depth, 0) / (4 * unit))), 0.05)
    if rng.random() < 0.4:  # what is left of Bowman's space
        slit = np.exp(-((core_depth / (unit * draw(rng, (3, 9)))) ** 2))
        canvas.cover(slit * canvas.soft(canvas.field(rng, 90), 0.2 / unit), 0.03)
    canvas.nuclei(rng, core * (1 - eaten), draw(rng, (50, 90)), length=16, elongation=0.4)


def _paint_glass(rng: np.random.Generator, canvas: Canvas) -> None:
    """The edge of the section runs through the crop."""
    height, width = canvas.shape
    angle = rng.uniform(0, 2 * np.pi)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    beyond = np.float32(np.sin(angle)) * rows + np.float32(np.cos(angle)) * columns
    beyond = beyond + 0.08 * canvas.field(rng, 60) + 0.02 * canvas.field(rng, 8)
    canvas.cover(canvas.soft((beyond - np.float32(draw(rng, (0.75, 1.1)))) * (width / 2), 2), 0.0)


def _closed_noise(rng: np.random.Generator, orders: int) -> Floats:
    """Smooth closed curve around 0 of about unit variance, at 64 angles."""
    theta = np.linspace(-np.pi, np.pi, 64, endpoint=False)
    order = np.arange(1, orders + 1)[:, None]
    amplitude = rng.standard_normal((orders, 1)) / np.sqrt(orders / 2)
    return (amplitude * np.cos(order * theta + rng.uniform(0, 2 * np.pi, (orders, 1)))).sum(0)

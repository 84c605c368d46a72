"""PAS-stained kidney tissue: the slide with its stains, scanner and colours, and what lies around a glomerulus.

Amounts of the three absorbers (PAS magenta, haematoxylin, blood pigment) are painted on a canvas and turned
into light by the law of Beer and Lambert, as in `stains`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage, fibre_field, smooth_field
from .optics import add_noise, draw, draw_log, jpeg_blocks
from .shapes import Floats, Outlines, Raster, draw_rims, rasterise

# Optical densities per RGB channel of one unit of PAS magenta, haematoxylin and blood pigment.
_DENSITIES = np.array([[0.47, 1.25, 0.48], [0.95, 1.00, 0.55], [0.34, 0.32, 0.55]])


@dataclass(frozen=True)
class Slide:
    """What all crops of one slide share.

    Attributes:
        lamp: (3,) grey values of the empty glass.
        densities: (3, 3) optical density by absorber and RGB channel.
        pas: Amount of PAS stain, 1 on average.
        nuclear: Amount of haematoxylin.
        stroma: Amount of PAS in the interstitium.
        fibrosis: 0 loose tissue, 1 dense fibres and thick capsules.
        blur: Standard deviation of the scanner's point spread, pixels at full size.
        sharpening: Strength of the scanner's unsharp mask.
        noise: Camera noise, grey values.
        jpeg: Quality at which the scanner stored the slide.
    """

    lamp: Floats
    densities: Floats
    pas: float
    nuclear: float
    stroma: float
    fibrosis: float
    blur: float
    sharpening: float
    noise: float
    jpeg: int


def draw_case(rng: np.random.Generator) -> Slide:
    """Draw the look of a case: its kidney, and the laboratory that stained it."""
    return Slide(
        lamp=np.clip(243 * draw(rng, (0.9, 1.02)) + rng.normal(0, 3, 3), 190, 253),
        densities=_DENSITIES * np.exp(0.1 * rng.standard_normal((3, 3))),
        pas=draw_log(rng, (0.7, 1.3)),
        nuclear=draw_log(rng, (0.7, 1.3)),
        stroma=draw_log(rng, (0.12, 0.32)),
        fibrosis=float(rng.beta(1.2, 2.0)),
        blur=draw_log(rng, (0.5, 1.3)),
        sharpening=draw(rng, (0.0, 1.0)),
        noise=draw_log(rng, (0.8, 3.0)),
        jpeg=int(rng.integers(60, 95)),
    )


def draw_slide(rng: np.random.Generator, case: Slide) -> Slide:
    """Draw one slide of a case: the same tissue, stained and scanned a little differently."""
    return replace(
        case,
        lamp=np.clip(case.lamp + rng.normal(0, 2, 3), 190, 253),
        pas=case.pas * np.exp(0.06 * rng.standard_normal()),
        nuclear=case.nuclear * np.exp(0.06 * rng.standard_normal()),
        blur=case.blur * np.exp(0.1 * rng.standard_normal()),
    )


class Canvas:
    """Amounts of the absorbers on (H, W) pixels, painted from the back to the front.

    Attributes:
        shape: (H, W).
        unit: Pixels per pixel of a full-size scan; every length is given in full-size pixels times this.
        pas: float32 (H, W).
        nuclear: float32 (H, W).
        blood: float32 (H, W).
        chromatin: float32 (H, W), factor on the stain of whatever nucleus comes to lie there.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], unit: float) -> None:
        """Begin with empty glass."""
        self.shape, self.unit = shape, unit
        self.pas, self.nuclear, self.blood = (np.zeros(shape, np.float32) for _ in range(3))
        self.chromatin = np.exp(0.35 * self.field(rng, 3) + 0.25 * self.field(rng, 7))

    def field(self, rng: np.random.Generator, scale: float) -> FloatImage:
        """Random field of `smooth_field` with grains of `scale` full-size pixels."""
        scale = max(scale * self.unit, 1.2)
        step = int(scale // 4)
        if step < 2:
            return smooth_field(rng, self.shape, scale)
        # So smooth a surface is drawn on a coarse grid, with straight lines in between: three times as fast.
        coarse = (self.shape[0] // step + 2, self.shape[1] // step + 2)
        return _straight_lines(smooth_field(rng, coarse, scale / step), self.shape, step)

    def soft(self, depth: FloatImage, width: float = 1.2) -> FloatImage:
        """0 outside, 1 inside a border at depth 0 that is `width` full-size pixels soft."""
        return 1 / (1 + np.exp(-np.clip(depth / np.float32(width * self.unit), -30, 30)))

    def cover(self, where: FloatImage, pas: FloatImage | float) -> None:
        """Put tissue with that much PAS in front of everything where `where` (0..1) says so."""
        behind = 1 - where
        self.pas = self.pas * behind + where * pas
        self.nuclear *= behind
        self.blood *= behind

    def nuclei(
        self,
        rng: np.random.Generator,
        where: FloatImage,
        spacing: float,
        length: float = 15.0,
        elongation: float = 0.4,
        towards: FloatImage | None = None,
    ) -> None:
        """Scatter nuclei over the pixels where `where` is over a half, one per `spacing` x `spacing`.

        Args:
            rng: Source of randomness.
            where: (H, W).
            spacing: Full-size pixels.
            length: Mean long axis, full-size pixels.
            elongation: Mean log ratio of the axes.
            towards: (H, W) direction of the long axes in radians; None for any.
        """
        height, width = self.shape
        n = int(rng.poisson(height * width / (spacing * self.unit) ** 2))
        row, column = rng.integers(0, height, n), rng.integers(0, width, n)
        chosen = where[row, column] > 0.5
        row, column = row[chosen], column[chosen]
        if len(row) == 0:
            return
        angle = rng.uniform(0, np.pi, len(row))
        if towards is not None:
            angle = towards[row, column] + rng.normal(0, 0.25, len(row))
        raster = self._ellipses(rng, np.stack([row, column], 1), length, elongation, angle)
        own = rng.uniform(0.35, 0.95, raster.n).astype(np.float32)[raster.owner]
        rim = 1 + 0.5 * np.exp(-np.maximum(raster.depth, 0) / np.float32(1.2 * self.unit))
        inside = np.clip(raster.depth + 0.5, 0, 1)
        stain = np.minimum(raster.paint(inside * own * rim) * self.chromatin, 1.5)
        covered = np.minimum(raster.paint(inside), 1)
        self.pas *= 1 - 0.6 * covered
        self.nuclear = np.maximum(self.nuclear * (1 - covered), stain)

    def red_cells(self, rng: np.random.Generator, where: FloatImage, clusters: float) -> None:
        """Heaps of red cells in lumens; `where` (0..1) cuts them to the lumen."""
        height, width = self.shape
        heaps = rng.integers(0, (height, width), (int(rng.poisson(clusters)), 2))
        heaps = heaps[where[heaps[:, 0], heaps[:, 1]] > 0.5]
        if len(heaps) == 0:
            return
        heap = np.repeat(heaps, rng.integers(3, 14, len(heaps)), 0)
        centre = heap + rng.normal(0, 11 * self.unit, heap.shape)
        raster = self._ellipses(rng, centre, 11.0, 0.15, rng.uniform(0, np.pi, len(centre)))
        edge = 0.7 + 0.5 * np.exp(-np.maximum(raster.depth, 0) / np.float32(1.5 * self.unit))
        cells = raster.paint(np.clip(raster.depth + 0.5, 0, 1) * edge)
        self.blood = np.maximum(self.blood, np.minimum(cells, 1.4) * where)

    def _ellipses(
        self,
        rng: np.random.Generator,
        centre: NDArray[np.integer] | Floats,
        length: float,
        elongation: float,
        angle: Floats,
    ) -> Raster:
        n = len(centre)
        size = 0.5 * length * self.unit * np.exp(0.2 * rng.standard_normal(n))
        ratio = np.exp(-elongation * rng.uniform(0.3, 1.7, n))
        outlines = Outlines(
            centre=np.asarray(centre, np.float32),
            axes=np.stack([size, np.maximum(size * ratio, 0.6)], 1).astype(np.float32),
            angle=np.asarray(angle, np.float32),
            bend=np.zeros(n, np.float32),
            rim=draw_rims(rng, n, 0.06),
        )
        return rasterise(outlines, self.shape)

    def scan(self, rng: np.random.Generator, slide: Slide) -> NDArray[np.uint8]:
        """The scanned crop, uint8 (H, W, 3)."""
        planes = []
        blur = np.hypot(slide.blur * self.unit, 0.3)
        for channel, level in enumerate(slide.lamp):
            pas, nuclear, blood = (np.float32(d) for d in slide.densities[:, channel])
            density = self.pas * (pas * np.float32(slide.pas)) + self.blood * blood
            density += self.nuclear * (nuclear * np.float32(slide.nuclear))
            plane = np.float32(level) * np.exp(-density)
            planes.append(ndimage.gaussian_filter(plane, blur, mode="nearest", truncate=3.0))
        # Sharpening, noise and compression act on the brightness alone: the eye sees them nowhere else.
        grey = (planes[0] + planes[1] + planes[2]) / np.float32(3)
        soft = ndimage.gaussian_filter(grey, 1.5 * blur, mode="nearest", truncate=2.0)
        crisp = grey + np.float32(slide.sharpening) * (grey - soft)
        change = jpeg_blocks(add_noise(rng, crisp, slide.noise, 0.0, grain=0.0), slide.jpeg) - grey
        image = np.empty((*self.shape, 3), np.uint8)
        for channel, plane in enumerate(planes):
            image[..., channel] = np.clip(plane + change + np.float32(0.5), 0, 255)
        return image


def _straight_lines(coarse: FloatImage, shape: tuple[int, int], step: int) -> FloatImage:
    """Linear interpolation of a grid with a knot every `step` pixels."""
    surface = coarse
    for axis, length in enumerate(shape):
        knots = [slice(None)] * 2
        knots[axis] = slice(0, length // step + 1)
        rise = np.repeat(np.diff(surface, axis=axis)[tuple(knots)], step, axis)
        part = np.tile(np.arange(step, dtype=np.float32) / step, length // step + 1)
        surface = np.repeat(surface[tuple(knots)], step, axis)
        surface += rise * (part[:, None] if axis == 0 else part)
        surface = surface[:length] if axis == 0 else surface[:, :length]
    return surface


def paint_interstitium(rng: np.random.Generator, canvas: Canvas, slide: Slide) -> None:
    """Fill the canvas with the tissue between tubules: fibres, gaps and spindle cells."""
    unit, angle = canvas.unit, rng.uniform(0, np.pi)
    width = max(draw(rng, (3, 6)) * unit, 1.2)
    half = (canvas.shape[0] // 2 + 2, canvas.shape[1] // 2 + 2)
    fibres = fibre_field(rng, half, width / 2, draw(rng, (3, 8)) * width / 2, angle)
    fibres = _straight_lines(fibres.astype(np.float32), canvas.shape, 2)
    mottle = 0.3 * canvas.field(rng, 25) + 0.3 * canvas.field(rng, 5) + (0.1 + 0.25 * slide.fibrosis) * fibres
    canvas.pas = np.float32(slide.stroma) * np.exp(np.clip(mottle, -2, 1.2))
    gaps = canvas.field(rng, 30) + 0.5 * canvas.field(rng, 8)
    canvas.cover(canvas.soft(gaps - np.float32(draw(rng, (1.0, 2.5))), 0.15 / unit), 0.02)
    solid = np.ones(canvas.shape, np.float32)
    spacing = draw(rng, (45, 80))
    along = np.full(canvas.shape, angle, np.float32) + 0.4 * canvas.field(rng, 60)
    canvas.nuclei(rng, solid, spacing, length=19, elongation=0.8, towards=along)


def paint_tubules(rng: np.random.Generator, canvas: Canvas, slide: Slide, outside: FloatImage) -> None:
    """Paint tubules into the corners that the glomerulus leaves free: `outside` is its distance, pixels."""
    height, width = canvas.shape
    unit = canvas.unit
    depth = np.full(canvas.shape, -np.inf, np.float32)
    for row, column in ((0, 0), (0, width), (height, 0), (height, width)):
        if rng.random() < 0.6:
            radius = draw(rng, (50, 100)) * unit
            dy = (np.arange(height, dtype=np.float32) - row + rng.normal(0, 0.4) * radius) / radius
            dx = (np.arange(width, dtype=np.float32) - column + rng.normal(0, 0.4) * radius) / radius
            dx = dx * np.float32(draw(rng, (0.7, 1.4)))
            depth = np.maximum(depth, np.float32(radius) * (1 - np.sqrt(dy[:, None] ** 2 + dx[None, :] ** 2)))
    if depth.max() < 0:
        return
    depth = np.minimum(depth + 4 * unit * canvas.field(rng, 40), outside)
    epithelium = np.float32(draw(rng, (0.25, 0.5))) * np.exp(0.25 * canvas.field(rng, 3))
    canvas.cover(canvas.soft(depth), epithelium)
    canvas.pas += 1.1 * np.exp(-((depth / np.float32(draw(rng, (2, 5)) * unit)) ** 2))
    lumen = canvas.soft(depth - 26 * unit - 6 * unit * canvas.field(rng, 25), 2)
    ring = canvas.soft(depth - 8 * unit) * (1 - lumen)
    canvas.nuclei(rng, ring, draw(rng, (26, 40)), length=16, elongation=0.15)
    canvas.cover(lumen, 0.04)


def blob_depth(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: Floats,
    axes: tuple[float, float],
    roughness: float,
) -> tuple[FloatImage, FloatImage]:
    """Depth inside a rough ellipse (pixels, negative outside) and polar angle around it, float32 (H, W).

    Args:
        rng: Source of randomness.
        shape: (H, W).
        centre: Row and column.
        axes: Half the height and half the width.
        roughness: Amplitude of the random rim.
    """
    q = (np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[0])) / np.float32(axes[0])
    p = (np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(centre[1])) / np.float32(axes[1])
    turn = np.arctan2(q, p)
    rim = around(turn, draw_rims(rng, 1, roughness)[0])
    return (rim - np.sqrt(p * p + q * q)) * np.float32(np.sqrt(axes[0] * axes[1])), turn


def around(turn: FloatImage, table: Floats) -> FloatImage:
    """Values of a closed table, given at equal steps of the angle, at the angles `turn`."""
    steps = np.linspace(-np.pi, np.pi, len(table) + 1)
    return np.interp(turn, steps, np.append(table, table[0])).astype(np.float32)

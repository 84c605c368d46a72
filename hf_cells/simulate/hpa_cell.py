"""One simulated cell as its organelles see it: where its nucleus, membrane, pole and nucleoli are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatImage, smooth_field

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """A cell on its own patch of the field; every image is (h, w), distances are in pixels.

    Attributes:
        box: Place of the patch in the field.
        mask: The whole cell, nucleus included.
        nucleus: The nucleus, or the chromosome plate of a dividing cell.
        outward: Signed distance to the nuclear rim, positive outside the nucleus.
        inward: Distance to the plasma membrane, positive inside the cell.
        centre: (2,) row and column of the nucleus.
        pole: (2,) row and column of the centrosome, beside the nucleus.
        angle: Direction of the cell's long axis, radians from the column axis.
        nucleoli: 1 in a nucleolus, 0 elsewhere, soft in between.
        spots: (k, 2) centres of the nucleoli.
        dividing: True in mitosis.
        scale: Pixels per micrometre.
    """

    box: tuple[slice, slice]
    mask: Mask
    nucleus: Mask
    outward: FloatImage
    inward: FloatImage
    centre: FloatImage
    pole: FloatImage
    angle: float
    nucleoli: FloatImage
    spots: FloatImage
    dividing: bool
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the patch."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def cytoplasm(self) -> Mask:
        """The cell without its nucleus."""
        return self.mask & ~self.nucleus

    @property
    def way_out(self) -> FloatImage:
        """0 at the nuclear rim, 1 at the membrane; 0 in the nucleus."""
        away = np.maximum(self.outward, 0)
        return (away / (away + self.inward + 1e-6)).astype(np.float32)

    @property
    def thickness(self) -> FloatImage:
        """Height of the cell over each pixel, 1 far from the membrane and low at its thin edge."""
        reach = np.float32((1.5 if self.dividing else 4.0) * self.scale)
        return np.sqrt(np.clip((self.inward + 0.08 * reach) / reach, 0, 1)).astype(np.float32)

    def microns(self, length: float) -> float:
        """Pixels in `length` micrometres."""
        return length * self.scale

    def texture(self, rng: np.random.Generator, grain: float) -> FloatImage:
        """Unit-variance random field with grains of `grain` micrometres, at least of a pixel and a half."""
        return smooth_field(rng, self.shape, max(1.5, self.microns(grain)))

    def draw_places(self, rng: np.random.Generator, weight: FloatImage, n: int) -> FloatImage:
        """(n, 2) random places with probability in proportion to `weight` (h, w); centre where it is 0."""
        share = np.cumsum(np.maximum(weight, 0).ravel(), dtype=np.float64)
        if share[-1] <= 0:
            return np.repeat(self.centre[None], n, axis=0)
        flat = np.searchsorted(share, rng.random(n) * share[-1], side="right")
        row, column = np.divmod(np.minimum(flat, len(share) - 1), self.shape[1])
        return np.stack([row, column], 1).astype(np.float32)


def build_cell(
    rng: np.random.Generator,
    cell_labels: NDArray[np.int32],
    nucleus_labels: NDArray[np.int32],
    number: int,
    box: tuple[slice, slice],
    angle: float,
    dividing: bool,
    scale: float,
) -> Cell:
    """Measure cell `number` of a field (H, W) and give it a pole and nucleoli."""
    grown = _grow(box, cell_labels.shape, 3)
    mask = cell_labels[grown] == number
    nucleus = nucleus_labels[grown] == number
    outward = ndimage.distance_transform_edt(~nucleus) - ndimage.distance_transform_edt(nucleus)
    inward = ndimage.distance_transform_edt(mask) - 0.5
    centre = np.argwhere(nucleus).mean(0).astype(np.float32)
    near = mask & (outward > 0.4 * scale) & (outward < 2.5 * scale) & (inward > 0.8 * scale)
    if not near.any():
        near = mask & ~nucleus if (mask & ~nucleus).any() else mask
    places = np.argwhere(near)
    pole = places[rng.integers(len(places))].astype(np.float32)
    spots, nucleoli = _nucleoli(rng, nucleus, -outward.astype(np.float32), scale)
    return Cell(
        box=grown,
        mask=mask,
        nucleus=nucleus,
        outward=outward.astype(np.float32),
        inward=np.maximum(inward, 0).astype(np.float32),
        centre=centre,
        pole=pole,
        angle=angle,
        nucleoli=np.zeros(mask.shape, np.float32) if dividing else nucleoli,
        spots=spots,
        dividing=dividing,
        scale=scale,
    )


def _grow(box: tuple[slice, slice], shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, part.start - margin), min(length, part.stop + margin))
        for part, length in zip(box, shape, strict=True)
    )
    return rows, columns


def _nucleoli(
    rng: np.random.Generator, nucleus: Mask, depth: FloatImage, scale: float
) -> tuple[FloatImage, FloatImage]:
    """One to six round bodies of 1 to 3 micrometres, well inside the nucleus: centres (k, 2) and picture."""
    inside = np.argwhere(depth > 0.35 * depth.max())
    centres = inside[rng.integers(0, len(inside), int(rng.integers(1, 7)))].astype(np.float32)
    rows, columns = np.indices(nucleus.shape, dtype=np.float32)
    wobble = smooth_field(rng, (nucleus.shape[0], nucleus.shape[1]), max(2.0, 0.9 * scale))
    picture = np.zeros(nucleus.shape, np.float32)
    for row, column in centres:
        radius = scale * rng.uniform(0.5, 1.3)
        distance = np.hypot(rows - row, (columns - column) * np.float32(rng.uniform(0.8, 1.25)))
        soft = np.clip((radius * (1 + 0.15 * wobble) - distance) / max(0.8, 0.15 * scale) + 0.5, 0, 1)
        picture = np.maximum(picture, soft)
    return centres, np.where(nucleus, picture, np.float32(0)).astype(np.float32)

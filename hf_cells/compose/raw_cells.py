"""A cell as an adapter cuts it, and how it becomes a sample of the one scale and stain."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from .classes import RED_CELL_DIAMETER, RED_CELLS, WHITE_CELLS
from .stain import REFERENCE_DENSITY, Floats, on_reference_glass

GAIN_RANGE = (0.15, 2.0)  # beyond that a stain is so far off that its noise would be all one sees
RIM = 1.6  # pixels of a sample over which its alpha rises from 0 to 1


@dataclass
class RawCell:
    """One cell at the scale and in the stain of its source.

    Attributes:
        class_name: Of the library.
        source: Database.
        source_image: Unique name of the image that it was cut from.
        density: (h, w, 3) optical density over the glass of that image.
        mask: (h, w) bool.
        red_cell_diameter: Of that source image, pixels.
        glass: (3,) colour of its glass.
        patient: Where known.
    """

    class_name: str
    source: str
    source_image: str
    density: Floats
    mask: NDArray[np.bool_]
    red_cell_diameter: float
    glass: Floats
    patient: str | None = None

    @property
    def diameter(self) -> float:
        """Of the circle of equal area, pixels of the source."""
        return float(2 * np.sqrt(self.mask.sum() / np.pi))


def stain_group(cell: RawCell) -> tuple[str, str]:
    """What is stained alike: all white cells of a source, its platelets, the red cells of one image."""
    if cell.class_name in RED_CELLS:
        return "red", cell.source_image
    return ("white" if cell.class_name in WHITE_CELLS else "platelet"), cell.source


@dataclass(frozen=True)
class StainMatch:
    """Brings the mean optical density of a stain group to the reference.

    Attributes:
        gain: (3,) factor per channel.
        share: (3,) part of the mean over channels that is added where the gain was limited: a channel in
            which a source hardly absorbs has noise to amplify and no shape of its own.
    """

    gain: Floats
    share: Floats

    def apply(self, density: Floats) -> Floats:
        """Optical density (..., 3) as the reference stain would have it."""
        return density * self.gain + density.mean(-1, keepdims=True) * self.share


def match_stains(cells: Iterable[RawCell]) -> dict[tuple[str, str], StainMatch]:
    """Match each stain group to the reference.

    Classes weigh alike, so a source with many lymphocytes is not taken for a darker stain; parasites do
    not count while there are healthy red cells, so an infected cell keeps its contrast to them.
    """
    means: dict[tuple[str, str], dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        means[stain_group(cell)][cell.class_name].append(cell.density[cell.mask].mean(0))
    matches = {}
    for group, by_class in means.items():
        counted = [by_class["healthy_rbc"]] if by_class.get("healthy_rbc") else list(by_class.values())
        mean = np.mean([np.mean(values, axis=0) for values in counted], axis=0)
        reference = REFERENCE_DENSITY[group[0]]
        gain = np.clip(reference / np.maximum(mean, 0.02), *GAIN_RANGE).astype(np.float32)
        share = np.maximum(reference - gain * mean, 0) / max(float(mean.mean()), 0.02)
        matches[group] = StainMatch(gain, share.astype(np.float32))
    return matches


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part of a mask, its holes filled."""
    parts, count = ndimage.label(mask)
    if count > 1:
        mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return ndimage.binary_fill_holes(mask)


def crop_to(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Box of a mask with a margin, within the image."""
    rows, columns = ndimage.find_objects(mask.astype(np.uint8))[0]
    return (
        slice(max(0, rows.start - margin), min(mask.shape[0], rows.stop + margin)),
        slice(max(0, columns.start - margin), min(mask.shape[1], columns.stop + margin)),
    )


def to_sample(cell: RawCell, stain: StainMatch) -> NDArray[np.uint8]:
    """RGBA uint8 (h, w, 4) at the scale of the library, on reference glass, alpha a soft mask.

    The edge lies half a pixel inside the mask: drawn masks hold a rim of glass, which would show as a
    halo over red cells.
    """
    scale = RED_CELL_DIAMETER / cell.red_cell_diameter
    depth = ndimage.distance_transform_edt(cell.mask) - ndimage.distance_transform_edt(~cell.mask)
    alpha = np.clip(0.5 + (depth * scale - 0.5) / RIM, 0, 1)
    height, width = (max(1, round(side * scale)) for side in cell.mask.shape)
    light = Image.fromarray(on_reference_glass(stain.apply(cell.density)))
    light = light.resize((width, height), Image.Resampling.BICUBIC)
    soft = Image.fromarray(np.round(alpha * 255).astype(np.uint8))
    soft = soft.resize((width, height), Image.Resampling.BILINEAR)
    rgba = np.dstack([np.asarray(light), np.asarray(soft)])
    rows, columns = crop_to(rgba[..., 3] > 0, 1) if (rgba[..., 3] > 0).any() else (slice(0), slice(0))
    return rgba[rows, columns]


def median_diameter(cells: Sequence[RawCell]) -> float:
    """Median diameter of cells, pixels of the source."""
    return float(np.median([cell.diameter for cell in cells]))

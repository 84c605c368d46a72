"""Red cells and platelets from smears with boxes (MaMic style): JSON annotations or Pascal VOC.

JSON, one list: `[{"image_name": ..., "objects": [{"type": ..., "bbox": {"x", "y", "w", "h"}}]}]`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import CellsError
from ..progress import track
from .classes import class_of
from .raw_cells import RawCell, crop_to, largest_part
from .red_cells import MOST_CONTACT, contact, is_whole, segment_red_cells
from .source_files import IMAGE_SUFFIXES, SourceFiles, suffix
from .stain import Floats, glass_colour, optical_density

NEAR = 4  # pixels: boxes are not drawn to the pixel
INK = 1.4  # optical density in red that no stain reaches, but scale bars and lettering do
ENOUGH_RED_CELLS = 5  # for a diameter of one image
MOST_HEALTHY = 20  # red cells taken from one image: there are over a hundred, all alike


@dataclass(frozen=True)
class Box:
    """A box in pixels: [left, right) x [top, bottom)."""

    class_name: str
    left: int
    top: int
    right: int
    bottom: int

    @property
    def side(self) -> float:
        """Geometric mean of its sides."""
        return float(np.sqrt((self.right - self.left) * (self.bottom - self.top)))


def cells_from_boxes(path: str | Path) -> list[RawCell]:
    """Cut the cells in boxes that can be told from their neighbours by thresholding.

    Healthy cells that lean on another are left out, there are enough.

    Args:
        path: Folder or zip.

    Raises:
        CellsError: No or broken annotations, an image that is missing, or a box outside its image.
    """
    files = SourceFiles(path)
    annotated = read_annotations(files)
    sides = [b.side for boxes in annotated.values() for b in boxes if b.class_name == "healthy_rbc"]
    if not sides:
        raise CellsError(f"{path}: no box of a red blood cell, so the scale is unknown; add some")
    # Boxes are drawn wide: a tenth is taken off for a first guess.
    guess = 0.9 * float(np.median(sides))
    cells: list[RawCell] = []
    for image_name, boxes in track(annotated.items(), "Cutting boxes", total=len(annotated)):
        cells += cut_boxes(files, image_name, boxes, guess)
    measured = [cell.diameter for cell in cells if cell.class_name == "healthy_rbc"]
    typical = float(np.median(measured)) if measured else guess
    for cell in cells:
        if np.isnan(cell.red_cell_diameter):
            cell.red_cell_diameter = typical
    return cells


def read_annotations(files: SourceFiles) -> dict[str, list[Box]]:
    """Return {image: boxes} of the known classes, sorted by image."""
    names = files.names()
    images = {PurePosixPath(n).name.lower(): n for n in names if suffix(n) in IMAGE_SUFFIXES}
    found: dict[str, list[Box]] = defaultdict(list)
    for name in names:
        if suffix(name) == ".json":
            rows = _read_json(files, name)
        elif suffix(name) == ".xml":
            rows = [_read_voc(files, name)]
        else:
            continue
        for image, boxes in rows:
            # VOC files of renamed images keep the old name inside; then the stem of the XML counts.
            stems = [image.lower(), *(PurePosixPath(name).stem.lower() + end for end in IMAGE_SUFFIXES)]
            place = next((images[stem] for stem in stems if stem in images), None)
            if place is None:
                raise CellsError(f"{files.where(name)}: its image {image} is missing; put it back")
            found[place] += boxes
    if not found:
        raise CellsError(f"{files.path}: no boxes found; expected annotations.json or Pascal VOC *.xml")
    return dict(sorted(found.items()))


def _read_json(files: SourceFiles, name: str) -> list[tuple[str, list[Box]]]:
    try:
        return [
            (
                PurePosixPath(row["image_name"]).name,
                _known(
                    (
                        (str(o["type"]), float(b["x"]), float(b["y"]), float(b["w"]), float(b["h"]))
                        for o in row["objects"]
                        for b in [o["bbox"]]
                    ),
                    files.where(name),
                ),
            )
            for row in json.loads(files.read(name))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(files.where(name), error, "image_name, objects, type and bbox") from error


def _read_voc(files: SourceFiles, name: str) -> tuple[str, list[Box]]:
    try:
        root = ElementTree.fromstring(files.read(name))
        things = []
        for thing in root.iter("object"):
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            things.append((thing.findtext("name", ""), left, top, right - left, bottom - top))
        return root.findtext("filename", ""), _known(things, files.where(name))
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise _broken(files.where(name), error, "filename and object/bndbox") from error


def _known(things: Iterable[tuple[str, float, float, float, float]], where: str) -> list[Box]:
    boxes = []
    for name, left, top, width, height in things:
        class_name = class_of(name)
        if class_name is not None and min(width, height) < 0:
            raise CellsError(
                f"{where}: the box of {name!r} at x {left:g}..{left + width:g}, y {top:g}..{top + height:g} ends "
                "before it begins; mend its annotation"
            )
        if class_name is not None and width >= 2 and height >= 2:
            boxes.append(Box(class_name, int(left), int(top), int(left + width), int(top + height)))
    return boxes


def _broken(where: str, error: Exception, needed: str) -> CellsError:
    reason = f"unknown class {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    return CellsError(f"{where}: the annotations are broken ({reason}); each image needs {needed}")


def cut_boxes(files: SourceFiles, image_name: str, boxes: Sequence[Box], diameter: float) -> list[RawCell]:
    """Cut the boxes of one image; the diameter of its red cells is measured on those that lie alone."""
    rgb = files.image(image_name)
    glass = glass_colour(rgb)
    density = optical_density(rgb, glass)
    labels = segment_red_cells(density, diameter)
    found: list[tuple[Box, Floats, NDArray[np.bool_]]] = []
    healthy = 0
    for box in boxes:
        check_inside(files.where(image_name), box, rgb.shape)
        if (
            min(box.left, box.top) < NEAR
            or box.right > rgb.shape[1] - NEAR
            or box.bottom > rgb.shape[0] - NEAR
        ):
            continue  # the border may cut the cell
        if box.class_name == "healthy_rbc" and healthy >= MOST_HEALTHY:
            continue
        margin = max(4, round(0.2 * box.side))
        area = (
            slice(max(0, box.top - margin), box.bottom + margin),
            slice(max(0, box.left - margin), box.right + margin),
        )
        local = density[area]
        inside = np.zeros(local.shape[:2], bool)
        top, left = box.top - area[0].start, box.left - area[1].start
        inside[top : top + box.bottom - box.top, left : left + box.right - box.left] = True
        if box.class_name == "thrombocyte":
            local, mask = platelet_mask(local, inside)
        else:
            mask = red_cell_mask(labels, area, inside, diameter, forced=box.class_name == "infected_rbc")
        if mask is not None and mask.any() and (local[mask][:, 0] > INK).sum() < 4:
            healthy += box.class_name == "healthy_rbc"
            own = crop_to(mask, 3)
            found.append((box, local[own], mask[own]))
    alone = [2 * np.sqrt(mask.sum() / np.pi) for box, _, mask in found if box.class_name == "healthy_rbc"]
    measured = float(np.median(alone)) if len(alone) >= ENOUGH_RED_CELLS else np.nan
    source_image = f"{files.name}/{image_name}"
    return [
        RawCell(box.class_name, files.name, source_image, local, mask, measured, glass)
        for box, local, mask in found
    ]


def red_cell_mask(
    labels: NDArray[np.int32],
    area: tuple[slice, slice],
    inside: NDArray[np.bool_],
    diameter: float,
    forced: bool,
) -> NDArray[np.bool_] | None:
    """Mask of the red cell in a box, None where it leans on another or is dented.

    Args:
        labels: (H, W) of `segment_red_cells`.
        area: The box with a margin, in the image.
        inside: (h, w) True in the box, within `area`.
        diameter: Of a red cell, pixels.
        forced: Return a mask in any case: infected cells are few. One that thresholding does not give
            is what is stained of the ellipse in the box.
    """
    local, ellipse = labels[area], ellipse_in(inside)
    counts = np.bincount(local[ellipse_in(inside, 0.7)])
    counts[0] = 0
    number = int(counts.argmax())
    mask = ndimage.binary_fill_holes(local == number) if number else np.zeros_like(inside)
    overlap = (mask & ellipse).sum() / (mask | ellipse).sum()
    beyond = mask[[0, -1]].any() or mask[:, [0, -1]].any()  # the margin would cut the cell
    if forced:
        if overlap > 0.65 and is_whole(mask, diameter) and not beyond:
            return mask
        return largest_part(
            ellipse_in(inside, 0.95) & (ndimage.binary_opening(local > 0) | ellipse_in(inside, 0.65))
        )
    alone = bool(number) and not beyond and contact(labels, number, area) < MOST_CONTACT
    return mask if alone and overlap > 0.6 and is_whole(mask, diameter) else None


def check_inside(where: str, box: Box, shape: tuple[int, ...]) -> None:
    """Refuse a box that lies outside its image; annotators overrun the border by some pixels."""
    height, width = shape[:2]
    slack = 0.25 * box.side
    if (
        box.left < -slack
        or box.top < -slack
        or box.right > width + slack
        or box.bottom > height + slack
        or not 0 <= (box.left + box.right) / 2 <= width
        or not 0 <= (box.top + box.bottom) / 2 <= height
    ):
        raise CellsError(
            f"{where}: a box of {box.class_name} at x {box.left}..{box.right}, y {box.top}..{box.bottom} lies "
            f"outside the {width}x{height} image; mend its annotation"
        )


def ellipse_in(inside: NDArray[np.bool_], size: float = 1.0) -> NDArray[np.bool_]:
    """The ellipse that fills a box, `size` times as wide."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    height, width = len(rows) * size / 2, len(columns) * size / 2
    return ((y - rows.mean()) / height) ** 2 + ((x - columns.mean()) / width) ** 2 <= 1


def platelet_mask(density: Floats, inside: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_] | None]:
    """Density over the glass next to a platelet, and its mask; None where it is pale or lies on a cell.

    Platelets absorb red light and red cells hardly do, so red tells them apart.
    """
    ring = ~ndimage.binary_dilation(ellipse_in(inside, 1.15), iterations=2)
    around = density[ring]
    nearby = np.median(around, axis=0)
    density = density - nearby  # lamps are uneven: the glass beside it counts
    if nearby[1] > 0.15 or (density[ring][:, 1] > 0.12).mean() > 0.25:
        return density, None
    red = ndimage.gaussian_filter(density[..., 0], 1.0)
    peak = float(np.percentile(red[inside], 95))
    mask = largest_part((red > 0.25 * peak) & ellipse_in(inside, 1.2))
    if peak < 0.15 or not 0.35 < mask.sum() / inside.sum() < 1.1:
        return density, None
    return density, ndimage.binary_opening(mask, iterations=2)

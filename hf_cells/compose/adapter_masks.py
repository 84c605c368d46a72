"""White cells from images with given masks (LISC, IUMC, Zheng 2018).

An image and its mask lie side by side under one stem (`001.bmp`, `001.png`), or the mask in a folder of
masks (`Ground Truth Segmentation/Baso/1_expert.bmp`). The class is in a CSV (`image ID,class`) named after
the folder, or the name of a folder. Any pixel above 0 is cell.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

from ..errors import CellsError
from ..progress import track
from .classes import NUMBERED, class_of
from .raw_cells import RawCell, crop_to, largest_part, median_diameter
from .source_files import IMAGE_SUFFIXES, SourceFiles, suffix
from .stain import Floats, glass_colour, optical_density

MASK_FOLDER = re.compile(r"mask|ground.?truth|segmentation", re.IGNORECASE)
MASK_STEM = re.compile(r"[-_ ]?(mask|expert\d*|gt)$", re.IGNORECASE)
# Neutrophils of a dry smear are 2.2 times as wide as its red cells (measured where both are visible);
# it gives the scale of images whose red cells are lysed or out of the crop.
NEUTROPHIL_RATIO = 2.2
ENOUGH_RED_CELLS = 10


def cells_from_masks(path: str | Path) -> list[RawCell]:
    """Cut every white cell that its mask shows whole.

    Args:
        path: Folder or zip.

    Raises:
        CellsError: No pair of image and mask, sizes that differ, an empty mask, or no class for an image.
    """
    files = SourceFiles(path)
    names = files.names()
    pairs = pair_masks(names)
    if not pairs:
        raise CellsError(
            f"{path}: no image with a mask found; put NNN.png masks beside NNN.bmp images, "
            "or masks of the same name into a folder masks/"
        )
    classes = read_classes(files, names)
    # A folder is a microscope and a stain, unless it is one of a folder for each class.
    by_folder: dict[str, list[RawCell]] = defaultdict(list)
    red_cells: dict[str, list[float]] = defaultdict(list)
    for image_name, mask_name in track(pairs.items(), "Cutting white cells", total=len(pairs)):
        class_name = classes.get(image_name) or class_of_folders(image_name)
        if class_name is None:
            raise CellsError(
                f"{files.where(image_name)}: its class is unknown; name its folder after the class or list it "
                "in a CSV 'image ID,class'"
            )
        folder = source_folder(image_name)
        cell, diameters = cut_white_cell(files, image_name, mask_name, class_name)
        red_cells[folder] += diameters
        if cell is not None:
            cell.source = "/".join(part for part in (files.name, folder) if part)
            by_folder[folder].append(cell)
    for folder, cells in by_folder.items():
        measured = red_cells[folder]
        neutrophils = [cell for cell in cells if cell.class_name == "neutrophil"] or cells
        diameter = (
            float(np.median(measured))
            if len(measured) >= ENOUGH_RED_CELLS
            else median_diameter(neutrophils) / NEUTROPHIL_RATIO
        )
        for cell in cells:
            cell.red_cell_diameter = diameter
    return [cell for cells in by_folder.values() for cell in cells]


def pair_masks(names: Iterable[str]) -> dict[str, str]:
    """Return {image: mask}; images without a mask are left out."""
    images = [name for name in names if suffix(name) in IMAGE_SUFFIXES]
    beside = {str(PurePosixPath(n).with_suffix("")) for n in images if suffix(n) != ".png"}
    masks: dict[str, list[str]] = defaultdict(list)
    for name in images:
        place = PurePosixPath(name)
        if (
            MASK_STEM.search(place.stem)
            or any(MASK_FOLDER.search(part) for part in place.parts[:-1])
            or (suffix(name) == ".png" and str(place.with_suffix("")) in beside)
        ):
            masks[MASK_STEM.sub("", place.stem)].append(name)
    taken = {name for group in masks.values() for name in group}
    pairs = {}
    for name in images:
        candidates = masks.get(PurePosixPath(name).stem, [])
        if name not in taken and candidates:
            parts = set(PurePosixPath(name).parts[:-1])
            # Of masks with the same stem in several folders, the one that shares most of its path.
            pairs[name] = max(candidates, key=lambda mask: len(parts & set(PurePosixPath(mask).parts)))
    return pairs


def read_classes(files: SourceFiles, names: Iterable[str]) -> dict[str, str]:
    """Return {image: class} from CSVs of two columns; a CSV counts for the folder that its name ends with."""
    classes = {}
    images = [name for name in names if suffix(name) in IMAGE_SUFFIXES]
    for table in (name for name in names if suffix(name) == ".csv"):
        text = files.read(table).decode("utf-8-sig", errors="replace")
        rows = [row for row in csv.reader(io.StringIO(text)) if len(row) >= 2 and row[0].strip()]
        try:
            labels = {
                row[0].strip().lstrip("0"): NUMBERED.get(row[1].strip()) or class_of(row[1])
                for row in rows[1:]
            }
        except KeyError as error:
            raise CellsError(f"{files.where(table)}: no white cell is called {error}; mend the CSV") from None
        stem = PurePosixPath(table).stem
        for name in images:
            place = PurePosixPath(name)
            near = stem.endswith(place.parent.name) if place.parent.name else True
            if near and (found := labels.get(place.stem.lstrip("0"))):
                classes[name] = found
    return classes


def class_of_folders(name: str) -> str | None:
    """Class that one of the folders of an image is named after."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        try:
            return class_of(part)
        except KeyError:
            continue
    return None


def source_folder(name: str) -> str:
    """Folder of an image, without the folders that are named after classes."""
    return "/".join(
        part for part in PurePosixPath(name).parts[:-1] if class_of_folders(f"{part}/image") is None
    )


def cut_white_cell(
    files: SourceFiles, image_name: str, mask_name: str, class_name: str
) -> tuple[RawCell | None, list[float]]:
    """Cut a cell, None where the image cuts it; and measure the red cells around it."""
    rgb, mask = files.image(image_name), files.image(mask_name, "L") > 0
    if rgb.shape[:2] != mask.shape:
        raise CellsError(
            f"{files.where(mask_name)}: is {mask.shape[0]}x{mask.shape[1]} but its image is "
            f"{rgb.shape[0]}x{rgb.shape[1]}; replace the mask with one of the image's size"
        )
    if not mask.any():
        raise CellsError(f"{files.where(mask_name)}: the mask is empty; draw the cell or remove the pair")
    mask = largest_part(mask)
    near = ndimage.binary_dilation(mask, iterations=3)
    glass = glass_colour(rgb, near)
    density = optical_density(rgb, glass)
    red_cells = red_cell_diameters(density[..., 1], near)
    if mask[[0, -1]].sum() + mask[:, [0, -1]].sum() > 3:
        return None, red_cells
    box = crop_to(mask, 3)
    source_image = f"{files.name}/{image_name}"
    cell = RawCell(class_name, files.name, source_image, density[box], mask[box], np.nan, glass)
    return cell, red_cells


def red_cell_diameters(green_density: Floats, excluded: np.ndarray) -> list[float]:
    """Diameters of the round things around a white cell that nothing cuts, pixels."""
    stained = ndimage.binary_fill_holes((green_density > 0.15) & ~excluded)
    height, width = stained.shape
    least = 0.01 * height * width  # a platelet is smaller
    return [
        float(thing.equivalent_diameter_area)
        for thing in regionprops(label(stained))
        if thing.area > least
        and thing.bbox[0] > 0
        and thing.bbox[1] > 0
        and thing.bbox[2] < height
        and thing.bbox[3] < width
        and thing.eccentricity < 0.6
        and thing.solidity > 0.94
    ]

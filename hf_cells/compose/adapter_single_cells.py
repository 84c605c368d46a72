"""Single red cells by thresholding (NIH malaria style): `Parasitized/*.png`, `Uninfected/*.png`.

There each image holds one cell on black; images with glass around the cell are told by their bright rim.
"""

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..errors import CellsError
from ..progress import track
from .adapter_masks import class_of_folders
from .raw_cells import RawCell, crop_to, largest_part
from .source_files import IMAGE_SUFFIXES, SourceFiles, suffix
from .stain import glass_colour, optical_density

# C33P1thinF_IMG_20150619_114756a_cell_179.png: patient, and the field of view before "_cell".
NIH_NAME = re.compile(r"^(?P<field>(?P<patient>C\d+P\d+)\w*?)_cell_\d+", re.IGNORECASE)


def cells_from_single_images(path: str | Path) -> list[RawCell]:
    """Cut the cell of every image in folders named after classes.

    Args:
        path: Folder or zip.

    Raises:
        CellsError: No such image, or one without a cell.
    """
    files = SourceFiles(path)
    names = [n for n in files.names() if suffix(n) in IMAGE_SUFFIXES and class_of_folders(n)]
    if not names:
        raise CellsError(f"{path}: no images in folders such as Parasitized/ and Uninfected/; check the path")
    cells = [cut_single_cell(files, name) for name in track(names, "Cutting single cells", total=len(names))]
    diameters: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        diameters[cell.source_image].append(cell.diameter)
    typical = float(np.median([cell.diameter for cell in cells]))
    for cell in cells:
        own = diameters[cell.source_image]
        cell.red_cell_diameter = float(np.median(own)) if len(own) >= 5 else typical
    return cells


def cut_single_cell(files: SourceFiles, name: str) -> RawCell:
    """Cut the one cell of an image; the diameter of red cells is not set yet."""
    rgb = files.image(name)
    rim = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    if np.median(rim) < 20:
        mask = rgb.max(-1) > 20
        # No glass is left; the palest part of the cell is the nearest thing to it.
        glass = np.percentile(rgb[mask], 99, axis=0).astype(np.float32) if mask.any() else np.full(3, 255.0)
    else:
        glass = glass_colour(rgb)
        mask = rgb[..., 1] <= threshold_otsu(rgb[..., 1])
    mask = ndimage.binary_erosion(largest_part(mask), iterations=1) if mask.any() else mask
    if mask.sum() < 50:
        raise CellsError(f"{files.where(name)}: no cell stands out from its surroundings; remove the image")
    density = optical_density(np.where(mask[..., None], rgb, glass.astype(np.uint8)), glass)
    stem = PurePosixPath(name).stem
    known = NIH_NAME.match(stem)
    box = crop_to(mask, 3)
    return RawCell(
        class_of_folders(name) or "",
        files.name,
        f"{files.name}/{known['field'] if known else name}",
        density[box],
        mask[box],
        np.nan,
        glass,
        known["patient"] if known else None,
    )

"""Ask whether the border of a pasted cell gives the paste away.

    python benchmarks/paste_cue.py SMEARS [--masks REAL] [--cells 300] [--split train]

SMEARS is a folder of `hf-cells compose dataset`; REAL a folder or zip of white cells with masks, as the library
takes them. Around every cell that lies whole and free in its image, optical density is followed across the border,
from 6 pixels inside to 8 outside, wherever there is glass outside. From that come numbers that do not depend on how
strongly a cell is stained:

    edge        steepest step of the profile, as a share of its height: a cut is too sharp, a blur too soft
    halo        the lowest point just outside against glass further off: a bright or dark rim
    noise_out   pixel noise just outside the border against the noise of glass further off: clean rims of a paste
    noise_rim   pixel noise on the border itself, in the same unit: a blended seam is too smooth

Two questions, each with the area under the ROC curve (0.5: cannot be told apart; folded, so never below) of every
number alone and of all together (logistic regression, cross-validated with the source cell as the unit, not folded),
with 95 % intervals over source cells:

    pasted | background     white cells and platelets that were pasted last, against red cells that came with their
                            background. They differ in kind too: a red cell has another edge.
    pasted | real           pasted white cells against white cells in the smears that they were cut from.

The border is taken where the profile falls through half of its height and not where a mask ends: masks are drawn in
one way on real smears and follow alpha in composed ones, and no picture shows them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_cells.compose.adapter_masks import pair_masks, read_classes, red_cell_diameters
from hf_cells.compose.classes import RED_CELL_DIAMETER, WHITE_CELLS
from hf_cells.compose.raw_cells import crop_to, largest_part
from hf_cells.compose.source_files import SourceFiles
from hf_cells.compose.stain import glass_colour, optical_density

NAMES = ("edge", "halo", "noise_out", "noise_rim")
INSIDE, OUTSIDE, FREE = 6, 8, 12  # pixels from the border; `FREE` bounds the glass to compare with
SECTORS, LEAST = 36, 12  # directions; pixels of a band that are needed

Cell = tuple[str, np.ndarray]  # the source cell, and its numbers


def border_numbers(rgb: np.ndarray, cell: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """Measure the border of one cell.

    Args:
        rgb: `(H, W, 3)` uint8.
        cell: `(H, W)` bool.
        others: `(H, W)` bool, where other cells are.

    Returns:
        `(4,)`, see `NAMES`; None where too little glass lies around the cell.
    """
    if cell[[0, -1]].any() or cell[:, [0, -1]].any():
        return None
    glass_of_image = glass_colour(rgb[::2, ::2], (cell | others)[::2, ::2])
    box = crop_to(cell, FREE + 4)
    rgb, cell, others = rgb[box], cell[box], others[box]
    density = optical_density(rgb, glass_of_image).mean(-1)
    outside, inside_of = ndimage.distance_transform_edt(~cell), ndimage.distance_transform_edt(cell)
    distance = np.where(cell, 0.5 - inside_of, outside - 0.5)  # 0 between the pixels of the border
    # Seen from the middle of the cell, a direction counts where it leads over nothing but glass.
    y, x = np.indices(cell.shape) - np.array(ndimage.center_of_mass(cell))[:, None, None]
    sector = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * SECTORS).astype(int).clip(0, SECTORS - 1)
    foreign = ndimage.binary_dilation(others, iterations=2)
    foreign |= (ndimage.gaussian_filter(density, 1) > 0.12) & (distance > 4)  # what no mask speaks of
    blocked = np.unique(sector[foreign & (distance > -INSIDE) & (distance <= FREE)])
    free = ~np.isin(sector, blocked)
    steps = density_profile(density, distance, free)
    if steps is None:
        return None
    # The image alone has no mask: the border is where the profile falls through half of its height.
    glass = steps[-3:].mean()
    height = steps[: INSIDE - 2].mean() - glass
    below = np.flatnonzero(steps < glass + height / 2)
    if height < 0.05 or below[0] == 0:
        return None
    last = below[0] - 1
    share = (steps[last] - glass - height / 2) / (steps[last] - steps[last + 1])
    distance = distance - (last + share + 0.5 - INSIDE)
    steps = density_profile(density, distance, free)
    if steps is None:
        return None
    residual = density - ndimage.gaussian_filter(density, 1)

    def noise(low: float, high: float) -> float:
        values = residual[free & (distance >= low) & (distance <= high)]
        return 1.4826 * float(np.median(np.abs(values - np.median(values)))) + 1e-4

    far = noise(OUTSIDE - 2, FREE)
    return np.array(
        [
            float(-np.diff(steps).min() / height),
            float((steps[INSIDE + 1 : INSIDE + 5].min() - glass) / height),
            float(np.log(noise(2, 5) / far)),
            float(np.log(noise(-1, 1) / far)),
        ]
    )


def density_profile(density: np.ndarray, distance: np.ndarray, free: np.ndarray) -> np.ndarray | None:
    """Median density of every band one pixel wide, from inside to outside; None where a band has too few pixels."""
    profile = []
    for place in np.arange(0.5 - INSIDE, OUTSIDE):
        band = free & (np.abs(distance - place) <= 0.5)
        if band.sum() < LEAST:
            return None
        profile.append(float(np.median(density[band])))
    return np.array(profile)


def composed_cells(folder: Path, split: str, wanted: int) -> tuple[list[Cell], list[Cell], list[Cell]]:
    """Measure pasted white cells, all pasted cells, and cells of the background, up to `wanted` of each."""
    white: list[Cell] = []
    pasted: list[Cell] = []
    natural: list[Cell] = []
    for path in sorted((folder / split / "labels").glob("*.json")):
        if min(len(white), len(pasted), len(natural)) >= wanted:
            break
        rgb = np.asarray(Image.open(folder / split / "images" / f"{path.stem}.png").convert("RGB"))
        labels = np.asarray(Image.open(folder / split / "instances" / f"{path.stem}.png")).astype(int)
        taken = 0
        for cell in json.loads(path.read_text())["objects"]:
            full = {True: pasted, False: natural}[cell["pasted"]]
            if cell["class"] in WHITE_CELLS:
                full = white
            if cell["partial"] or len(full) >= wanted or (not cell["pasted"] and taken >= 4):
                continue
            taken += not cell["pasted"]
            own = labels == cell["id"]
            numbers = border_numbers(rgb, own, (labels > 0) & ~own)
            if numbers is None:
                continue
            entry = (str(cell["sample"]), numbers)
            if not cell["pasted"]:
                natural.append(entry)
                continue
            pasted.append(entry)
            if cell["class"] in WHITE_CELLS:
                white.append(entry)
    return white, pasted, natural


def real_cells(source: Path, wanted: int) -> Iterator[Cell]:
    """Measure white cells in their own smears, brought to the scale of the library."""
    files = SourceFiles(source)
    names = files.names()
    known = read_classes(files, names)
    pairs = list(pair_masks(names).items())
    sizes: dict[str, list[float]] = {}
    images = []
    for image, mask in pairs:
        rgb, cell = files.image(image), largest_part(files.image(mask, "L") > 0)
        near = ndimage.binary_dilation(cell, iterations=3)
        density = optical_density(rgb, glass_colour(rgb, near))[..., 1]
        folder = str(Path(image).parent)
        sizes.setdefault(folder, []).extend(red_cell_diameters(density, near))
        images.append((image, folder, rgb, cell))
    rng = np.random.default_rng(0)
    count = 0
    for index in rng.permutation(len(images)):
        image, folder, rgb, cell = images[index]
        if image not in known or len(sizes[folder]) < 10:
            continue
        scale = RED_CELL_DIAMETER / float(np.median(sizes[folder]))
        size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
        small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
        mask = (
            np.asarray(Image.fromarray(cell.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR))
            > 127
        )
        # As in the library: drawn masks hold a rim of glass.
        numbers = border_numbers(small, ndimage.binary_erosion(mask), np.zeros_like(mask))
        if numbers is not None:
            yield image, numbers
            count += 1
            if count >= wanted:
                return


def compare(pasted: Iterable[Cell], others: Iterable[Cell], resamples: int = 300) -> dict[str, list[float]]:
    """Area under the curve of each number and of all together, with its interval: `[value, low, high]`."""
    first, second = list(pasted), list(others)
    x = np.array([numbers for _, numbers in first + second])
    y = np.array([1] * len(first) + [0] * len(second))
    groups = np.array([f"a{name}" for name, _ in first] + [f"b{name}" for name, _ in second])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    together = cross_val_predict(model, x, y, groups=groups, cv=GroupKFold(5), method="decision_function")
    columns = {name: x[:, place] for place, name in enumerate(NAMES)} | {"together": together}
    members = {name: np.flatnonzero(groups == name) for name in np.unique(groups)}
    sides = [[name for name in members if name[0] == side] for side in "ab"]
    rng, found = np.random.default_rng(0), {}
    for name, values in columns.items():
        turned = name != "together" and roc_auc_score(y, values) < 0.5
        signed = -values if turned else values
        areas = []
        for _ in range(resamples):
            drawn = np.concatenate(
                [members[one] for side in sides for one in rng.choice(side, len(side), replace=True)]
            )
            areas.append(roc_auc_score(y[drawn], signed[drawn]))
        found[name] = [float(roc_auc_score(y, signed)), *np.percentile(areas, [2.5, 97.5]).tolist()]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("smears", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--split", default="train")
    options = parser.parse_args()
    white, pasted, natural = composed_cells(options.smears, options.split, options.cells)
    report = {"pasted | background": (pasted, natural)}
    if options.masks:
        report["pasted | real"] = (white, list(real_cells(options.masks, options.cells)))
    for question, (one, other) in report.items():
        print(f"{question}: {len(one)} and {len(other)} cells")
        for place, name in enumerate(NAMES):
            medians = [float(np.median([numbers[place] for _, numbers in side])) for side in (one, other)]
            print(f"  {name:10} medians {medians[0]:7.3f} {medians[1]:7.3f}")
        for name, (area, low, high) in compare(one, other).items():
            print(f"  {name:10} AUC {area:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()

"""Libraries from source databases, and simulated ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import CellsError
from ..files import place_of
from ..progress import track
from .adapter_boxes import cells_from_boxes
from .adapter_masks import cells_from_masks
from .adapter_single_cells import cells_from_single_images
from .classes import CLASS_NAMES, RED_CELL_DIAMETER, SPLITS
from .clumps import build_clumps
from .library import Sample, check_free, write_library
from .raw_cells import RawCell, StainMatch, match_stains, stain_group, to_sample
from .sample_splits import split_by_source_image
from .simulated_cells import simulate_cell

FEWEST_CLUMPS = 4  # of a split


def build_library(
    output_dir: str | Path,
    *,
    masks: Sequence[str | Path] = (),
    boxes: Sequence[str | Path] = (),
    single_cells: Sequence[str | Path] = (),
    seed: int = 0,
) -> Path:
    """Cut samples from source databases, bring them to one scale and stain, split them, write a library.

    Args:
        output_dir: Folder to write; an earlier library of the same settings is replaced.
        masks: Folders or zips of white cells with masks.
        boxes: Folders or zips of smears with boxes of red cells, infected red cells and platelets.
        single_cells: Folders or zips of images with one red cell each.
        seed: Of the split and of the platelet clumps.

    Raises:
        CellsError: A source is missing or broken (names the file), or the folder holds something else.
    """
    sources = {"masks": masks, "boxes": boxes, "single_cells": single_cells}
    named = {kind: [place_of(path) for path in paths] for kind, paths in sources.items()}
    settings = {"simulated": False, **named, "seed": seed}
    check_free(output_dir, settings)
    adapters = {
        "masks": cells_from_masks,
        "boxes": cells_from_boxes,
        "single_cells": cells_from_single_images,
    }
    cells = [cell for kind, paths in sources.items() for path in paths for cell in adapters[kind](path)]
    if not cells:
        raise CellsError(
            "no source images given; give folders or zips of them, or ask for a simulated library"
        )
    stains = match_stains(cells)
    samples = []
    splits = split_by_source_image([c.class_name for c in cells], [c.source_image for c in cells], seed)
    for cell, split in track(list(zip(cells, splits)), "Rescaling", total=len(cells)):
        samples.append(_sample_of(cell, split, stains[stain_group(cell)]))
    return write_library(output_dir, _named([*samples, *_clumps(samples, seed)]), settings)


def simulate_library(output_dir: str | Path, *, per_class: int = 40, seed: int = 0) -> Path:
    """Draw a library of plausible cells of all nine classes, each in a source image of its own.

    Args:
        output_dir: Folder to write; an earlier library of the same settings is replaced.
        per_class: Samples of each class, 3 or more; clumps are built from the platelets.
        seed: Same seed, same bytes.

    Raises:
        CellsError: Too few samples, or the folder holds something else.
    """
    if per_class < 3:
        raise CellsError(f"{per_class} samples of a class do not reach three splits; ask for 3 or more")
    settings = {"simulated": True, "per_class": per_class, "seed": seed}
    check_free(output_dir, settings)
    samples = []
    for class_id, class_name in enumerate(CLASS_NAMES[1:], start=1):
        if class_name == "platelet_clump":
            continue
        for number in track(range(1, per_class + 1), f"Drawing {class_name}", total=per_class):
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, class_id, number))))
            rgba = simulate_cell(class_name, rng)
            samples.append(
                Sample(
                    sample_id="",
                    class_name=class_name,
                    file="",
                    source="simulated",
                    source_image=f"simulated/{class_name}-{number:04d}",
                    patient=None,
                    height=rgba.shape[0],
                    width=rgba.shape[1],
                    diameter=float(2 * np.sqrt((rgba[..., 3] >= 128).sum() / np.pi)),
                    scale=1.0,
                    split="train",
                    built_from=None,
                    glass=_simulated_glass(rng),
                    gain=(1.0, 1.0, 1.0),
                    rgba=rgba,
                )
            )
    splits = split_by_source_image([s.class_name for s in samples], [s.source_image for s in samples], seed)
    samples = [replace(sample, split=split) for sample, split in zip(samples, splits)]
    return write_library(output_dir, _named([*samples, *_clumps(samples, seed)]), settings)


def _simulated_glass(rng: np.random.Generator) -> tuple[float, float, float]:
    """From grey over cream and pink to the green of some cameras."""
    tint = rng.uniform(0, 1)
    grey, cream, green = np.array([228, 226, 224]), np.array([250, 230, 200]), np.array([198, 224, 208])
    colour = grey + tint * ((cream if rng.random() < 0.6 else green) - grey)
    red, green_, blue = (float(round(value)) for value in colour)
    return red, green_, blue


def _sample_of(cell: RawCell, split: str, stain: StainMatch) -> Sample:
    rgba = to_sample(cell, stain)
    scale = RED_CELL_DIAMETER / cell.red_cell_diameter
    return Sample(
        sample_id="",
        class_name=cell.class_name,
        file="",
        source=cell.source,
        source_image=cell.source_image,
        patient=cell.patient,
        height=rgba.shape[0],
        width=rgba.shape[1],
        diameter=cell.diameter * scale,
        scale=scale,
        split=split,
        built_from=None,
        glass=tuple(float(v) for v in cell.glass),  # type: ignore[arg-type]
        gain=tuple(float(v) for v in stain.gain),  # type: ignore[arg-type]
        rgba=rgba,
    )


def _clumps(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Clumps of every split that has platelets and no clumps: a third as many, but at least four."""
    clumps = []
    numbered = _named(samples)
    for number, split in enumerate(SPLITS):
        own = [s for s in numbered if s.split == split and s.class_name == "thrombocyte"]
        if own and not any(s.split == split and s.class_name == "platelet_clump" for s in samples):
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, 7919, number))))
            clumps += build_clumps(own, max(FEWEST_CLUMPS, len(own) // 3), rng)
    return clumps


def _named(samples: Sequence[Sample]) -> list[Sample]:
    """Number the samples within their class, in the order given, and name their files."""
    counts = dict.fromkeys(CLASS_NAMES, 0)
    named = []
    for sample in samples:
        counts[sample.class_name] += 1
        sample_id = f"{sample.class_name}-{counts[sample.class_name]:05d}"
        named.append(replace(sample, sample_id=sample_id, file=f"{sample.class_name}/{sample_id}.png"))
    return named

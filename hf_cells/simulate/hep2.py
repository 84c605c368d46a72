"""Writes simulated HEp-2 cells in the layout of the I3A contest (ICPR 2014), with the leaks of that set."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CellsError
from ..files import write_table
from ..progress import track
from .hep2_cells import render_cell
from .hep2_specimens import PATTERNS, draw_specimen
from .writing import apportion, check_numbers, generator, refuse_foreign, run_jobs, write_png

# Cells and specimens by class, as published (Hobson et al. 2015, doi:10.1016/j.artmed.2015.08.001).
CELLS = {
    "Homogeneous": 2494,
    "Speckled": 2831,
    "Nucleolar": 2598,
    "Centromere": 2741,
    "NuMem": 2208,
    "Golgi": 724,
}
SPECIMENS = {"Homogeneous": 16, "Speckled": 16, "Nucleolar": 16, "Centromere": 16, "NuMem": 15, "Golgi": 4}
CLASSES = tuple(PATTERNS)
# NuMem repeats itself: 194 of its 2208 cells are there twice, the first of them its 341st.
COPIED, COPIES, COPIES_FROM = "NuMem", 194 / 2208, 340 / 2208
LAYOUTS = {"contest": ("training", "validation", "test"), "folders": ("tra", "val", "tes")}


class _Job(NamedTuple):
    file: str
    label: str
    specimen: int
    cell: int
    copy_of: str


def simulate_hep2(
    output_dir: str | os.PathLike[str],
    *,
    n_train: int = 1000,
    n_test: int | None = None,
    n_validation: int | None = None,
    seed: int = 0,
    layout: str = "contest",
    duplicate_pairs: int | None = None,
    workers: int = 1,
) -> Path:
    """Write a simulated contest folder; the same seed gives the same bytes with any number of workers.

    `training/NNNNN.png`, `validation/`, `test/` (uint8, 78x78) and `gt_training.csv` with the columns Image ID
    and Image class, or `dataset/{tra,val,tes}/<Class>/NNNNN.png`. `simulated.csv`, written last, tells what
    the contest does not: file, class_name, specimen and copy_of.

    As in the real set the IDs run through the classes and, within a class, through its specimens, whose
    cells look alike; the split is random by cell; some NuMem cells are there a second time, at a constant
    offset of the ID, with the same pixels in a file of other bytes.

    Args:
        output_dir: Folder to write. Images of an earlier run with the same numbers are replaced; a folder
            that holds other images is refused.
        n_train: Cells in training, at least one for each class.
        n_test: Cells in test; None for as many for each in training as published.
        n_validation: Cells in validation; None for the same.
        seed: Series of cells.
        layout: "contest" or "folders".
        duplicate_pairs: NuMem cells that are there twice; None for as large a part as in the real set.
        workers: Processes.

    Returns:
        The output folder.

    Raises:
        CellsError: When a number is out of range or the folder cannot be written.
    """
    n_test = round(n_train * 2720 / 8701) if n_test is None else n_test
    n_validation = round(n_train * 2175 / 8701) if n_validation is None else n_validation
    check_numbers(n_train, n_test, seed, workers, len(CLASSES), "one for each class")
    if n_validation < 0:
        raise CellsError(f"n_validation is {n_validation}; use 0 or more")
    if layout not in LAYOUTS:
        raise CellsError(f"unknown layout {layout!r}; choose from {', '.join(LAYOUTS)}")
    sizes = (n_train, n_validation, n_test)
    jobs = plan_cells(sizes, seed, layout, duplicate_pairs)

    output = Path(output_dir)
    mark = f"hf-cells simulated hep2 seed={seed} cells={sizes} pairs={sum(bool(job.copy_of) for job in jobs)}"
    tables = ["simulated.csv"] if layout == "folders" else ["gt_training.csv", "simulated.csv"]
    folders = ("dataset",) if layout == "folders" else LAYOUTS[layout]
    refuse_foreign(output, folders, (job.file for job in jobs), tables, mark)
    write = partial(_write_cell, output, seed, mark)
    for _ in track(run_jobs(write, jobs, workers), "simulating HEp-2 cells", total=len(jobs)):
        pass
    if layout == "contest":
        labels = ((Path(job.file).stem, job.label) for job in jobs)
        write_table(output / "gt_training.csv", ("Image ID", "Image class"), labels)
    rows = ((job.file, job.label, f"{job.label}-{job.specimen}", job.copy_of) for job in jobs)
    write_table(output / "simulated.csv", ("file", "class_name", "specimen", "copy_of"), rows)
    return output


def plan_cells(
    sizes: tuple[int, int, int], seed: int, layout: str, duplicate_pairs: int | None
) -> list[_Job]:
    """Every cell in the order of its ID."""
    shares = np.array([CELLS[label] for label in CLASSES], float)
    counts = np.stack([apportion(size, shares, least=1) for size in sizes])  # (split, class)
    rng = generator(seed, 0)
    jobs: list[_Job] = []
    for label, by_split in zip(CLASSES, counts.T, strict=True):
        n = int(by_split.sum())
        cell = _with_copies(n, _pairs(n, duplicate_pairs) if label == COPIED else 0)
        specimen = _specimens(rng, label, int(cell.max()) + 1)[cell]
        split = rng.permutation(np.repeat(np.arange(len(sizes)), by_split))
        first: dict[int, str] = {}
        for i in range(n):
            image_id = f"{len(jobs) + 1:05d}"
            folder = LAYOUTS[layout][split[i]]
            place = folder if layout == "contest" else f"dataset/{folder}/{label}"
            copy_of = first.get(int(cell[i]), "")
            jobs.append(_Job(f"{place}/{image_id}.png", label, int(specimen[i]), int(cell[i]), copy_of))
            first.setdefault(int(cell[i]), image_id)
    return jobs


def _pairs(n: int, asked: int | None) -> int:
    if asked is None:
        return min(max(1, round(COPIES * n)), n // 2)
    if not 0 <= asked <= n // 2:
        raise CellsError(f"duplicate_pairs is {asked}; use 0 to {n // 2}, half of the {n} {COPIED} cells")
    return asked


def _with_copies(n: int, pairs: int) -> NDArray[np.intp]:
    """Numbers of the cells at n consecutive IDs, a run of `pairs` of them followed by the same run again."""
    start = min(round(COPIES_FROM * n), n - 2 * pairs)
    cell = np.arange(n - pairs)
    return np.concatenate([cell[: start + pairs], cell[start:]])


def _specimens(rng: np.random.Generator, label: str, n: int) -> NDArray[np.intp]:
    """Specimen of each of n different cells: contiguous runs of unequal length; few specimens for few cells."""
    specimens = max(1, min(SPECIMENS[label], n // 6))
    return np.repeat(np.arange(specimens), apportion(n, rng.uniform(0.5, 1.5, specimens), least=1))


def _write_cell(output: Path, seed: int, mark: str, job: _Job) -> None:
    number = CLASSES.index(job.label)
    specimen = draw_specimen(generator(seed, 1, number, job.specimen), job.label)
    pixels = render_cell(generator(seed, 2, number, job.cell), specimen)
    write_png(output / job.file, pixels, mark, compress_level=1 if job.copy_of else 6)

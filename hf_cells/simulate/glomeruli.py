"""Writes simulated glomeruli as a folder of crops with a CSV, named like a hospital's: case, slide, image."""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CellsError
from ..files import write_table
from ..progress import track
from .glomerulus import FULL_SIZE, render_crop
from .pas_stain import draw_case, draw_slide
from .writing import apportion, check_numbers, generator, refuse_foreign, run_jobs, write_png

CROPS_PER_CASE = 14
SMALLEST = 24


class _Job(NamedTuple):
    file: str
    case: int
    slide: int
    number: int
    sclerotic: bool


def simulate_glomeruli(
    output_dir: str | os.PathLike[str],
    *,
    n_train: int = 200,
    n_test: int = 0,
    seed: int = 0,
    size_range: tuple[int, int] = FULL_SIZE,
    sclerotic_fraction: float = 1054 / 5758,
    workers: int = 1,
) -> Path:
    """Write a simulated set of crops; the same seed gives the same bytes with any number of workers.

    `public/<name>.png` (RGBA, opaque, not square), `public.csv` with the columns name and ground truth (0, or 1
    for globally sclerotic), and, written last, `simulated.csv` with file, case, slide and sclerotic.

    Names are `S-YYYY-NNNNNN_PAS_1of2_<24 hex digits>.png`; the years are those before 1910, so that no name
    can be a person's. Crops of a case share its tissue and stain, and those of a slide its scan.

    Args:
        output_dir: Folder to write. Images of an earlier run with the same settings are replaced; a folder
            that holds other images is refused.
        n_train: Crops.
        n_test: Further crops. The set has no folder of its own for them: they lie among the others, and its
            splits are made by case or at random when it is loaded.
        seed: Series of crops.
        size_range: Smallest and largest side, pixels. A largest side under 915 lowers the magnification.
        sclerotic_fraction: Share of globally sclerotic glomeruli, 18.3 % in the real set.
        workers: Processes.

    Returns:
        The output folder.

    Raises:
        CellsError: When a number is out of range or the folder cannot be written.
    """
    check_numbers(n_train, n_test, seed, workers, 2, "one for each class")
    low, high = _checked_range(size_range)
    if not 0 < sclerotic_fraction < 1:
        raise CellsError(f"sclerotic_fraction is {sclerotic_fraction}; use a number between 0 and 1")
    jobs, cases, slides = plan_crops(n_train + n_test, seed, sclerotic_fraction)

    output = Path(output_dir)
    mark = f"hf-cells simulated glomeruli seed={seed} crops={len(jobs)} sides={low}-{high} {sclerotic_fraction:.4f}"
    refuse_foreign(output, ("public",), (job.file for job in jobs), ("public.csv", "simulated.csv"), mark)
    write = partial(_write_crop, output, seed, (low, high), mark)
    for _ in track(run_jobs(write, jobs, workers), "simulating glomeruli", total=len(jobs)):
        pass
    labels = ((Path(job.file).name, int(job.sclerotic)) for job in jobs)
    write_table(output / "public.csv", ("name", "ground truth"), labels)
    rows = ((job.file, cases[job.case], slides[job.slide], int(job.sclerotic)) for job in jobs)
    write_table(output / "simulated.csv", ("file", "case", "slide", "sclerotic"), rows)
    return output


def _checked_range(size_range: tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = (int(side) for side in size_range)
    except (TypeError, ValueError):
        low = high = 0
    if not SMALLEST <= low < high:
        raise CellsError(
            f"size_range is {size_range}; give [smallest, largest] side, {SMALLEST} pixels or more"
        )
    return low, high


def plan_crops(n: int, seed: int, sclerotic_fraction: float) -> tuple[list[_Job], list[str], list[str]]:
    """Crops in the order of their names, names of the cases, and names of all slides."""
    rng = generator(seed, 0)
    n_cases = min(n, max(6, round(n / CROPS_PER_CASE)))
    cases = _case_names(rng, n_cases)
    case = np.repeat(np.arange(n_cases), apportion(n, rng.gamma(1.5, size=n_cases), least=1))

    # One or two of a case's blocks were scanned.
    blocks = rng.choice([1, 2, 3], n_cases, p=[0.05, 0.9, 0.05])
    scanned = [rng.permutation(block)[: rng.integers(1, 3)] + 1 for block in blocks]
    slides = [f"{which}of{block}" for block, chosen in zip(blocks, scanned, strict=True) for which in chosen]
    before = np.cumsum([0] + [len(chosen) for chosen in scanned])
    slide = np.array([before[c] + rng.integers(len(scanned[c])) for c in case])

    # Disease sits in some cases more than in others.
    severity = rng.gamma(0.7, size=n_cases)[case] + 0.02
    count = min(max(1, round(sclerotic_fraction * n)), n - 1)
    sclerotic = np.zeros(n, bool)
    sclerotic[rng.choice(n, count, replace=False, p=severity / severity.sum())] = True
    jobs = []
    for number in range(n):
        key = hashlib.sha256(f"hf-cells glomeruli {seed} {number}".encode()).hexdigest()[:24]
        name = f"{cases[case[number]]}_PAS_{slides[slide[number]]}_{key}.png"
        jobs.append(
            _Job(f"public/{name}", int(case[number]), int(slide[number]), number, bool(sclerotic[number]))
        )
    return sorted(jobs), cases, slides


def _case_names(rng: np.random.Generator, n: int) -> list[str]:
    """Different names."""
    numbers = rng.choice(10 * 900_000, n, replace=False)
    return [f"S-{1900 + number // 900_000}-{100_000 + number % 900_000}" for number in numbers.tolist()]


def _write_crop(output: Path, seed: int, size_range: tuple[int, int], mark: str, job: _Job) -> None:
    slide = draw_slide(generator(seed, 2, job.slide), draw_case(generator(seed, 1, job.case)))
    pixels = render_crop(generator(seed, 3, job.number), slide, job.sclerotic, size_range)
    write_png(output / job.file, pixels, mark, compress_level=3)

"""Writes simulated fields in the layout of the 2021 Human Protein Atlas single-cell challenge (Kaggle)."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CellsError
from ..files import write_table
from ..progress import track
from .hpa_culture import LINES
from .hpa_field import COLOURS, Antibody, Conditions, simulate_field
from .hpa_proteins import NEGATIVE, SPINDLE
from .optics import draw_log
from .writing import apportion, check_numbers, generator, refuse_foreign, run_jobs, write_png

# Training fields with each label, as published.
PREVALENCE = (
    8797, 1095, 2451, 1262, 1425, 1792, 775, 1846, 964, 1011, 818, 78, 1734, 3216, 2013, 252, 5685, 621, 34,
)  # fmt: skip
FIELD_UM, PIXEL_UM = 164.0, 0.08
MIXED_SIZES = ((1728, 1728), (2048, 2048), (3072, 3072))
SMALLEST = 64
FIELDS_OF_ANTIBODY = 3


class _Job(NamedTuple):
    number: int
    split: str
    antibody: Antibody
    line: str
    size: tuple[int, int]
    pixel_um: float


class _Row(NamedTuple):
    job: _Job
    classes: list[tuple[int, ...]]


def simulate_hpa_single_cell(
    output_dir: str | os.PathLike[str],
    *,
    n_train: int = 64,
    n_test: int = 0,
    seed: int = 0,
    size: tuple[int, int] | None = (1024, 1024),
    looks: Sequence[str] | None = None,
    bit_depth: int = 8,
    field_um: float = FIELD_UM,
    rare: float = 0.5,
    blur: float = 1.0,
    noise: float = 1.0,
    brightness: float = 1.0,
    density: float = 1.0,
    workers: int = 1,
) -> Path:
    """Write a simulated challenge folder; the same seed gives the same bytes with any number of workers.

    `train.csv` (ID, Label with the numbers of the labels as `a|b`), `train/<ID>_{red,green,blue,yellow}.png`,
    the same for `test`, and beside them what the challenge does not tell: `masks/<ID>_cell.png` and
    `masks/<ID>_nucleus.png` (uint16, 0 background, cell n owns nucleus n), `cells.csv` (ID, cell_number,
    Label), `antibodies.csv` (ID, antibody, cell_line) and, written last, `simulated.csv` (ID, split,
    antibody, cell_line, height, width, cells). The label of a field is the union of its cells' labels.

    Three fields share an antibody, which no two splits do.

    Args:
        output_dir: Folder to write. Fields of an earlier run with the same numbers are replaced; a folder
            that holds others is refused.
        n_train: Fields in `train`.
        n_test: Fields in `test`.
        seed: Series of fields.
        size: (height, width) in pixels, or None for the mixed sizes of the challenge.
        looks: Names of cell lines, taken in turn; None for all.
        bit_depth: 8 or 16.
        field_um: Micrometres along the longer side of a field; with mixed sizes a pixel has .08.
        rare: How rare rare labels are: 1 as in the challenge, 0 all labels alike.
        blur: Width of the point spread, times the usual, for looks that nothing was trained on.
        noise: Standard deviation of the camera's noise, times the usual.
        brightness: Grey values of all stains, times the usual.
        density: Share of the field under cells, times the usual, as far as there is room.
        workers: Processes.

    Returns:
        The output folder.

    Raises:
        CellsError: When a number is out of range, a cell line is unknown or the folder cannot be written.
    """
    check_numbers(n_train, n_test, seed, workers, 1, "to have something to learn from")
    lines = tuple(looks) if looks is not None else tuple(LINES)
    conditions = Conditions(blur, noise, brightness, density)
    _check(size, lines, bit_depth, field_um, rare, conditions)
    jobs = plan_fields((n_train, n_test), seed, lines, size, field_um, rare)

    output = Path(output_dir)
    shape = "mixed" if size is None else f"{size[0]}x{size[1]}"
    mark = (
        f"hf-cells simulated hpa_single_cell seed={seed} fields={n_train}+{n_test} size={shape} "
        f"bits={bit_depth} um={field_um:g} rare={rare:g} lines={','.join(lines)} "
        + " ".join(f"{name}={factor:g}" for name, factor in vars(conditions).items())
    )
    files = [name for job in jobs for name in _files(seed, job)]
    tables = ["train.csv", "cells.csv", "antibodies.csv", "simulated.csv"] + ["test.csv"] * (n_test > 0)
    refuse_foreign(output, ("train", "test", "masks"), files, tables, mark)
    write = partial(_write_field, output, seed, bit_depth, conditions, mark)
    rows = list(track(run_jobs(write, jobs, workers), "simulating fields", total=len(jobs)))
    _write_tables(output, seed, rows)
    return output


def _check(
    size: tuple[int, int] | None,
    lines: tuple[str, ...],
    bit_depth: int,
    field_um: float,
    rare: float,
    conditions: Conditions,
) -> None:
    if bit_depth not in (8, 16):
        raise CellsError(f"bit_depth is {bit_depth}; use 8 or 16")
    if size is not None and (len(size) != 2 or min(size) < SMALLEST):
        raise CellsError(f"size is {size}; give (height, width) of at least {SMALLEST} pixels each")
    if not lines:
        raise CellsError(f"no look chosen; choose from {', '.join(LINES)}")
    for line in lines:
        if line not in LINES:
            raise CellsError(f"unknown look {line!r}; choose from the cell lines {', '.join(LINES)}")
    if not 30 <= field_um <= 600:
        raise CellsError(f"field_um is {field_um}; use 30 to 600 micrometres")
    if not 0 <= rare <= 1:
        raise CellsError(f"rare is {rare}; use 0 to 1")
    for name, factor in vars(conditions).items():
        if not 0.1 <= factor <= 10:
            raise CellsError(f"{name} is {factor}; use 0.1 to 10 times the usual")


def plan_fields(
    counts: tuple[int, int],
    seed: int,
    lines: tuple[str, ...],
    size: tuple[int, int] | None,
    field_um: float,
    rare: float,
) -> list[_Job]:
    """Every field of the train and the test split: its antibody, cell line and size."""
    rng = generator(seed, 0)
    jobs: list[_Job] = []
    n_antibodies = 0
    for split, count in zip(("train", "test"), counts, strict=True):
        if not count:
            continue
        wanted = -(-count // FIELDS_OF_ANTIBODY)
        shares = np.array(PREVALENCE, float) ** rare
        first = rng.permutation(np.repeat(np.arange(len(shares)), apportion(wanted, shares, least=1)))
        antibodies = [
            _draw_antibody(rng, f"SIM{n_antibodies + i + 1:06d}", int(label), shares)
            for i, label in enumerate(first)
        ]
        n_antibodies += wanted
        for i in range(count):
            shape = size or MIXED_SIZES[int(rng.integers(len(MIXED_SIZES)))]
            pixel = field_um / max(shape) if size else PIXEL_UM
            line = lines[len(jobs) % len(lines)]
            jobs.append(_Job(len(jobs), split, antibodies[i % wanted], line, shape, pixel))
    return jobs


def _draw_antibody(
    rng: np.random.Generator, name: str, first: int, shares: "np.ndarray[tuple[int], np.dtype[np.floating]]"
) -> Antibody:
    labels = [first]
    n = int(rng.choice([1, 2, 3, 4], p=[0.47, 0.41, 0.1, 0.02]))
    if first == NEGATIVE:
        n = 1
    if first == SPINDLE:  # most such proteins are elsewhere between divisions
        n = max(n, 1 + int(rng.random() < 0.8))
    others = shares.copy()
    others[[SPINDLE, NEGATIVE, first]] = 0
    labels += rng.choice(len(shares), n - 1, replace=False, p=others / others.sum()).tolist()
    strengths = (1.0, *rng.uniform(0.35, 0.9, n - 1).tolist())
    return Antibody(name, tuple(labels), strengths, draw_log(rng, (45, 220)))


def field_id(seed: int, number: int) -> str:
    """An identifier like those of the challenge."""
    key = hashlib.sha256(f"hf-cells hpa {seed} {number}".encode()).hexdigest()
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:32]}"


def _files(seed: int, job: _Job) -> list[str]:
    name = field_id(seed, job.number)
    colours = [f"{job.split}/{name}_{colour}.png" for colour in COLOURS]
    return [*colours, f"masks/{name}_cell.png", f"masks/{name}_nucleus.png"]


def _write_field(
    output: Path, seed: int, bit_depth: int, conditions: Conditions, mark: str, job: _Job
) -> _Row:
    rng = generator(seed, 1, job.number)
    field = simulate_field(rng, job.size, job.line, job.antibody, job.pixel_um, bit_depth, conditions)
    planes = [*np.moveaxis(field.channels, -1, 0)]
    planes += [field.cell_labels.astype(np.uint16), field.nucleus_labels.astype(np.uint16)]
    for name, pixels in zip(_files(seed, job), planes, strict=True):
        write_png(output / name, np.ascontiguousarray(pixels), mark, compress_level=3)
    return _Row(job, field.cell_classes)


def _write_tables(output: Path, seed: int, rows: list[_Row]) -> None:
    names = [field_id(seed, row.job.number) for row in rows]
    for split in ("train", "test"):
        labels = [
            (name, _join({label for own in row.classes for label in own}))
            for name, row in zip(names, rows, strict=True)
            if row.job.split == split
        ]
        if labels:
            write_table(output / f"{split}.csv", ("ID", "Label"), labels)
    cells = (
        (name, number, _join(own))
        for name, row in zip(names, rows, strict=True)
        for number, own in enumerate(row.classes, start=1)
    )
    write_table(output / "cells.csv", ("ID", "cell_number", "Label"), cells)
    stains = ((name, row.job.antibody.name, row.job.line) for name, row in zip(names, rows, strict=True))
    write_table(output / "antibodies.csv", ("ID", "antibody", "cell_line"), stains)
    told = (
        (name, row.job.split, row.job.antibody.name, row.job.line, *row.job.size, len(row.classes))
        for name, row in zip(names, rows, strict=True)
    )
    header = ("ID", "split", "antibody", "cell_line", "height", "width", "cells")
    write_table(output / "simulated.csv", header, told)


def _join(labels: "set[int] | tuple[int, ...]") -> str:
    return "|".join(str(label) for label in sorted(labels))

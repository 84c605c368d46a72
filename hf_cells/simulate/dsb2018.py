"""Writes simulated nuclei in the layout of the 2018 Data Science Bowl (Kaggle stage 1)."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ..errors import CellsError
from ..files import atomic_folder, write_table
from ..progress import track
from .nuclei import check_request, looks_for, simulate_nuclei
from .writing import check_numbers, run_jobs


class _Job(NamedTuple):
    folder: str
    seed: int
    number: int
    look: str


class _Row(NamedTuple):
    image_id: str
    look: str
    size: str
    objects: int


def simulate_dsb2018(
    output_dir: str | os.PathLike[str],
    n_train: int = 64,
    n_test: int = 0,
    seed: int = 0,
    size: tuple[int, int] | None = (256, 256),
    looks: Sequence[str] | None = None,
    bit_depth: int = 8,
    workers: int = 1,
) -> Path:
    """Write a simulated contest folder; the same seed gives the same bytes with any number of workers.

    `stage1_train/<id>/images/<id>.png` with one `masks/<object>.png` (uint8, 0 or 255, disjoint) per nucleus,
    the same under `stage1_test/`, and `simulated.csv` with the columns image_id, look, size, objects.

    Args:
        output_dir: Folder to write. Images of an earlier run of the same seed are replaced; a folder that
            holds other images is refused.
        n_train: Images in `stage1_train`.
        n_test: Images in `stage1_test`, with masks.
        seed: Series of images.
        size: (height, width), or None for the mixed sizes of the contest.
        looks: Names of looks, taken in turn; None for all that the bit depth allows.
        bit_depth: 8 or 16.
        workers: Processes.

    Returns:
        The output folder.

    Raises:
        CellsError: When a number is out of range, a look is unknown or the folder cannot be written.
    """
    check_numbers(n_train, n_test, seed, workers, least=1, why="for there is nothing to train on otherwise")
    chosen = tuple(looks) if looks is not None else looks_for(bit_depth)
    check_request(size, chosen, bit_depth)

    output = Path(output_dir)
    jobs = [
        _Job(
            folder="stage1_train" if index < n_train else "stage1_test",
            seed=seed,
            number=index,
            look=chosen[index % len(chosen)],
        )
        for index in range(n_train + n_test)
    ]
    _refuse_other_images(output, jobs)
    write = partial(_write_image, output, size=size, bit_depth=bit_depth)
    rows = list(track(run_jobs(write, jobs, workers), "simulating nuclei", total=len(jobs)))
    write_table(output / "simulated.csv", _Row._fields, rows)
    return output


def _refuse_other_images(output: Path, jobs: list[_Job]) -> None:
    """Simulated images must not mix with real ones, nor with those of another run."""
    expected = {output / job.folder / image_id(job.seed, job.number) for job in jobs}
    for split in ("stage1_train", "stage1_test"):
        if (output / split).is_dir():
            for place in sorted((output / split).iterdir()):
                if place not in expected and not place.name.startswith("."):
                    raise CellsError(f"{place} is not of this simulation; choose an empty output folder")


def image_id(seed: int, index: int) -> str:
    """64 hexadecimal digits, as in the contest."""
    return hashlib.sha256(f"hf-cells nuclei {seed} {index}".encode()).hexdigest()


def _write_image(output: Path, job: _Job, size: tuple[int, int] | None, bit_depth: int) -> _Row:
    simulated = simulate_nuclei(job.seed, job.number, size, job.look, bit_depth)
    name = image_id(job.seed, job.number)
    labels = simulated.instance_labels
    with atomic_folder(output / job.folder / name) as folder:
        (folder / "images").mkdir()
        (folder / "masks").mkdir()
        Image.fromarray(simulated.image).save(folder / "images" / f"{name}.png")
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            mask = np.zeros(labels.shape, np.uint8)
            mask[box][labels[box] == number] = 255
            key = hashlib.sha256(f"{name} {number}".encode()).hexdigest()
            Image.fromarray(mask).save(folder / "masks" / f"{key}.png", compress_level=3)
    height, width = labels.shape
    return _Row(name, simulated.look, f"{height}x{width}", int(labels.max()))

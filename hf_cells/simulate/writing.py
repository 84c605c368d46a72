"""What the simulators of labelled pictures share: checks, marked PNG files, processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..errors import CellsError
from ..files import atomic_write

Job = TypeVar("Job")
Result = TypeVar("Result")


def generator(*key: int) -> np.random.Generator:
    """A generator for one thing, named by the seed and its place in the series, on whatever worker."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def check_numbers(n_train: int, n_test: int, seed: int, workers: int, least: int, why: str) -> None:
    """Refuse numbers out of range.

    Args:
        n_train: Training images.
        n_test: Test images.
        seed: Series.
        workers: Processes.
        least: Smallest n_train.
        why: What so many are needed for.

    Raises:
        CellsError: One of them is too small.
    """
    if n_train < least or n_test < 0:
        raise CellsError(f"n_train is {n_train} and n_test {n_test}; use n_train of {least} or more, {why}")
    if seed < 0:
        raise CellsError(f"seed is {seed}; use 0 or more")
    if workers < 1:
        raise CellsError(f"workers is {workers}; use 1 or more")


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Results in the order of the jobs; `work` must be picklable."""
    if workers == 1:
        yield from map(work, jobs)
        return
    # Fresh processes: a fork would inherit the locks of whatever threads the caller runs.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs, chunksize=max(1, min(32, len(jobs) // (4 * workers))))


def write_png(path: Path, pixels: NDArray[np.uint8], mark: str, compress_level: int = 6) -> None:
    """Write a PNG that says in its text chunk `Software` what made it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", mark)
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=text, compress_level=compress_level)


def refuse_foreign(
    output: Path, folders: Iterable[str], images: Iterable[str], tables: Iterable[str], mark: str
) -> None:
    """Simulated images must not mix with real ones, nor with those of another run, nor replace them.

    Args:
        output: Folder to write.
        folders: Folders in it that are searched for what does not belong there.
        images: Relative paths that this run writes; where one is there, it must carry the mark.
        tables: Relative paths of tables, written after the last image: not there unless all images are.
        mark: What `write_png` writes.

    Raises:
        CellsError: There is such a file.
    """
    remedy = "is not of this simulation; choose an empty output folder"
    expected = {output / name for name in images}
    present = {
        path
        for folder in folders
        for path in (output / folder).rglob("*")
        if not path.name.startswith(".") and not path.is_dir()
    }
    for path in sorted(present):
        if path not in expected or _mark_of(path) != mark:
            raise CellsError(f"{path} {remedy}")
    for name in tables:
        if (output / name).exists() and present != expected:
            raise CellsError(f"{output / name} {remedy}")


def _mark_of(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            return image.info.get("Software")
    except (OSError, SyntaxError, Image.DecompressionBombError):  # SyntaxError is a broken PNG
        return None


def apportion(total: int, shares: NDArray[np.floating], least: int = 0) -> NDArray[np.intp]:
    """Divide `total` things in proportion to `shares` (k,), by largest remainders, none under `least`.

    `least` gives way where the total does not suffice for it.
    """
    least = min(least, total // len(shares))
    rest = total - least * len(shares)
    exact = np.maximum(shares / shares.sum() * total - least, 0)
    exact *= rest / max(exact.sum(), 1e-12)
    counts = np.floor(exact).astype(np.intp)
    largest = np.argsort(counts - exact, kind="stable")
    counts[largest[: rest - counts.sum()]] += 1
    return counts + least

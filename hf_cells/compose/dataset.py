"""The composer: every sample of a dataset, in any number of processes, resumable, never mixed with another.

Layout:

    composition.json                 what is composed; written first, and what a restart must agree with
    <split>/images/NNNNNN.png        RGB, 224x224
    <split>/labels/NNNNNN.json       class, box and sample of every cell, background, look
    <split>/segments/NNNNNN.png      palette PNG: the colours of the classes, and their ids as values
    <split>/instances/NNNNNN.png     16-bit labels, 0 background
    backgrounds/<split>-NNNN.png     1000x1000, on reference glass; .json holds the positions
    simulated.csv                    the cells of the library, where all were drawn: no terms of real images hold
    manifest.json                    counts of objects and source samples; written last: with it all is there
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import CellsError
from ..files import write_table
from ..progress import track
from .backgrounds import SIDE, kind_of, make_background
from .classes import CLASS_NAMES, RED_CELL_DIAMETER, SPLITS
from .library import Library, Sample, read_library
from .looks import look_sources
from .plan import KINDS, Plan, make_cycle
from .sample import CROP, background_number, compose
from .writing import (
    finished,
    make_folders,
    read_json,
    stem_of,
    write_background,
    write_composite,
    write_json,
)

VERSION = 1  # of the recipe: another one gives other bytes
SOURCE_SIZES = {"train": 65_350, "validation": 6_560, "test": 6_560}
MOST_BACKGROUNDS = 1500
SAMPLES_PER_BACKGROUND = 52  # of the source: 78,470 samples from 1500 backgrounds


@dataclass(frozen=True)
class _Job:
    """All samples of a split that share a background, so that it is composed once."""

    split: str
    background: int
    indices: tuple[int, ...]


def compose_dataset(
    library: str | Path,
    output_dir: str | Path,
    *,
    train: int = SOURCE_SIZES["train"],
    validation: int = SOURCE_SIZES["validation"],
    test: int = SOURCE_SIZES["test"],
    backgrounds: int | None = None,
    seed: int = 0,
    workers: int = 1,
    leave_out: Sequence[str] = (),
) -> Path:
    """Compose a dataset; the same arguments give the same bytes, whatever the number of workers.

    A run that was interrupted is continued by the same call.

    Args:
        library: Folder of `build_library` or `simulate_library`.
        output_dir: Folder to write.
        train: Samples of that split.
        validation: Samples of that split.
        test: Samples of that split.
        backgrounds: Backgrounds of all splits together, in equal parts infected, healthy and mixed;
            by default one for 52 samples as in the source, which is 1500 for its 78,470.
        seed: Series.
        workers: Processes.
        leave_out: Classes to do without.

    Returns:
        The folder.

    Raises:
        CellsError: A class without samples, a sample that is larger than an image, or an output folder
            that holds another composition or other files.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    _check(sizes, seed, workers, leave_out, backgrounds)
    samples, output = read_library(library), Path(output_dir)
    shares = background_shares(sizes, backgrounds)
    used = [split for split in SPLITS if sizes[split]]
    check_samples(samples, used, leave_out)
    composition = {
        "version": VERSION,
        "library": samples.fingerprint,
        "seed": seed,
        "samples": sizes,
        "backgrounds": shares,
        "leave_out": sorted(leave_out),
        "image_size": [CROP, CROP],
        "background_size": [SIDE, SIDE],
        "red_cell_diameter": RED_CELL_DIAMETER,
        "classes": list(CLASS_NAMES),
    }
    claim(output, composition)
    make_folders(output, used)
    jobs = list(_jobs(output, sizes, shares, seed, leave_out))
    missing = sum(len(job.indices) for job in jobs)
    worker = (str(library), samples.fingerprint, str(output), seed, tuple(leave_out))
    for _ in track(_run(worker, samples, jobs, workers), "Composing", total=missing):
        pass
    if samples.simulated:
        rows = [(sample.sample_id, sample.class_name, sample.split) for sample in samples.samples]
        write_table(output / "simulated.csv", ("sample_id", "class", "split"), rows)
    counts = samples.counts()
    manifest = {
        **composition,
        # How many source samples stand behind the objects: with a handful a score tells little.
        "source_samples": {split: {name: counts[name][split] for name in counts} for split in used},
        "objects": count_objects(output, used),
    }
    write_json(output / "manifest.json", manifest)
    return output


def background_shares(sizes: Mapping[str, int], backgrounds: int | None) -> dict[str, int]:
    """Backgrounds of each split, in proportion to its samples: a multiple of three, and at least three."""
    total = sum(sizes.values())
    wanted = min(MOST_BACKGROUNDS, total / SAMPLES_PER_BACKGROUND) if backgrounds is None else backgrounds
    kinds = len(KINDS)
    return {
        split: kinds * max(1, round(wanted * size / total / kinds)) if size else 0
        for split, size in sizes.items()
    }


def check_samples(library: Library, splits: Sequence[str], leave_out: Sequence[str]) -> None:
    """Refuse a library that lacks a class in a split, or has a sample that does not fit into an image."""
    for split in splits:
        for class_name in CLASS_NAMES[1:]:
            if class_name not in leave_out:
                library.of(split, class_name)
    for sample in library.samples:
        if max(sample.height, sample.width) > CROP:
            raise CellsError(
                f"{library.path / sample.file}: is {sample.height}x{sample.width}, larger than the "
                f"{CROP}x{CROP} image; remove it from the source images and build the library again"
            )


def claim(output: Path, composition: dict[str, Any]) -> None:
    """Write `composition.json`, or see that the folder already holds this very composition."""
    record = output / "composition.json"
    if not record.exists():
        if output.is_file() or (output.is_dir() and any(output.iterdir())):
            raise CellsError(f"{output}: exists and holds other files; choose an empty or new folder")
        output.mkdir(parents=True, exist_ok=True)
        write_json(record, composition)
        return
    held = read_json(record)
    differing = [key for key in composition if held.get(key) != composition[key]]
    if differing:
        key = differing[0]
        raise CellsError(
            f"{output}: holds another composition ({key} {held.get(key)} there, {composition[key]} now); "
            "choose another folder, or give the same library and settings to continue it"
        )


def count_objects(output: Path, splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Cells of each class in each split, read from the labels."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in splits}
    for split in splits:
        for stem in sorted(finished(output / split)):
            label = read_json(output / split / "labels" / f"{stem}.json")
            counts[split].update(cell["class"] for cell in label["objects"])
    return {split: {name: counts[split][name] for name in CLASS_NAMES[1:]} for split in splits}


def _jobs(
    output: Path, sizes: Mapping[str, int], shares: Mapping[str, int], seed: int, leave_out: Sequence[str]
) -> Iterator[_Job]:
    """Samples that are not there yet, by background."""
    for split in (name for name in SPLITS if sizes[name]):
        cycle, done = make_cycle(seed, split, leave_out), finished(output / split)
        kinds: dict[str, list[int]] = defaultdict(list)
        for number in range(shares[split]):
            kinds[kind_of(number)].append(number)
        by_background: dict[int, list[int]] = defaultdict(list)
        for index in range(sizes[split]):
            if stem_of(index) not in done:
                plan = cycle[index % len(cycle)]
                by_background[background_number(seed, split, index, plan, kinds)].append(index)
        for number, indices in sorted(by_background.items()):
            yield _Job(split, number, tuple(indices))


class _Composer:
    """What a process keeps: the library, the cycles of plans, the sources of looks."""

    def __init__(self, library: Library, output: Path, seed: int, leave_out: Sequence[str]) -> None:
        self.library, self.output, self.seed, self.leave_out = library, output, seed, leave_out
        self._splits: dict[str, tuple[list[Plan], list[list[Sample]]]] = {}

    def run(self, job: _Job) -> Iterator[int]:
        """Compose and write the samples of a job one by one."""
        if job.split not in self._splits:
            cycle = make_cycle(self.seed, job.split, self.leave_out)
            self._splits[job.split] = cycle, look_sources(self.library, job.split)
        cycle, sources = self._splits[job.split]
        background = make_background(self.library, self.seed, job.split, job.background)
        write_background(self.output / "backgrounds", background)
        for index in job.indices:
            plan = cycle[index % len(cycle)]
            composite = compose(self.library, sources, background, self.seed, job.split, index, plan)
            write_composite(self.output / job.split, composite)
            yield index


_composer: _Composer | None = None


def _start(library: str, fingerprint: str, output: str, seed: int, leave_out: tuple[str, ...]) -> None:
    global _composer
    samples = read_library(library)
    if samples.fingerprint != fingerprint:
        raise CellsError(f"{library}: changed while composing; build it again and choose a new output folder")
    _composer = _Composer(samples, Path(output), seed, leave_out)


def _work(job: _Job) -> int:
    assert _composer is not None
    return sum(1 for _ in _composer.run(job))


def _run(worker: tuple[Any, ...], library: Library, jobs: Sequence[_Job], workers: int) -> Iterator[None]:
    """Yield once for every finished sample."""
    if workers == 1 or len(jobs) < 2:
        composer = _Composer(library, Path(worker[2]), worker[3], worker[4])
        for job in jobs:
            for _ in composer.run(job):
                yield
        return
    # Fresh processes: a fork would inherit the locks of whatever threads the caller runs.
    with ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_start, initargs=worker
    ) as pool:
        waiting: set[Future[int]] = {pool.submit(_work, job) for job in jobs}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    for _ in range(future.result()):
                        yield
        except BrokenProcessPool as error:
            raise CellsError(
                f"{worker[2]}: a worker died, perhaps for want of memory; run again with fewer --workers, "
                "finished samples are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _check(
    sizes: Mapping[str, int], seed: int, workers: int, leave_out: Sequence[str], backgrounds: int | None
) -> None:
    if min(sizes.values()) < 0 or not any(sizes.values()):
        raise CellsError(f"samples are {dict(sizes)}; ask for one at least and for none below 0")
    if seed < 0 or workers < 1 or (backgrounds is not None and backgrounds < 1):
        raise CellsError(
            f"seed {seed}, workers {workers}, backgrounds {backgrounds}: use 0 or more, 1 or more, 1 or more"
        )
    unknown = sorted(set(leave_out) - set(CLASS_NAMES[1:]))
    if unknown:
        raise CellsError(f"no class is called {unknown[0]!r}; the classes are {', '.join(CLASS_NAMES[1:])}")
    if {"infected_rbc", "healthy_rbc"} <= set(leave_out):
        raise CellsError(
            "leave_out names both kinds of red cells, and backgrounds are made of them; keep one"
        )

"""Classify files and folders: `evaluation.csv`, a contact sheet and a summary in one folder."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import track
from .contact_sheet import Tile, write_contact_sheet
from .outputs import (
    CONTACT_SHEET,
    FILE_ERRORS,
    OnError,
    Summary,
    check_on_error,
    open_csv,
    without_outputs,
)
from .paths import PathLike, iter_image_paths

__all__ = ["ClassificationSummary", "classify_files"]

_BATCH = 32
_SEPARATOR = "|"  # between the labels of an image that has several, as own tables of labels have it
_NO_LABEL = "no label"


@dataclass
class ClassificationSummary(Summary):
    """What `classify_files` did; `summary.json` holds the same.

    Attributes:
        counts: Images of each class; those of several labels count for each of them.
        without_label: Images in which a multi-label model found nothing.
        contact_sheet: File name of the picture, or None.
    """

    counts: dict[str, int] = field(default_factory=dict)
    without_label: int = 0
    contact_sheet: str | None = None

    def found(self) -> str:
        """Say in a few words what was found."""
        parts = [f"{name} {count}" for name, count in self.counts.items()]
        parts += [f"{_NO_LABEL} {self.without_label}"] if self.without_label else []
        return f"{self.images} images ({', '.join(parts)})"


def classify_files(
    pipe: Any,
    paths: PathLike | Iterable[PathLike],
    output_dir: PathLike,
    *,
    numeric: bool = False,
    contact_sheet: bool = True,
    progress: bool = True,
    on_error: OnError = "skip",
) -> ClassificationSummary:
    """Classify images in batches of 32; write `evaluation.csv`, `contact_sheet.png` and `summary.json`.

    `evaluation.csv` has the columns `name` (the file's, or its path from the common folder where two files have one
    name), `ground truth` (what the model decides with its decision thresholds: the class; several labels are joined
    by `|`, none is left empty) and, for each class, `probability_<class>`.

    Args:
        pipe: A `cell-classification` pipeline.
        paths: Files, folders, patterns, see `iter_image_paths`. What an earlier run wrote to `output_dir` is left
            out.
        output_dir: Made where missing; files of the same names are replaced, each of them atomically.
        numeric: Write the class's number (0, 1, …) in place of its name.
        contact_sheet: Draw up to 60 images by their predicted class, the least sure ones first.
        progress: Show a bar on a terminal.
        on_error: `skip` names a broken file in the summary and goes on, `raise` stops at the first.

    Raises:
        CellsError: When there is no image, the outputs cannot be written, or a file is broken and
            `on_error="raise"`.
    """
    check_on_error(on_error)
    output = Path(output_dir)
    images = without_outputs(iter_image_paths(paths), output)
    id2label = pipe.model.config.id2label
    names = [id2label[i] for i in range(len(id2label))]
    summary = ClassificationSummary(output_dir=str(output), counts=dict.fromkeys(names, 0))
    tiles: list[Tile] = []
    started = time.perf_counter()
    jobs: Iterable[Any] = zip(images, _file_names(images), _classified(pipe, images))
    columns = ["name", "ground truth", *(f"probability_{name}" for name in names)]
    with open_csv(output / "evaluation.csv", columns) as csv:
        for path, name, result in track(jobs, "classifying", total=len(images)) if progress else jobs:
            if isinstance(result, BaseException):
                summary.failed(path, result, on_error)
                continue
            score = {entry["label"]: entry["score"] for entry in result}
            chosen = {entry["label"] for entry in result if entry["predicted"]}
            decided = [label for label in names if label in chosen]
            written = [names.index(label) for label in decided] if numeric else decided
            probabilities = [f"{score[label]:.6g}" for label in names]
            csv.writerow([name, _SEPARATOR.join(map(str, written)), *probabilities])
            for label in decided:
                summary.counts[label] += 1
            summary.without_label += not decided
            summary.images += 1
            # As sure as of the least sure label; where there is none, that it is not the likeliest one.
            sure = min(score[label] for label in decided) if decided else 1 - max(score.values())
            tiles.append(Tile(path, _SEPARATOR.join(decided) or _NO_LABEL, sure, row=summary.images + 1))
    if contact_sheet and tiles:
        write_contact_sheet(tiles, output / CONTACT_SHEET, order=names)
        summary.contact_sheet = CONTACT_SHEET
    summary.seconds = round(time.perf_counter() - started, 3)
    summary.write()
    return summary


def _classified(pipe: Any, images: Sequence[Path]) -> Iterator[list[dict[str, Any]] | BaseException]:
    """Yield the pipeline's entries of every image, or why there are none."""
    for start in range(0, len(images), _BATCH):
        yield from _batch(pipe, images[start : start + _BATCH])


def _batch(pipe: Any, images: Sequence[Path]) -> list[Any]:
    """Classify images together; where that fails, by halves, which finds the broken ones and spares memory."""
    try:
        found = pipe([str(path) for path in images], batch_size=_BATCH, top_k=None)
    except FILE_ERRORS as error:
        if len(images) == 1:
            return [error]
        half = len(images) // 2
        return [*_batch(pipe, images[:half]), *_batch(pipe, images[half:])]
    return [_checked(entries) for entries in found]


def _checked(entries: list[dict[str, Any]]) -> Any:
    if np.isfinite([entry["score"] for entry in entries]).all():
        return entries
    return ValueError("the model gives it a probability that is no number; it has diverged, train it again")


def _file_names(images: Sequence[Path]) -> list[str]:
    """Name the rows: by the file's name, or by its path from the common folder where another file has that name."""
    count = Counter(path.name.casefold() for path in images)
    absolute = [Path(os.path.abspath(path)) for path in images]
    root = os.path.commonpath([path.parent for path in absolute])
    return [
        path.name if count[path.name.casefold()] == 1 else path.relative_to(root).as_posix()
        for path in absolute
    ]

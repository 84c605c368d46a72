"""Images that a simulator of this package drew: they stand under no terms of the data that they imitate."""

import os
import shutil
from pathlib import Path

import datasets

LICENSE = "cc0-1.0"
_TITLE = "simulated images in the layout of "


def is_simulated(place: str | os.PathLike[str] | None) -> bool:
    """Tell by the `simulated.csv` that lies beside simulated files, or beside the stage of them that was given."""
    return place is not None and _mark_of(Path(place)) is not None


def hand_on_mark(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Copy the `simulated.csv` of a folder, if it has one, into a folder of what was made from its images."""
    if (mark := _mark_of(Path(source))) is not None:
        shutil.copyfile(mark, Path(output) / mark.name)


def _mark_of(folder: Path) -> Path | None:
    marks = [place / "simulated.csv" for place in (folder, folder.parent)]
    return next((mark for mark in marks if folder.is_dir() and mark.exists()), None)


def mark_simulated(info: datasets.DatasetInfo, name: str) -> None:
    """Write into a dataset's own description that its images imitate those of another."""
    info.license, info.description = LICENSE, _TITLE + name


def simulated_title(info: datasets.DatasetInfo) -> str | None:
    """Return what `mark_simulated` wrote; None for other images."""
    return info.description if info.description.startswith(_TITLE) else None

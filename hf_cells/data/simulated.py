"""Images that a simulator of this package drew: they stand under no terms of the data that they imitate."""

import os
from pathlib import Path

import datasets

LICENSE = "cc0-1.0"
_TITLE = "simulated images in the layout of "


def is_simulated(place: str | os.PathLike[str] | None) -> bool:
    """Tell by the `simulated.csv` that lies beside simulated files, or beside the stage of them that was given."""
    if place is None:
        return False
    folder = Path(place)
    return folder.is_dir() and any((f / "simulated.csv").exists() for f in (folder, folder.parent))


def mark_simulated(info: datasets.DatasetInfo, name: str) -> None:
    """Write into a dataset's own description that its images imitate those of another."""
    info.license, info.description = LICENSE, _TITLE + name


def simulated_title(info: datasets.DatasetInfo) -> str | None:
    """Return what `mark_simulated` wrote; None for other images."""
    return info.description if info.description.startswith(_TITLE) else None

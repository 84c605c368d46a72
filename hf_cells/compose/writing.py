"""Files of a composition. A sample is there when its label is: that is written last, and atomically."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CellsError
from .backgrounds import Background
from .classes import CLASS_COLORS
from .png import encode_png
from .sample import Composite

FOLDERS = ("images", "segments", "instances", "labels")
_PALETTE = list(CLASS_COLORS.values())


def make_folders(output: Path, splits: list[str]) -> None:
    """Make `<split>/{images,segments,instances,labels}` and `backgrounds`; clear what a kill left half written."""
    for split in splits:
        for name in FOLDERS:
            (output / split / name).mkdir(parents=True, exist_ok=True)
    (output / "backgrounds").mkdir(parents=True, exist_ok=True)
    for folder in (output, output / "backgrounds", *(output / split / "labels" for split in splits)):
        for stray in folder.glob(".*.json.*"):
            stray.unlink(missing_ok=True)


def stem_of(index: int) -> str:
    """File name of a sample without its suffix."""
    return f"{index:06d}"


def finished(folder: Path) -> set[str]:
    """Stems of the samples of a split that are complete."""
    with os.scandir(folder / "labels") as entries:
        return {e.name.removesuffix(".json") for e in entries if e.name.endswith(".json")}


def write_composite(folder: Path, composite: Composite) -> None:
    """Write the four files of a sample into the folder of its split."""
    stem = stem_of(composite.label["index"])
    try:
        # A palette PNG shows the colours of the legend and holds the class ids.
        pictures = {
            "images": encode_png(np.asarray(composite.image)),
            "segments": encode_png(composite.classes, _PALETTE),
            "instances": encode_png(composite.instances),
        }
        for kind, data in pictures.items():
            (folder / kind / f"{stem}.png").write_bytes(data)
        write_json(folder / "labels" / f"{stem}.json", composite.label)
    except OSError as error:
        raise CellsError(
            f"cannot write {folder / 'images' / stem}: {error.strerror or error}; free space and run again, "
            "finished samples are kept"
        ) from error


def write_background(folder: Path, background: Background) -> None:
    """Write the picture and the positions of a background where they are not yet."""
    positions = folder / f"{background.name}.json"
    if positions.exists():
        return
    (folder / f"{background.name}.png").write_bytes(encode_png(background.light))
    write_json(positions, {"name": background.name, "kind": background.kind, "cells": background.cells})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON beside its place, then rename: half a file is never seen."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CellsError: It is broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise CellsError(f"{path}: is broken ({error}); remove the folder and compose it again") from error
    return content

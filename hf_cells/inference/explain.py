"""Show where a classifier looks: pictures, a table, an animation and a summary in one folder."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import CellsError
from ..files import atomic_write
from ..models.class_activation import activation_method, box_of, maps_over_image, peak_of
from ..models.image_reading import read_image
from ..progress import track
from .explain_animation import FRAMES, make_frame, write_animation
from .explain_pictures import Found, draw_labels, pictures_of, row_picture, shown
from .outputs import (
    ANIMATION,
    EXPLANATIONS,
    FILE_ERRORS,
    OnError,
    Summary,
    check_on_error,
    open_csv,
    pixel_limit,
    without_outputs,
)
from .paths import PathLike, iter_image_paths, output_names

__all__ = ["COLUMNS", "ExplanationSummary", "explain_files"]

COLUMNS = (
    *("image", "class", "predicted", "probability"),
    *("left", "top", "right", "bottom", "peak_x", "peak_y", "method"),
)


@dataclass
class ExplanationSummary(Summary):
    """What `explain_files` did; `summary.json` holds the same.

    Attributes:
        method: "CAM" or "Grad-CAM".
        maps: Maps that were drawn, of all images.
        empty: Maps in which nothing speaks for the class.
        animation: File name of the GIF, or None.
        frames: How many it has.
    """

    method: str = ""
    maps: int = 0
    empty: int = 0
    animation: str | None = None
    frames: int = 0

    def found(self) -> str:
        """Say in a few words what was drawn."""
        empty = f", {self.empty} of them empty" if self.empty else ""
        return f"{self.images} images, {self.maps} maps by {self.method}{empty}"


@dataclass
class _Animation:
    """Frames of images spread evenly over the folder, so that a large one gives a small file."""

    images: int
    wanted: int
    frames: list[Image.Image] = field(default_factory=list)

    def add(self, place: int, picture: Image.Image, found: list[Found], size: tuple[int, int]) -> None:
        """Draw the image at `place`, a frame for each class, where its turn has come."""
        step = max(1.0, self.images / self.wanted)
        if len(self.frames) < FRAMES and int(place / step) != int((place - 1) / step if place else -1):
            self.frames += [make_frame(picture, found, one, size) for one in found]


def explain_files(
    pipe: Any,
    paths: PathLike | Iterable[PathLike],
    output_dir: PathLike,
    *,
    class_name: str | None = None,
    gif: bool = True,
    progress: bool = True,
    on_error: OnError = "skip",
) -> ExplanationSummary:
    """Draw what speaks for the predicted classes of every image.

    In `explanations/`: `labelled/` (the predicted labels on the image), `heat_maps/` and `superposed/` (a folder for
    each class) and `rows/` (all of it in one picture, with a box by Otsu's threshold on the map). Beside it
    `explain.csv`, `explain.gif` (at most 120 frames of 480 pixels) and `summary.json`. The maps are those of
    `class_activation_map`; boxes (right and bottom exclusive) and peaks are in pixels of the image.

    Args:
        pipe: A `cell-classification` pipeline.
        paths: Files, folders, patterns, see `iter_image_paths`. What an earlier run wrote to `output_dir` is left
            out.
        output_dir: Made where missing; files of the same names are replaced, each of them atomically.
        class_name: Explain this class in every image, whatever is predicted. By default all that are predicted, and
            the likeliest one where a multi-label model finds nothing.
        gif: Write the animation.
        progress: Show a bar on a terminal.
        on_error: `skip` names a broken file in the summary and goes on, `raise` stops at the first.

    Raises:
        CellsError: No image, no such class, a model without maps, outputs that cannot be written, or a file that is
            broken and `on_error="raise"`.
    """
    check_on_error(on_error)
    output = Path(output_dir)
    images = without_outputs(iter_image_paths(paths), output)
    config = pipe.model.config
    names = {int(key): name for key, name in config.id2label.items()}
    if class_name is not None and class_name not in names.values():
        known = ", ".join(names[key] for key in sorted(names))
        raise CellsError(f"the model has no class {class_name!r}; choose from: {known}")
    try:
        summary = ExplanationSummary(output_dir=str(output), method=activation_method(pipe.model))
    except ValueError as error:
        raise CellsError(f"this model cannot be explained: {error}") from error
    several = config.multi_label and class_name is None
    animation = _Animation(len(images), FRAMES // 3 if several else FRAMES)
    started = time.perf_counter()
    jobs: Iterable[Any] = enumerate(zip(images, output_names(images)))
    with open_csv(output / "explain.csv", COLUMNS) as csv:
        for place, (path, name) in track(jobs, "explaining", total=len(images)) if progress else jobs:
            try:
                image = read_image(path, pixel_limit(pipe))
                found = explain_image(pipe, image, names, class_name)
                picture = shown(image)
            except FILE_ERRORS as error:
                summary.failed(path, error, on_error)
                continue
            _write_pictures(output / EXPLANATIONS, name, picture, found, image.shape[:2], summary.method)
            csv.writerows(_row(name, one, summary.method) for one in found)
            summary.images += 1
            summary.maps += len(found)
            summary.empty += sum(one.peak is None for one in found)
            if gif:
                animation.add(place, picture, found, image.shape[:2])
    if animation.frames:
        write_animation(animation.frames, output / ANIMATION)
        summary.animation, summary.frames = ANIMATION, len(animation.frames)
    else:  # of an earlier run; it would not show these images
        (output / ANIMATION).unlink(missing_ok=True)
    summary.seconds = round(time.perf_counter() - started, 3)
    summary.write()
    return summary


def explain_image(
    pipe: Any, image: np.ndarray, names: dict[int, str], class_name: str | None = None
) -> list[Found]:
    """Map, box and peak of the classes to explain, the likeliest first.

    Raises:
        ValueError: The image does not suit the model, or a probability is no number.
    """
    entries = pipe(image, top_k=None)
    if not np.isfinite([entry["score"] for entry in entries]).all():
        raise ValueError(
            "the model gives it a probability that is no number; it has diverged, train it again"
        )
    ids = {name: key for key, name in names.items()}
    chosen = [entry for entry in entries if entry["predicted"]] or entries[:1]
    if class_name is not None:
        chosen = [entry for entry in entries if entry["label"] == class_name]
    maps = maps_over_image(pipe, image, [ids[entry["label"]] for entry in chosen])
    return [
        Found(
            class_id=ids[entry["label"]],
            name=entry["label"],
            probability=entry["score"],
            predicted=entry["predicted"],
            activation=activation,
            box=box_of(activation),
            peak=peak_of(activation),
        )
        for entry, activation in zip(chosen, maps, strict=True)
    ]


def _write_pictures(
    folder: Path, name: str, picture: Image.Image, found: list[Found], size: tuple[int, int], method: str
) -> None:
    _save(draw_labels(picture, found), folder / "labelled" / f"{name}.png")
    for one in found:
        heat, over = pictures_of(picture, one)
        kind = _folder_name(one)
        _save(heat, folder / "heat_maps" / kind / f"{name}.png")
        _save(over, folder / "superposed" / kind / f"{name}.png")
    _save(row_picture(picture, found, size, method), folder / "rows" / f"{name}.png")


def _folder_name(found: Found) -> str:
    """A class as the name of a folder; the number keeps apart what differs in other characters alone."""
    plain = re.sub(r"[^\w.-]+", "_", found.name)
    return f"{found.class_id}_{plain}"


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


def _row(name: str, found: Found, method: str) -> list[Any]:
    top, left, bottom, right = found.box or ("", "", "", "")
    y, x = found.peak or ("", "")
    said = [name, found.name, int(found.predicted), f"{found.probability:.6g}"]
    return [*said, left, top, right, bottom, x, y, method]

"""Predict files and folders: label images, overlays, the table of objects and a summary in one folder."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import label as connected_regions

from ..metrics import class_regions
from ..models.image_reading import read_image
from ..progress import track
from .class_maps import class_palette, draw_annotated, write_colour_map
from .objects import class_of_objects
from .outputs import (
    FILE_ERRORS,
    OnError,
    PredictionFailure,
    Summary,
    check_on_error,
    open_csv,
    pixel_limit,
    without_outputs,
)
from .overlay import draw_classes, draw_instances
from .paths import PathLike, iter_image_paths, output_names
from .rle import COLUMNS as RLE_COLUMNS
from .rle import rle_rows
from .writers import OBJECT_COLUMNS, object_rows, write_label_image, write_overlay, write_semantic_mask

__all__ = ["PredictionFailure", "PredictionSummary", "iter_image_paths", "predict_files"]


@dataclass
class PredictionSummary(Summary):
    """What `predict_files` did; `summary.json` holds the same.

    `predictions` has one entry per image: `image` (its name in all outputs), `source`, `height`, `width`,
    `objects`, `labels` and `overlay` (paths from `output_dir`), of a semantic model `class_fractions`, and of one
    with several classes `colour_map` and `counts`.
    """

    objects: int = 0
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def found(self) -> str:
        """Say in a few words what was found."""
        return f"{self.images} images, {self.objects} objects"


@dataclass(frozen=True)
class _Objects:
    """The objects of one image, whatever the model: ids 1..n in `labels`, score and class of each."""

    labels: np.ndarray
    scores: np.ndarray
    label_ids: np.ndarray


def predict_files(
    pipe: Any,
    paths: PathLike | Iterable[PathLike],
    output_dir: PathLike,
    *,
    overlays: bool = True,
    table: bool = True,
    rle: bool = False,
    progress: bool = True,
    on_error: OnError = "skip",
    split_touching: bool = True,
) -> PredictionSummary:
    """Predict images one by one; write `labels/`, `overlays/`, `objects.csv`, `rle.csv` and `summary.json`.

    Of a semantic model, the objects are the connected regions (4-neighbourhood) of each class but 0, their
    score is the mean probability of their class, and `labels/` holds 8-bit masks of classes. Of a model of several
    classes, regions under 20 pixels are specks and no objects, and touching cells of a class are parted; it also
    gives `counts.csv`, the objects of each class in each image, and `colour_maps/`, the masks in the colours of the
    classes; `overlays/` has counts and a legend.

    Args:
        pipe: A `cell-segmentation` pipeline.
        paths: Files, folders, patterns, see `iter_image_paths`. What an earlier run wrote to `output_dir` is
            left out.
        output_dir: Made where missing; files of the same names are replaced, each of them atomically.
        overlays: Write a picture of what was found for every image.
        table: Write `objects.csv`.
        rle: Write `rle.csv`, the contest form.
        progress: Show a bar on a terminal.
        on_error: `skip` names a broken file in the summary and goes on, `raise` stops at the first.
        split_touching: Of a semantic model of several classes, part the cells of a class that touch, see
            `hf_cells.metrics.touching.split_touching`.

    Raises:
        CellsError: When there is no image, the outputs cannot be written, or a file is broken and
            `on_error="raise"`.
    """
    check_on_error(on_error)
    output = Path(output_dir)
    images = without_outputs(iter_image_paths(paths), output)
    summary = PredictionSummary(output_dir=str(output))
    id2label = {
        int(key): name for key, name in sorted(pipe.model.config.id2label.items(), key=lambda i: int(i[0]))
    }
    palette = class_palette(pipe.model.config) if _of_several_classes(pipe.model.config) else None
    cell_names = list(id2label.values())[1:]
    started = time.perf_counter()
    jobs: Iterable[tuple[Path, str]] = list(zip(images, output_names(images)))
    with ExitStack() as files:
        objects_csv = files.enter_context(open_csv(output / "objects.csv", OBJECT_COLUMNS)) if table else None
        counts_csv = None
        if palette is not None:
            counts_csv = files.enter_context(open_csv(output / "counts.csv", ["image", *cell_names]))
        rle_csv = files.enter_context(open_csv(output / "rle.csv", RLE_COLUMNS)) if rle else None
        for path, name in track(jobs, "predicting", total=len(images)) if progress else jobs:
            try:
                image = read_image(path, pixel_limit(pipe))
                prediction = pipe(image)
            except FILE_ERRORS as error:
                summary.failed(path, error, on_error)
                continue
            found = _objects_of(prediction, palette is not None, split_touching)
            entry: dict[str, Any] = {
                "image": name,
                "source": str(path),
                "height": image.shape[0],
                "width": image.shape[1],
                "objects": int(np.unique(found.labels[found.labels > 0]).size),
                **_write_images(output, name, image, prediction, id2label, overlays and palette is None),
            }
            if palette is not None:
                entry |= _write_classes(output, name, image, prediction, found, palette, id2label, overlays)
            if counts_csv:
                counts_csv.writerow([name, *entry["counts"].values()])
            if objects_csv:
                rows = object_rows(name, found.labels, image, found.scores, found.label_ids, id2label)
                objects_csv.writerows([row[column] for column in OBJECT_COLUMNS] for row in rows)
            if rle_csv:
                rle_csv.writerows(rle_rows(name, found.labels))
            summary.predictions.append(entry)
            summary.images += 1
            summary.objects += entry["objects"]
    summary.seconds = round(time.perf_counter() - started, 3)
    summary.write()
    return summary


def _of_several_classes(config: Any) -> bool:
    return not config.model_type.endswith("instance") and len(config.id2label) > 2


def _objects_of(prediction: dict[str, np.ndarray], several: bool, split: bool) -> _Objects:
    if "instance_labels" in prediction:
        return _Objects(prediction["instance_labels"], prediction["scores"], prediction["label_ids"])
    mask, probabilities = prediction["semantic_mask"], prediction["probabilities"]
    if several:
        regions, label_ids = class_regions(mask, split=split)
    else:
        regions = connected_regions(mask, background=0, connectivity=1)
        label_ids = class_of_objects(regions, mask)
    of_own_class = np.take_along_axis(probabilities, mask[None].astype(np.intp), axis=0)[0]
    count = len(label_ids) + 1
    area = np.bincount(regions.ravel(), minlength=count)[1:]
    scores = np.bincount(regions.ravel(), of_own_class.ravel(), count)[1:] / np.maximum(area, 1)
    return _Objects(regions, scores, label_ids)


def _write_images(
    output: Path,
    name: str,
    image: np.ndarray,
    prediction: dict[str, np.ndarray],
    id2label: dict[int, str],
    overlays: bool,
) -> dict[str, Any]:
    """Write the label image and the overlay of one image; return what the summary says of them."""
    target = output / "labels" / f"{name}.png"
    entry: dict[str, Any] = {}
    if "instance_labels" in prediction:
        labels = prediction["instance_labels"]
        written = write_label_image(target, labels)
        overlay = draw_instances(image, labels) if overlays else None
    else:
        labels = prediction["semantic_mask"]
        written = write_semantic_mask(target, labels)
        overlay = draw_classes(image, labels) if overlays else None
        counts = np.bincount(labels.ravel(), minlength=len(id2label)) / labels.size
        entry["class_fractions"] = {id2label.get(k, str(k)): float(f"{v:.6g}") for k, v in enumerate(counts)}
    entry["labels"] = written.relative_to(output).as_posix()
    if overlay is not None:
        picture = write_overlay(output / "overlays" / f"{name}.png", overlay)
        entry["overlay"] = picture.relative_to(output).as_posix()
    return entry


def _write_classes(
    output: Path,
    name: str,
    image: np.ndarray,
    prediction: dict[str, np.ndarray],
    found: _Objects,
    palette: np.ndarray,
    id2label: dict[int, str],
    overlays: bool,
) -> dict[str, Any]:
    """Write colour map and annotated picture of one image; return what the summary says of them."""
    written = write_colour_map(output / "colour_maps" / f"{name}.png", prediction["semantic_mask"], palette)
    counts = np.bincount(found.label_ids, minlength=len(id2label)).tolist()
    entry: dict[str, Any] = {
        "colour_map": written.relative_to(output).as_posix(),
        "counts": {id2label[k]: counts[k] for k in range(1, len(id2label))},
    }
    if overlays:
        picture = draw_annotated(image, found.labels, found.label_ids, palette, id2label)
        written = write_overlay(output / "overlays" / f"{name}.png", picture)
        entry["overlay"] = written.relative_to(output).as_posix()
    return entry

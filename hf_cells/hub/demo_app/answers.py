"""What the page shows of one image, without a word of the page itself."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ...inference.class_maps import class_palette, draw_annotated, write_colour_map
from ...inference.explain_pictures import Found, pictures_of, shown
from ...inference.objects import object_table
from ...inference.overlay import draw_instances
from ...metrics.semantic_objects import class_regions
from ...models.class_activation import activation_method, box_of, maps_over_image, peak_of
from ...models.image_reading import read_image

COLUMNS = ("object", "class", "score", "area", "diameter", "centroid_x", "centroid_y", "mean_intensity")
_MOST_OBJECTS = np.iinfo(np.uint16).max


def read_upload(files: str | Sequence[str], max_pixels: int, channels: Sequence[str] | None) -> np.ndarray:
    """Read an image with all its bits: one file, or a file of each channel, named `…_<channel>.png`.

    Raises:
        ValueError: It is no image, too large, or a channel is missing; one line.
    """
    paths = [files] if isinstance(files, str) else list(files)
    if len(paths) == 1:
        return read_image(paths[0], max_pixels)
    if channels is None:
        raise ValueError(f"{len(paths)} files: give one image")
    stems = {Path(path).stem.lower(): path for path in paths}
    of = {
        name: next((p for stem, p in stems.items() if stem.endswith(name.lower())), None) for name in channels
    }
    return read_image(of, max_pixels, channels)


def describe_image(image: np.ndarray) -> str:
    """Size, channels and depth in a few words."""
    channels = image.shape[2] if image.ndim == 3 else 1
    depth = {"uint8": "8 bit", "uint16": "16 bit"}.get(str(image.dtype), str(image.dtype))
    return f"{image.shape[1]} x {image.shape[0]} pixels, {channels} channel{'s' * (channels > 1)}, {depth}"


@dataclass(frozen=True)
class Classified:
    """An image with its classes.

    Attributes:
        scores: Calibrated probability of each class.
        decision: What the model decides, with its thresholds; Markdown.
        picture: The image, its contrast stretched.
        heat: The same under the heat map of a class; without a map when the network has none.
        caption: What `heat` shows.
    """

    scores: dict[str, float]
    decision: str
    picture: Image.Image
    heat: Image.Image
    caption: str


def classify(pipe: Any, image: np.ndarray, class_name: str | None = None) -> Classified:
    """Classify an image and draw what speaks for a class: by default the best of those decided for.

    Raises:
        ValueError: The image does not suit the model.
    """
    entries, config, picture = pipe(image), pipe.model.config, shown(image)
    chosen = sorted(entries, key=lambda entry: (entry["label"] != class_name, not entry["predicted"]))[0]
    found, caption = _speaks_for(pipe, image, chosen)
    return Classified(
        scores={entry["label"]: entry["score"] for entry in entries},
        decision=_decision(entries, config) + f"\n\n{describe_image(image)}",
        picture=picture,
        heat=pictures_of(picture, found)[1] if found else picture,
        caption=caption,
    )


def _decision(entries: list[dict[str, Any]], config: Any) -> str:
    chosen = [f"**{entry['label']}** ({entry['score']:.1%})" for entry in entries if entry["predicted"]]
    thresholds = config.decision_thresholds or {}
    if thresholds:
        listed = ", ".join(f"{name} {value:.3g}" for name, value in thresholds.items())
        rule = f"Thresholds (chosen on: {config.thresholds_chosen_on}): {listed}."
    else:
        rule = "Every class from 0.5 on." if config.multi_label else "The class with the largest probability."
    return f"Decision: {', '.join(chosen) or 'none of the classes'}\n\n{rule}"


def _speaks_for(pipe: Any, image: np.ndarray, entry: dict[str, Any]) -> tuple[Found | None, str]:
    name, config = entry["label"], pipe.model.config
    class_id = next(int(key) for key, label in config.id2label.items() if label == name)
    try:
        method = activation_method(pipe.model)
        (activation,) = maps_over_image(pipe, image, [class_id])
    except ValueError as error:
        return None, f"no heat map: {error}"
    box, peak = box_of(activation), peak_of(activation)
    caption = f"what speaks for {name} ({method})" if peak else f"nothing speaks for {name} ({method})"
    return Found(class_id, name, entry["score"], entry["predicted"], activation, box, peak), caption


@dataclass(frozen=True)
class Segmented:
    """An image with its objects.

    Attributes:
        summary: Counts and sizes; Markdown.
        overlay: The image with the outline of every object.
        classes: Map of the classes in their colours; None of an instance model.
        sizes: Histogram of the areas.
        rows: A row of `COLUMNS` for each object.
        files: Label image (16-bit PNG), table (CSV), and the colour map of a semantic model.
    """

    summary: str
    overlay: Image.Image
    classes: Image.Image | None
    sizes: Figure
    rows: list[list[Any]]
    files: list[Path]


def segment(pipe: Any, image: np.ndarray, threshold: float, folder: Path) -> Segmented:
    """Find, count and measure the objects of an image; write the files to download into `folder`.

    Objects of a semantic model are connected regions of a class, see `class_regions`.

    Raises:
        ValueError: The image does not suit the model, or has more objects than 16 bits can number.
    """
    config = pipe.model.config
    names = {int(key): name for key, name in config.id2label.items()}
    found, picture = pipe(image, threshold=threshold), None
    files = [folder / "labels.png", folder / "objects.csv"]
    if "instance_labels" in found:
        labels, classes, scores = found["instance_labels"], found["label_ids"], found["scores"]
        overlay = draw_instances(image, labels)
    else:
        labels, classes = class_regions(found["semantic_mask"])
        scores, palette = np.full(len(classes), np.nan), class_palette(config)
        overlay = draw_annotated(image, labels, classes, palette, names)
        files.append(write_colour_map(folder / "classes.png", found["semantic_mask"], palette))
        picture = Image.fromarray(palette[found["semantic_mask"]])
    if len(classes) > _MOST_OBJECTS:
        raise ValueError(f"{len(classes):,} objects are more than a 16-bit label image holds; cut the image")
    rows = _rows(labels, image, [names[int(one)] for one in classes], scores)
    Image.fromarray(labels.astype(np.uint16)).save(files[0])
    with files[1].open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    kinds = [name for key, name in sorted(names.items()) if key or "instance_labels" in found]
    return Segmented(
        summary=f"{_counts(rows, kinds)}\n\n{describe_image(image)}",
        overlay=Image.fromarray(overlay),
        classes=picture,
        sizes=_histogram(rows, kinds),
        rows=rows,
        files=files,
    )


def _rows(labels: np.ndarray, image: np.ndarray, classes: list[str], scores: np.ndarray) -> list[list[Any]]:
    table = object_table(labels, image)
    diameter = np.sqrt(4 * table["area"] / np.pi)
    measures = (diameter, table["centroid_x"], table["centroid_y"], table["mean_intensity"])
    return [
        [int(number), name, None if np.isnan(score) else round(float(score), 4), int(area)]
        + [round(float(value), 2) for value in values]
        for number, name, score, area, *values in zip(
            table["object_id"], classes, scores, table["area"], *measures, strict=True
        )
    ]


def _counts(rows: list[list[Any]], kinds: list[str]) -> str:
    areas = np.array([row[3] for row in rows], float)
    total = f"**{len(rows):,} object{'s' * (len(rows) != 1)}**"
    if len(rows):
        total += f", median area {np.median(areas):,.0f} pixels ({areas.min():,.0f} to {areas.max():,.0f})"
    if len(kinds) < 2:
        return total
    counted = [f"| {kind} | {sum(row[1] == kind for row in rows):,} |" for kind in kinds]
    return "\n".join([total, "", "| class | objects |", "|---|---:|", *counted])


def _histogram(rows: list[list[Any]], kinds: list[str]) -> Figure:
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axis = figure.subplots()
    areas = {kind: [row[3] for row in rows if row[1] == kind] for kind in kinds}
    areas = {kind: values for kind, values in areas.items() if values}
    if areas:
        axis.hist(list(areas.values()), bins=24, stacked=True, label=list(areas))
    if len(areas) > 1:
        axis.legend(fontsize=8)
    axis.set(xlabel="area (pixels)", ylabel="objects")
    axis.spines[["top", "right"]].set_visible(False)
    return figure

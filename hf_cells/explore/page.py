"""One self-contained page: figures as data URIs, no script, nothing from a network."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from ..files import atomic_write

# Title, and what to look for.
TEXTS = {
    "labels": (
        "Labels",
        "A class with a few dozen images cannot be measured to better than ten points, whatever the model. Bars of "
        "one class should have about the same share in every split; where they do not, a score on that split is of "
        "another mixture of classes.",
    ),
    "co_occurrence": (
        "Labels together",
        "Labels that nearly always come together can be told from one another by few images only; labels that never "
        "do may exclude each other, which a model with one sigmoid for each does not know. The number behind a name "
        "is its images: a share of a handful means little.",
    ),
    "image_sizes": (
        "Image sizes",
        "The area of a dot is its number of images. Several clusters are often several microscopes or magnifications; "
        "a class or split that has a size of its own can be recognised by it. Choose crop and padding to suit.",
    ),
    "intensities": (
        "Intensities by split",
        "The lines of the splits should lie upon one another; a shifted one is another exposure, stain or scanner. A "
        "peak at the right end is saturation, gaps between values are 8 bits stored as more. Every image counts alike.",
    ),
    "intensities_by_class": (
        "Intensities by class",
        "Dot: median of the pixels, thick: middle half, thin: 5 to 95 per cent. A class that brightness alone tells "
        "apart may be one that was exposed otherwise: look whether that is biology or the camera.",
    ),
    "intensities_in_masks": (
        "Intensities inside the masks",
        "Of the pixels of each class. Where objects and background hardly overlap, a threshold is a strong baseline; "
        "a thin line across the whole range is several kinds of image, such as dark and bright field.",
    ),
    "objects": (
        "Objects",
        "Left, how crowded images are; right, how large objects are (thick: middle half, thin: 5 to 95 per cent). A "
        "tail of tiny objects is often specks of annotation, one of huge ones merged cells. Objects should be 10 to "
        "100 pixels across for most networks, and cover less than half of a tile.",
    ),
    "overlays": (
        "Masks over images",
        "Outlines must follow what you see: look for missing objects, neighbours in one outline, and masks that are "
        "shifted or mirrored. Classes are tinted in their colours.",
    ),
    "channels": (
        "Channels",
        "Each by itself. Look for an empty channel, two that are the same, and light of one that bleeds into another.",
    ),
    "gallery": (
        "Classes, rare ones first",
        "Could you tell the classes apart? What differs within a row and what differs between rows is what a model "
        "has to learn; borders, text or colours that only one class has are what it learns instead.",
    ),
    "gallery_of_objects": (
        "Objects by class, rare ones first",
        "One object of an image each, with its surroundings. Look for objects of the wrong class, and for traces of "
        "how the image was made that only one class has.",
    ),
    "gallery_of_images": (
        "Kinds of image",
        "By modality, or by split where there is no modality, rare ones first. A kind with few images deserves a row "
        "of its own in every table of results.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A figure of the page."""

    name: str
    path: Path | None = None

    def at(self, path: Path) -> "Figure":
        """Return the figure with the place where it was drawn."""
        return replace(self, path=path)


def write_page(report: Mapping[str, Any], figures: Sequence[Figure], path: str | os.PathLike[str]) -> None:
    """Write the page.

    Args:
        report: The contents of `explore.json`.
        figures: With their places.
        path: HTML to write.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    shown = [
        {"title": TEXTS[figure.name][0], "text": TEXTS[figure.name][1], "source": _data_uri(figure.path)}
        for figure in figures
        if figure.path
    ]
    text = environment.get_template("page.html.jinja").render(report=report, figures=shown)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _number(value: Any) -> str:
    """Numbers as people read them: 12,345 and 0.0123; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"

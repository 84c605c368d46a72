"""From loaded splits to `explore.json`, figures and the page."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..errors import CellsError
from ..files import atomic_write
from ..progress import track
from . import charts, summary
from .content import Content, Labels, read_labels
from .page import Figure, write_page
from .pictures import Pictures, plot_rows
from .scan import Place, Scan, scan_splits

_OVERLAYS = 8
_CANDIDATES = 24  # of a gallery: some may be unreadable

Draw = Callable[[Path], None]


def explore_dataset(
    splits: Mapping[str, datasets.Dataset],
    content: Content,
    output_dir: str | os.PathLike[str],
    *,
    title: str,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a dataset and draw it: `explore.json`, `figures/*.png` and the one page `explore.html`.

    Labels and groups are counted over all images. Sizes, intensities, objects and pictures come from those that
    are decoded, one at a time; with a `limit` these are a random sample of each split.

    Args:
        splits: By split name, with `image_id`, `image` (or a column for each channel), and perhaps `group`, `label`
            or `labels`, `instance_labels` or `semantic_mask`.
        content: As of `read_content`.
        output_dir: Folder to write; the figures of an earlier run there are replaced.
        title: What the page calls the dataset.
        limit: Images of each split to decode; all when None.
        seed: Of the sample and of the examples.

    Returns:
        The contents of `explore.json`.

    Raises:
        CellsError: There is no image, none can be read, or the outputs cannot be written.
    """
    if not any(map(len, splits.values())):
        raise CellsError(f"{title}: has no images; check data_dir")
    output = Path(output_dir)
    labels = {split: read_labels(dataset, content) for split, dataset in splits.items()}
    chosen = {split: _sample(len(dataset), limit, seed) for split, dataset in splits.items()}
    scan = scan_splits(splits, chosen, labels, content, seed)
    if not scan.sizes:
        raise CellsError(f"{title}: no image can be read; the first is {scan.unreadable[0][1]}: "
                         f"{scan.unreadable[0][2]}")  # fmt: skip
    report = _report(splits, chosen, labels, scan, content)
    report = {"dataset": title, "seed": seed, "limit": limit, **content.terms, **report}

    figures = []
    folder = output / "figures"
    for stale in folder.glob("[0-9][0-9]_*.png"):
        stale.unlink()
    wanted = _figures(splits, labels, scan, content, report)
    for number, (figure, draw) in enumerate(track(wanted, "Drawing", total=len(wanted)), 1):
        path = folder / f"{number:02d}_{figure.name}.png"
        draw(path)
        figures.append(figure.at(path))
    report["figures"] = [figure.path.relative_to(output).as_posix() for figure in figures if figure.path]
    with atomic_write(output / "explore.json") as path:
        path.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    write_page(report, figures, output / "explore.html")
    return report


def _sample(count: int, limit: int | None, seed: int) -> np.ndarray:
    """Rows of a split, a seeded sample of them in their order where there is a limit."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _report(
    splits: Mapping[str, datasets.Dataset],
    chosen: Mapping[str, np.ndarray],
    labels: Mapping[str, list[Labels]],
    scan: Scan,
    content: Content,
) -> dict[str, Any]:
    bad = [split for split, _, _ in scan.unreadable]
    report: dict[str, Any] = {
        "splits": {
            split: summary.split_numbers(dataset, len(chosen[split]), bad.count(split))
            for split, dataset in splits.items()
        },
        "labels": None,
        "sizes": summary.size_numbers(scan),
        "channels": summary.channel_numbers(scan),
        "objects": summary.object_numbers(scan) if scan.objects_per_image else None,
        "unreadable": [
            {"split": split, "image_id": image_id, "reason": reason}
            for split, image_id, reason in scan.unreadable
        ],
    }
    if content.label_column:
        told = summary.label_numbers(labels, content.label_names)
        report["labels"] = {"source": content.label_column, "several": content.several_labels, **told}
    elif scan.objects_per_image and (found := summary.labels_in_masks(scan, content)):
        told = summary.label_numbers(*found)
        report["labels"] = {"source": f"classes in {content.mask_column}", "several": True, **told}
    return report


def _figures(
    splits: Mapping[str, datasets.Dataset],
    labels: Mapping[str, list[Labels]],
    scan: Scan,
    content: Content,
    report: Mapping[str, Any],
) -> list[tuple[Figure, Draw]]:
    """The figures that this dataset has, with what draws each."""
    pictures = Pictures(splits, content)
    found: list[tuple[Figure, Draw]] = []
    told = report["labels"]
    if told:
        found.append((Figure("labels"), lambda path: charts.plot_labels(told, path)))
        if told["several"] and sum(any(of.values()) for of in told["counts"].values()) > 1:
            found.append((Figure("co_occurrence"), lambda path: charts.plot_co_occurrence(told, path)))
    if len(scan.sizes) > 1:
        found.append((Figure("image_sizes"), lambda path: charts.plot_sizes(scan.sizes, path)))
    found.append(
        (Figure("intensities"), lambda path: charts.plot_intensities(scan.intensities, list(splits), path))
    )
    of_masks = bool(scan.objects_per_image)
    names = content.label_names if not of_masks else ["background", *report["objects"]["by_class"]]
    classes = {name for groups in scan.intensities.sums.values() for kind, name in groups if kind == "class"}
    if classes & set(names):  # a small sample may have no labelled image
        name = "intensities_in_masks" if of_masks else "intensities_by_class"
        found.append(
            (Figure(name), lambda path: charts.plot_intensities_by_class(scan.intensities, names, path))
        )
    if of_masks:
        found.append(
            (Figure("objects"), lambda path: charts.plot_objects(scan.objects_per_image, scan.areas, path))
        )
        places = _in_turn(scan.places, _OVERLAYS)
        found.append(
            (Figure("overlays"), lambda path: plot_rows(
                [("", [view for place in places for view in pictures.overlay(place)])], path, per_row=4))
        )  # fmt: skip
    if len(pictures.channels) > 1:
        place = _in_turn(scan.places, 1)[0]
        found.append(
            (Figure("channels"), lambda path: plot_rows(
                [pictures.channel_views(place)], path, per_row=len(pictures.channels)))
        )  # fmt: skip
    galleries = _galleries(labels, scan, content)
    if galleries:

        def draw(path: Path) -> None:
            rows = [(heading, pictures.thumbnails(places)) for heading, places in galleries]
            plot_rows([row for row in rows if row[1]], path)

        name = "gallery_of_objects" if scan.class_places and not content.label_column else "gallery"
        found.append((Figure(name), draw))
    if len(scan.places) > 1 and not content.label_column:

        def draw_strata(path: Path) -> None:
            strata = sorted(scan.places.items(), key=lambda item: len(item[1]))
            plot_rows([(stratum, pictures.thumbnails(places)) for stratum, places in strata], path)

        found.append((Figure("gallery_of_images"), draw_strata))
    return found


def _galleries(
    labels: Mapping[str, list[Labels]], scan: Scan, content: Content
) -> list[tuple[str, list[Place]]]:
    """Heading and places of each class, rare ones first."""
    if not content.label_column:
        counts = {name: sum(map(len, scan.areas[name].values())) for name in scan.class_places}
        rare = sorted(counts, key=lambda name: counts[name])
        return [(f"{name} ({counts[name]:,} objects)", scan.class_places[name]) for name in rare]
    members: dict[int, list[Place]] = {number: [] for number in range(len(content.label_names))}
    for split, rows in labels.items():
        for row, numbers in enumerate(rows):
            for number in numbers or ():
                members[number].append(Place(split, row))
    galleries = []
    for number in sorted(members, key=lambda number: len(members[number])):
        order = np.random.default_rng(number).permutation(len(members[number]))[:_CANDIDATES]
        heading = f"{content.label_names[number]} ({len(members[number]):,} images)"
        galleries.append((heading, [members[number][index] for index in order]))
    return [gallery for gallery in galleries if gallery[1]]


def _in_turn(places: Mapping[str, list[Place]], count: int) -> list[Place]:
    """Take from every stratum in turn, so that rare kinds of image are seen."""
    longest = max(map(len, places.values()))
    rounds = [kept[turn] for turn in range(longest) for kept in places.values() if turn < len(kept)]
    return rounds[:count]

"""One pass over the images: what is kept of each is a few numbers, so memory does not grow with the pixels."""

import heapq
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import datasets
import numpy as np

from ..data.samples import ImageRows, channel_columns
from ..models.image_reading import read_image
from ..progress import track
from .content import Content, Labels
from .intensities import MOST_PIXELS, Channel, Group, Intensities, channels_of, histogram
from .masks import ImageObjects, class_name, read_objects

BAD_IMAGE = (ValueError, OSError)
_AT_ONCE = 16  # stored images in memory: four channels of 3072 x 3072 at 16 bits are 75 MB decoded
_KEPT = 24  # candidates for a gallery


@dataclass(frozen=True)
class Place:
    """Where a picture of a gallery comes from; `box` cuts an object out."""

    split: str
    row: int
    box: tuple[slice, slice] | None = None


@dataclass
class Scan:
    """What one pass has found.

    Attributes:
        sizes: Images by (height, width).
        intensities: By channel, and split or class.
        unreadable: Split, name and reason of every bad image.
        objects_per_image: Split -> number of objects of each image with a mask.
        areas: Class of objects -> pixels of each object, by split.
        pixels: Class -> pixels; "background" too.
        present: Class numbers in the mask of each image, by split.
        class_places: Class of objects -> seeded random places of one object of an image each.
        places: Modality or split -> seeded random places of images.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    intensities: Intensities = field(default_factory=Intensities)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)
    objects_per_image: dict[str, array] = field(default_factory=lambda: defaultdict(lambda: array("l")))
    areas: dict[str, dict[str, array]] = field(default_factory=dict)
    pixels: Counter[str] = field(default_factory=Counter)
    present: dict[str, list[Labels]] = field(default_factory=lambda: defaultdict(list))
    class_places: dict[str, list[Place]] = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """What is told of one image."""

    place: Place
    priority: float
    stratum: str
    size: tuple[int, int]
    histograms: Mapping[Channel, Mapping[Group, np.ndarray]]
    classes: np.ndarray | None = None
    areas: np.ndarray | None = None
    pixels: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Place] = field(default_factory=dict)


def scan_splits(
    splits: Mapping[str, datasets.Dataset],
    chosen: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[Labels]],
    content: Content,
    seed: int = 0,
) -> Scan:
    """Read the chosen images once, with a thread per core.

    Args:
        splits: Datasets by split name.
        chosen: Rows to read, by split.
        labels: Of every row, by split.
        content: Of the dataset.
        seed: Of the choice of examples.

    Returns:
        The scan; images or masks that cannot be read are in `unreadable`, and in nothing else.
    """
    rows = {split: ImageRows(dataset) for split, dataset in splits.items()}
    channels = channel_columns(next(iter(splits.values())).features)

    def look(item: tuple[str, int, dict[str, Any]]) -> _Seen | tuple[str, str, str]:
        split, index, row = item
        try:
            return _look(split, index, row, labels[split][index], content, channels, seed)
        except BAD_IMAGE as error:
            name = str(row.get("image_id", index))
            return split, name, " ".join(str(error).removeprefix("image bytes: ").split())

    total = sum(map(len, chosen.values()))
    stored = ((split, int(i), rows[split][int(i)]) for split, indices in chosen.items() for i in indices)
    scan = Scan()
    classes: dict[str, list[Any]] = defaultdict(list)
    strata: dict[str, list[Any]] = defaultdict(list)
    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
        found: Iterator[Any] = (
            result
            for batch in iter(lambda: list(islice(stored, _AT_ONCE)), [])
            for result in pool.map(look, batch)
        )
        for seen in track(found, "Looking at images", total=total):
            if isinstance(seen, tuple):
                scan.unreadable.append(seen)
                continue
            _count(scan, seen, content)
            _keep(strata[seen.stratum], seen.priority, seen.place)
            for name, place in seen.examples.items():
                _keep(classes[name], seen.priority, place)
    scan.class_places = {name: _in_order(kept) for name, kept in classes.items()}
    scan.places = {name: _in_order(kept) for name, kept in strata.items()}
    return scan


def _look(
    split: str,
    index: int,
    row: dict[str, Any],
    labels: Labels,
    content: Content,
    channels: list[str],
    seed: int,
) -> _Seen:
    image = read_image(row["image"])
    objects = read_objects(row, content, image.shape) if content.mask_column else None
    step = max(1, int(np.ceil(np.sqrt(image.shape[0] * image.shape[1] / MOST_PIXELS))))
    grid = (slice(None, None, step), slice(None, None, step))
    whole: list[Group] = [
        ("split", split),
        *(("class", content.label_names[label]) for label in labels or ()),
    ]
    parts: dict[Group, np.ndarray] = {}
    if objects is not None:
        map_on_grid = objects.class_map[grid]
        parts = {("class", class_name(content, k)): map_on_grid == k for k in np.unique(map_on_grid).tolist()}
    histograms: dict[Channel, dict[Group, np.ndarray]] = {}
    for name, plane in channels_of(image, channels).items():
        values = plane[grid]
        kind = str(values.dtype) if values.dtype in (np.uint8, np.uint16) else "float32"
        histograms[name, kind] = dict.fromkeys(whole, histogram(values))
        histograms[name, kind] |= {group: histogram(values[mask]) for group, mask in parts.items()}
    draw = np.random.default_rng([seed, len(split), *split.encode(), index])
    priority = float(draw.random())
    size = (image.shape[0], image.shape[1])
    stratum = row.get("modality") or split
    if objects is None:
        return _Seen(Place(split, index), priority, stratum, size, histograms)
    values, counts = np.unique(objects.class_map, return_counts=True)
    pixels = {class_name(content, k): int(n) for k, n in zip(values.tolist(), counts)}
    examples = {}
    for kind in np.unique(objects.classes).tolist():
        number = int(draw.choice(np.flatnonzero(objects.classes == kind)))
        examples[class_name(content, kind)] = Place(split, index, _around(objects, number, size))
    place = Place(split, index)
    return _Seen(place, priority, stratum, size, histograms, objects.classes, objects.areas, pixels, examples)


def _around(objects: ImageObjects, number: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """A square window half as wide again as an object, pushed back into the image."""
    box = objects.boxes[number]
    side = max(32, round(1.5 * max(part.stop - part.start for part in box)))
    window = []
    for part, length in zip(box, size):
        start = (part.start + part.stop - side) // 2
        start = max(0, min(start, length - side))
        window.append(slice(start, min(length, start + side)))
    return window[0], window[1]


def _count(scan: Scan, seen: _Seen, content: Content) -> None:
    split = seen.place.split
    scan.sizes[seen.size] += 1
    scan.intensities.add(seen.histograms)
    if seen.classes is None or seen.areas is None:
        return
    scan.objects_per_image[split].append(len(seen.classes))
    scan.present[split].append(tuple(np.unique(seen.classes).tolist()) or None)
    scan.pixels.update(seen.pixels)
    for number in np.unique(seen.classes).tolist():
        of_class = scan.areas.setdefault(class_name(content, number), defaultdict(lambda: array("l")))
        of_class[split].extend(seen.areas[seen.classes == number].tolist())


def _keep(kept: list[Any], priority: float, place: Place) -> None:
    """Keep the places of the lowest priorities, which any order of reading finds alike."""
    entry = (-priority, place.split, place.row, place)
    if len(kept) < _KEPT:
        heapq.heappush(kept, entry)
    elif entry[:3] > kept[0][:3]:
        heapq.heapreplace(kept, entry)


def _in_order(kept: list[Any]) -> list[Place]:
    return [entry[3] for entry in sorted(kept, key=lambda entry: (-entry[0], *entry[1:3]))]

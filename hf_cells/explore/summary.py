"""The numbers of `explore.json`, from labels, groups and one pass over the images."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

from .content import Content, Labels
from .scan import Scan

_LISTED = 50  # image sizes; all are counted
_AREA_PERCENTILES = (5, 25, 50, 75, 95)


def split_numbers(dataset: datasets.Dataset, looked_at: int, unreadable: int) -> dict[str, Any]:
    """Images and groups of a split; groups are counted and never named."""
    told: dict[str, Any] = {"images": len(dataset), "looked_at": looked_at, "unreadable": unreadable}
    groups = dataset["group"] if "group" in dataset.column_names else []
    counts = Counter(group for group in groups if group is not None)
    told["groups"] = len(counts) or None
    told["without_group"] = len(dataset) - counts.total()
    told["images_per_group"] = _spread(list(counts.values()))
    return told


def label_numbers(labels: Mapping[str, Sequence[Labels]], names: Sequence[str]) -> dict[str, Any]:
    """Counts, prevalence, co-occurrence and correlation of K labels.

    Args:
        labels: Class numbers of every image, by split.
        names: Of the K classes.

    Returns:
        `names`; `counts` and `prevalence` (share of the images with a label) by name and split; `images` with a
        label by split; `unlabelled` by split; `labels_per_image`; `co_occurrence` (K x K images) and `correlation`
        (K x K, phi coefficient, which is Pearson's of two labels that are there or not; None where a label is in
        every image or in none).
    """
    truth = {split: _one_hot(rows, len(names)) for split, rows in labels.items()}
    every = np.concatenate([*truth.values(), np.zeros((0, len(names)), bool)])
    known = {split: int(table.any(axis=1).sum()) for split, table in truth.items()}
    return {
        "names": list(names),
        "counts": {
            name: {split: int(table[:, k].sum()) for split, table in truth.items()}
            for k, name in enumerate(names)
        },
        "prevalence": {
            name: {split: _round(table[:, k].sum() / max(known[split], 1)) for split, table in truth.items()}
            for k, name in enumerate(names)
        },
        "images": known,
        "unlabelled": {split: len(table) - known[split] for split, table in truth.items()},
        "labels_per_image": {str(k): n for k, n in sorted(Counter(every.sum(axis=1).tolist()).items())},
        "co_occurrence": (every.astype(np.int64).T @ every.astype(np.int64)).tolist(),
        "correlation": [[_round(value) for value in row] for row in phi_coefficients(every).tolist()],
    }


def phi_coefficients(truth: np.ndarray) -> np.ndarray:
    """Correlate labels: (N, K) of 0 and 1 to (K, K), NaN for a label that is everywhere or nowhere."""
    centred = truth - (truth.mean(axis=0) if len(truth) else 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return centred.T @ centred / np.outer(deviation, deviation)


def size_numbers(scan: Scan) -> dict[str, Any]:
    """Image sizes: the range of each side, and the commonest sizes."""
    heights = np.repeat([size[0] for size in scan.sizes], list(scan.sizes.values()))
    widths = np.repeat([size[1] for size in scan.sizes], list(scan.sizes.values()))
    return {
        "height": _spread(heights),
        "width": _spread(widths),
        "distinct": len(scan.sizes),
        "most_common": [[*size, count] for size, count in scan.sizes.most_common(_LISTED)],
    }


def channel_numbers(scan: Scan) -> list[dict[str, Any]]:
    """Intensities of each channel, by split and by class; of masks, by class of the pixels."""
    told = []
    for channel, groups in scan.intensities.sums.items():
        entry: dict[str, Any] = {"channel": channel[0], "dtype": channel[1]}
        entry["images"] = scan.intensities.images[channel]
        for kind in ("split", "class"):
            entry[f"by_{kind}"] = {
                group[1]: scan.intensities.numbers(channel, group) for group in groups if group[0] == kind
            }
        told.append(entry)
    return told


def object_numbers(scan: Scan) -> dict[str, Any]:
    """Objects per image by split, and sizes by class; `equivalent_diameter` is that of a disc of the same area."""
    everything = scan.pixels.total()
    by_class = {}
    for name, of_split in scan.areas.items():
        areas = np.concatenate([np.frombuffer(values, dtype="l") for values in of_split.values()])
        percentiles = np.percentile(areas, _AREA_PERCENTILES)
        by_class[name] = {
            "objects": len(areas),
            "by_split": {split: len(values) for split, values in of_split.items()},
            "area": {f"p{p}": _round(value) for p, value in zip(_AREA_PERCENTILES, percentiles)},
            "equivalent_diameter": {
                f"p{p}": _round(2 * math.sqrt(value / math.pi))
                for p, value in zip(_AREA_PERCENTILES, percentiles)
            },
            "share_of_pixels": _round(scan.pixels[name] / max(everything, 1)),
        }
    return {
        "per_image": {
            split: {**_spread(counts), "total": int(sum(counts)), "images_without": counts.count(0)}
            for split, counts in scan.objects_per_image.items()
        },
        "background": _round(scan.pixels["background"] / max(everything, 1)),
        "by_class": by_class,
    }


def labels_in_masks(scan: Scan, content: Content) -> tuple[dict[str, list[Labels]], list[str]] | None:
    """Classes that the mask of each image has, as labels; None where masks have one class."""
    numbers = {number for rows in scan.present.values() for row in rows for number in row or ()}
    count = max([len(content.object_names) - 1, *numbers])
    if count < 2:
        return None
    names = [*content.object_names, *(f"class {k}" for k in range(len(content.object_names), count + 1))]
    shifted = {
        split: [tuple(number - 1 for number in row) if row else None for row in rows]
        for split, rows in scan.present.items()
    }
    return shifted, names[1:]


def _one_hot(rows: Sequence[Labels], count: int) -> np.ndarray:
    table = np.zeros((len(rows), count), bool)
    for row, numbers in zip(table, rows):
        row[list(numbers or ())] = True
    return table


def _spread(values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    low, median, high = float(min(values)), float(np.median(values)), float(max(values))
    return {"min": low, "median": median, "max": high, "mean": _round(float(np.mean(values))) or 0.0}


def _round(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None

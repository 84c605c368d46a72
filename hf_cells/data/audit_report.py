"""The full audit of a dataset: groups, copies, near copies, label conflicts, imbalance, numbers like specimens."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np

from . import audit_sections as sections
from . import look_alikes, near_duplicates
from .audit_sections import Findings, Label
from .embeddings import embed_images
from .empty_masks import told_of_empty_masks
from .group_patterns import Groups, find_groupings, running_numbers
from .image_scan import ImageScan, scan_images

NO_METADATA = ("image_id", "image", "label", "labels", "modality")


@dataclass
class Audit:
    """What was found, and what a figure needs beside it.

    Attributes:
        report: JSON-able, with image ids and without group names; see `audit_dataset`.
        scan: Of the pixels of N images.
        sides: Split of each image.
        labels: Class names of each image, or None; None where the data has no classes.
        groups: Group of each image, or None.
        pairs: (P, 2) rows of copies and near copies, those across splits first, then the most similar.
        similarities: (P,) float32 of the pairs; 1 for exact copies.
    """

    report: dict[str, Any]
    scan: ImageScan
    sides: list[str]
    labels: list[Label] | None
    groups: Groups
    pairs: np.ndarray
    similarities: np.ndarray


def audit_dataset(
    splits: Mapping[str, datasets.Dataset],
    *,
    groups: str | None = None,
    embedding: str | None = None,
    similarity: float | None = None,
    published: str | None = None,
) -> Audit:
    """Look for everything that makes a number measured on these splits too good.

    Args:
        splits: Datasets by split name, with `image_id` and `image`, and perhaps `group`, `label` or `labels`.
        groups: A column, or a regular expression for the image ids; found from both when None.
        embedding: Model whose features find near duplicates and look-alikes, as of `embed_images`.
        similarity: Least similarity of near duplicates; by default 0.90, or what suits the model.
        published: Why this is a published split that is known to leak, as of `published_leak`.

    Returns:
        The audit. Its report has `images` (per split), `leaks` (groups and copies on several sides, and exact
        copies of different labels: a count), `leak_texts` and `warnings` (sentences without names), and the
        sections `groups`, `other_groupings`, `exact_duplicates`, `near_duplicates`, `label_conflicts`,
        `running_numbers` (None where names are no numbers), `classes` (None without labels), `sizes` and
        `unreadable`.

    Raises:
        CellsError: No image can be read, `groups` finds nothing, or the model cannot be loaded.
    """
    scan = scan_images(splits)
    labels, class_names = _labels(splits, scan)
    columns = {name: _column(splits, scan, name) for name in _metadata(splits)}
    groupings = find_groupings(scan.image_ids, columns, labels, groups)
    if embedding is None:
        descriptors, threshold = near_duplicates.cosine_descriptors(scan.thumbnails), near_duplicates.NEAR
        positions, method = near_duplicates.turned, "weighted cosine transform, in eight positions"
        features = look_alikes.appearance(scan.thumbnails, scan.colours)
    else:
        features, again = embed_images(splits, scan.places, embedding)
        descriptors, threshold = near_duplicates.calibrated(features, again)
        positions, method = near_duplicates.as_they_stand, f"features of {embedding}"
    threshold = threshold if similarity is None else similarity
    pairs, similarities = near_duplicates.similar_pairs(descriptors, threshold, positions)
    classes = labels if labels is not None and "label" in columns_of(splits) else None
    nearest = look_alikes.nearest_look_alikes(look_alikes.standardised(features), classes, scan.hashes)

    found = Findings(scan, [split for split, _ in scan.places], labels, classes, nearest)
    if published:
        found.warnings.append(f"this split is published as it is and known to leak: {published}")
    sections.groups(found, groupings)
    copies = _copies(scan.hashes)
    differ = np.array([scan.hashes[i] != scan.hashes[j] for i, j in pairs], bool)
    pairs, similarities = pairs[differ], similarities[differ]
    sections.exact_duplicates(found, copies)
    sections.near_duplicates(found, pairs, similarities, threshold, method)
    sections.label_conflicts(found, copies, pairs)
    sections.numbers(found, running_numbers(scan.image_ids))
    sections.classes(found, class_names)
    sections.sizes(found)
    sections.unreadable(found)
    if empty := told_of_empty_masks(splits.values()):
        found.warnings.append(empty)

    equal = [(first, other) for first, *others in copies for other in others]
    pairs = np.concatenate([np.array(equal, np.int64).reshape(-1, 2), pairs])
    similarities = np.concatenate([np.ones(len(equal), np.float32), similarities])
    order = np.argsort([found.sides[i] == found.sides[j] for i, j in pairs], kind="stable")
    return Audit(
        {
            "images": {split: len(dataset) for split, dataset in splits.items()},
            "leaks": found.leaks,
            "leak_texts": found.leak_texts,
            "warnings": found.warnings,
            **found.report,
        },
        scan,
        found.sides,
        labels,
        groupings[0].groups if groupings else [None] * len(found.sides),
        pairs[order],
        similarities[order],
    )


def columns_of(splits: Mapping[str, datasets.Dataset]) -> list[str]:
    """Return the columns that every split has."""
    first, *others = splits.values()
    return [name for name in first.column_names if all(name in other.column_names for other in others)]


def _copies(hashes: Sequence[str]) -> list[list[int]]:
    """Return the rows of each picture that is there more than once."""
    rows = defaultdict(list)
    for row, digest in enumerate(hashes):
        rows[digest].append(row)
    return [members for members in rows.values() if len(members) > 1]


def _metadata(splits: Mapping[str, datasets.Dataset]) -> list[str]:
    """Return the columns of text or whole numbers that could name a specimen."""
    features = next(iter(splits.values())).features
    types = {name: getattr(features[name], "dtype", "") for name in columns_of(splits)}
    kinds = ("string", "large_string", "int", "uint")
    return [name for name, kind in types.items() if name not in NO_METADATA and kind.startswith(kinds)]


def _column(splits: Mapping[str, datasets.Dataset], scan: ImageScan, name: str) -> list[Any]:
    values = {split: list(dataset[name]) for split, dataset in splits.items()}
    return [values[split][row] for split, row in scan.places]


def _labels(splits: Mapping[str, datasets.Dataset], scan: ImageScan) -> tuple[list[Label] | None, list[str]]:
    """Return the class names of each image, and all class names."""
    column = next((name for name in ("label", "labels") if name in columns_of(splits)), None)
    if column is None:
        return None, []
    feature = next(iter(splits.values())).features[column]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)

    def name(value: Any) -> str:
        return names[value] if names else str(value)

    labels: list[Label] = []
    for value in _column(splits, scan, column):
        values = value if isinstance(value, list) else [] if value in (None, -1) else [value]
        labels.append(tuple(sorted(map(name, values))) or None)
    return labels, names or sorted({name for label in labels for name in label or ()})

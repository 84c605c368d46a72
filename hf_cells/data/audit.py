"""What leaks between splits: groups on both sides, and images that are equal pixel by pixel."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..progress import track
from .splits import shared_groups


def leak_report(splits: Mapping[str, datasets.Dataset]) -> dict[str, Any]:
    """Look for leaks between splits.

    Args:
        splits: Datasets by split name, with the columns `image_id`, `image` and perhaps `group`.

    Returns:
        JSON-able: `groups_on_both_sides` {group: splits}, `duplicate_images` (one list of
        [split, image_id] for each picture that is in several splits), `leaks` (how many of both),
        `groups` (groups per split; images where no group is known), `images` (per split), and `summary`,
        one sentence without names.
    """
    groups = shared_groups(splits)
    total = sum(len(dataset) for dataset in splits.values())
    rows = (
        (split, row)
        for split, dataset in splits.items()
        for row in dataset.select_columns(["image_id", "image"])
    )
    places: dict[str, list[list[str]]] = defaultdict(list)
    for split, row in track(rows, "Comparing pixels", total=total):
        places[pixel_hash(row["image"])].append([split, row["image_id"]])
    duplicates = [copies for copies in places.values() if len({split for split, _ in copies}) > 1]
    return {
        "groups_on_both_sides": groups,
        "duplicate_images": duplicates,
        "leaks": len(groups) + len(duplicates),
        "groups": {split: _count_groups(dataset) for split, dataset in splits.items()},
        "images": {split: len(dataset) for split, dataset in splits.items()},
        "summary": f"{len(groups)} groups and {len(duplicates)} identical images are in more than one split "
        f"of {total} images",
    }


def pixel_hash(image: Image.Image) -> str:
    """Hash decoded pixels, so that another file format, an opaque alpha channel or grey saved as colour
    does not hide a copy.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4) and (pixels[..., -1] == 255).all():
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    digest = hashlib.blake2b(f"{pixels.shape}{pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def _count_groups(dataset: datasets.Dataset) -> int:
    if "group" not in dataset.column_names:
        return len(dataset)
    groups = dataset["group"]
    return len({group for group in groups if group is not None}) + sum(group is None for group in groups)

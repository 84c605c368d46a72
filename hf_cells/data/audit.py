"""What leaks between splits: groups on both sides, and images that are equal pixel by pixel."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import datasets

from ..errors import CellsError
from .image_scan import map_images, pixel_hash, read_pixels
from .registry import builder_class, dataset_names
from .splits import shared_groups

__all__ = ["leak_report", "pixel_hash", "published_leak", "refuse_leaks"]


def leak_report(splits: Mapping[str, datasets.Dataset]) -> dict[str, Any]:
    """Look for leaks between splits.

    Args:
        splits: Datasets by split name, with the columns `image_id`, `image` and perhaps `group`.

    Returns:
        JSON-able: `groups_on_both_sides` {group: splits}, `duplicate_images` (one list of
        [split, image_id] for each picture that is in several splits), `leaks` (how many of both),
        `groups` (groups per split; images where no group is known), `images` (per split), and `summary`,
        one sentence without names.

    Raises:
        CellsError: An image cannot be read.
    """
    groups = shared_groups(splits)
    total = sum(len(dataset) for dataset in splits.values())

    def find(place: tuple[str, int], image_id: str, stored: Any) -> tuple[str, str, str]:
        return pixel_hash(read_pixels(place[0], image_id, stored)), place[0], image_id

    places: dict[str, list[list[str]]] = defaultdict(list)
    for digest, split, image_id in map_images(splits, find, "Comparing pixels"):
        places[digest].append([split, image_id])
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


def refuse_leaks(splits: Mapping[str, datasets.Dataset], *, published: str | None) -> dict[str, Any]:
    """Refuse splits that leak, unless they are published ones that are known to.

    Args:
        splits: As for `leak_report`.
        published: Why the published split leaks, as of `published_leak`; None for every other split.

    Returns:
        As `leak_report`, with `warning`: one sentence without names, or None when nothing leaks.

    Raises:
        CellsError: A group or an image is in more than one split and `published` is None, or an image cannot
            be read.
    """
    report = leak_report(splits)
    if not report["leaks"]:
        return {**report, "warning": None}
    if published is None:
        raise CellsError(
            f"{report['summary']}, so the result would be inflated; split by group and leave copies out "
            "(`hf-cells audit` shows them), or choose a configuration that is published and known to leak"
        )
    return {**report, "warning": f"published split, known to leak ({published}): {report['summary']}"}


def published_leak(name: str, config: str | None = None) -> str | None:
    """Return why a configuration of a dataset is known to leak; None for one that is not, or an own folder.

    Args:
        name: As in `load_dataset`.
        config: Configuration; the default one when None.
    """
    if name not in dataset_names():
        return None
    builder = builder_class(name)
    return getattr(builder, "leaky_configs", {}).get(config or builder.DEFAULT_CONFIG_NAME)


def _count_groups(dataset: datasets.Dataset) -> int:
    if "group" not in dataset.column_names:
        return len(dataset)
    groups = dataset["group"]
    return len({group for group in groups if group is not None}) + sum(group is None for group in groups)

"""Splits that keep groups whole, and the check that refuses one that does not."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import datasets

from ..dataset_scripts._reading import assign_splits
from ..errors import CellsError


def split_dataset(
    dataset: datasets.Dataset, *, validation_fraction: float = 0.1, test_fraction: float = 0.2, seed: int = 0
) -> datasets.DatasetDict:
    """Split a dataset by its `group` column; a row without a group is a group of its own.

    Args:
        dataset: Rows with the columns `image_id` and, where known, `group`.
        validation_fraction: Share of the rows for `validation`.
        test_fraction: Share of the rows for `test`.
        seed: Same seed, same split, in whatever order the rows come.

    Returns:
        Splits train, validation and test; those without rows are left out.

    Raises:
        CellsError: The fractions are negative or reach 1 together.
    """
    ids = [f"row {image_id}" for image_id in dataset["image_id"]]
    known = dataset["group"] if "group" in dataset.column_names else [None] * len(ids)
    groups = [image_id if group is None else f"group {group}" for group, image_id in zip(known, ids)]
    try:
        sides = assign_splits(groups, {"test": test_fraction, "validation": validation_fraction}, seed)
    except ValueError as error:
        raise CellsError(f"{error}; mend validation_fraction and test_fraction") from error
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for row, side in enumerate(sides):
        rows[side].append(row)
    return datasets.DatasetDict({side: dataset.select(index) for side, index in rows.items() if index})


def check_split_options(config: Any) -> None:
    """Refuse options of an own folder that cannot cut its splits.

    Args:
        config: With `split_seed`, `validation_fraction` and `test_fraction`.

    Raises:
        CellsError: A fraction is no number from 0 to below 1, or the seed is no whole number.
    """
    for name in ("test_fraction", "validation_fraction"):
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise CellsError(f"{name}={value}: give a share from 0 to below 1, such as 0.2")
    if isinstance(config.split_seed, bool) or not isinstance(config.split_seed, int):
        raise CellsError(f"split_seed={config.split_seed}: give a whole number, such as 1")


def shared_groups(splits: Mapping[str, datasets.Dataset]) -> dict[str, list[str]]:
    """Return each group that is in more than one split, with these splits; rows without one are left out."""
    where: dict[str, list[str]] = defaultdict(list)
    for split, dataset in splits.items():
        if "group" in dataset.column_names:
            for group in sorted({group for group in dataset["group"] if group is not None}):
                where[group].append(split)
    return {group: sides for group, sides in where.items() if len(sides) > 1}


def check_groups(splits: Mapping[str, datasets.Dataset]) -> None:
    """Refuse a split that leaks. Groups are counted and not named: a name may identify a patient.

    Raises:
        CellsError: A group is in more than one split.
    """
    shared = shared_groups(splits)
    if shared:
        sides = sorted({side for group_sides in shared.values() for side in group_sides})
        raise CellsError(
            f"{len(shared)} groups are in more than one of the splits {', '.join(sides)}, "
            "so the result would be inflated; split by group (split_by or groups), "
            "or name the published leaky split in the recipe"
        )

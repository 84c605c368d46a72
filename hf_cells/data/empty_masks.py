"""Masks that show no object at all: a slip, such as another folder's masks, that no number would tell."""

from collections.abc import Iterable

import datasets

MASKS = ("instance_labels", "semantic_mask")


def told_of_empty_masks(parts: Iterable[datasets.Dataset]) -> str | None:
    """Return a sentence when there are masks and every one of them is empty; stops at the first that is not.

    A mask that cannot be read counts as one that shows something: its own error tells more.
    """
    from .samples import ImageRows, truth_of  # brings torch along

    count = 0
    for dataset in parts:
        column = next((name for name in MASKS if name in dataset.column_names), None)
        if column is None:
            continue
        rows = ImageRows(dataset.select_columns([column]))
        for index in range(len(rows)):
            try:
                if truth_of(rows[index]).any():
                    return None
            except (ValueError, OSError):
                return None
            count += 1
    return f"none of the {count} masks shows an object; check that they are the right ones" if count else None

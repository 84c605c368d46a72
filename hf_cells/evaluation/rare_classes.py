"""Classes of which a split has so few examples that their score says little: named, so that cards set them apart."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

FEWEST = 5


def rare_classes(dataset: Any, per_object: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Name the classes with fewer than five examples in a split.

    Composed images show the same source cell many times. Where the split has a column `sources` (of each image a
    list of `<class>/<sample>`), an example is a source sample; elsewhere it is a true object.

    Args:
        dataset: The split.
        per_object: Class -> `objects_true`, of `aggregate_semantic_objects`.

    Returns:
        `fewest`, `unit` ("source samples" or "objects") and `counts`, rare class -> number of examples.
    """
    if "sources" in dataset.column_names:
        known = {name for sources in dataset["sources"] for name in sources or ()}
        found = Counter(name.partition("/")[0] for name in known)
        unit, counts = "source samples", {name: found[name] for name in per_object}
    else:
        unit, counts = "objects", {name: int(entry["objects_true"]) for name, entry in per_object.items()}
    rare = {name: count for name, count in counts.items() if count < FEWEST}
    return {"fewest": FEWEST, "unit": unit, "counts": rare}


def mean_without(per_class: Mapping[str, Mapping[str, float]], rare: Mapping[str, Any], key: str) -> float:
    """Mean of a score over the classes that are not rare and have one; NaN where there is none."""
    values = [entry[key] for name, entry in per_class.items() if name not in rare["counts"]]
    values = [value for value in values if math.isfinite(value)]
    return sum(values) / len(values) if values else math.nan

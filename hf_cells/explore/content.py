"""What a dataset holds: labels or masks, the names and colours of their classes, and the terms of its images."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets

from ..data.loading import own_builder
from ..data.registry import builder_class, dataset_names
from ..data.samples import channel_columns
from ..data.simulated import is_simulated
from ..errors import CellsError

Labels = tuple[int, ...] | None  # class numbers of an image; None where it has no label


@dataclass(frozen=True)
class Content:
    """What a dataset holds.

    Attributes:
        label_column: `label`, `labels`, or None.
        label_names: Names of the K classes of the column.
        mask_column: `instance_labels`, `semantic_mask`, or None.
        object_names: Name of every class in the masks by its number, background first.
        colours: Class name -> (r, g, b), where the dataset has colours.
        terms: `license`, `redistributable` and `simulated`.
    """

    label_column: str | None = None
    label_names: list[str] = field(default_factory=list)
    mask_column: str | None = None
    object_names: list[str] = field(default_factory=list)
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)

    @property
    def several_labels(self) -> bool:
        """Whether an image can have more than one label."""
        return self.label_column == "labels"


def read_content(
    splits: Mapping[str, datasets.Dataset],
    name: str,
    config: str | None,
    data_dir: str | os.PathLike[str] | None,
    options: Collection[str] = (),
) -> Content:
    """Find out what loaded splits hold.

    Args:
        splits: As of `load_dataset`.
        name: What they were loaded from: a registered name, a folder, or a repository.
        config: Configuration, or None.
        data_dir: Where the raw files are; simulated ones have a `simulated.csv`.
        options: Names of the options that they were loaded with.

    Raises:
        CellsError: The splits have no images.
    """
    features = next(iter(splits.values())).features
    if "image" not in features and not channel_columns(features):
        raise CellsError(
            f"{name}: no column has images, there are {', '.join(features)}; name the column 'image'"
        )
    builder: Any = None
    if name in dataset_names():
        builder = builder_class(name)
    elif os.path.isdir(name):
        builder = own_builder(name, config, options)
    label_column = next((column for column in ("label", "labels") if column in features), None)
    mask_column = next(
        (column for column in ("instance_labels", "semantic_mask") if column in features), None
    )
    return Content(
        label_column,
        _label_names(splits, label_column) if label_column else [],
        mask_column,
        _object_names(features, mask_column, tuple(getattr(builder, "class_names", ()))),
        dict(getattr(builder, "class_colors", {})),
        {
            "license": getattr(builder, "license", "unknown"),
            "redistributable": bool(getattr(builder, "redistributable", False)),
            "simulated": is_simulated(data_dir or name),
        },
    )


def read_labels(dataset: datasets.Dataset, content: Content) -> list[Labels]:
    """Return the class numbers of every image, without reading images."""
    if content.label_column is None:
        return [None] * len(dataset)
    numbers = {name: number for number, name in enumerate(content.label_names)}
    named = _names_of(dataset.features[content.label_column]) is not None

    def read(value: Any) -> Labels:
        values = value if isinstance(value, list) else [] if value in (None, -1) else [value]
        return tuple(sorted(int(v) if named else numbers[str(v)] for v in values)) or None

    return [read(value) for value in dataset[content.label_column]]


def _label_names(splits: Mapping[str, datasets.Dataset], column: str) -> list[str]:
    names = _names_of(next(iter(splits.values())).features[column])
    if names is not None:
        return list(names)
    found: set[str] = set()
    for dataset in splits.values():
        for value in dataset[column]:
            values = value if isinstance(value, list) else [] if value is None else [value]
            found |= set(map(str, values))
    return sorted(found)


def _names_of(feature: Any) -> Sequence[str] | None:
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _object_names(features: datasets.Features, mask: str | None, known: tuple[str, ...]) -> list[str]:
    """Names by class number. Masks of instances have one class but where a column tells those of the cells."""
    if mask is None:
        return []
    if mask == "instance_labels":
        cells = _names_of(features["instance_classes"]) if "instance_classes" in features else None
        return ["background", *(cells or ([known[1]] if len(known) == 2 else ["cell"]))]
    return list(known) or ["background"]  # `masks.class_name` names numbers beyond these

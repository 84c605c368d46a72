"""A user's own images with class labels, without writing a script.

    cells/<Class>/*.png      class folders; or cells/{train,validation,test}/<Class>/*.png when the split is made

    cells/labels.csv         or one table with a row per image: columns filename and label and, where known,
    cells/images/*.png       group and split; the images lie anywhere beside or below it

Classes are in natural order: numbers by value, `class 2` before `class 10`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from ..dataset_scripts._reading import FolderSource
from ..dataset_scripts._stratify import assign_stratified_splits
from ..errors import CellsError
from . import folders, label_tables, labelled_items
from .folders import SPLIT_FOLDERS, read_image_file
from .labelled_items import Item, below_split, is_image, natural_order, read_items, tables_in
from .splits import check_split_options

logger = datasets.logging.get_logger(__name__)


@dataclass
class LabelledFolderConfig(datasets.BuilderConfig):
    """How own labelled images are read.

    Args:
        groups: Regular expression searched in each file's stem, or in its path from the folder when it has
            a slash; what it finds (its first bracket, if it has one) is the group, such as a patient or
            slide, and groups are never divided.
        split_seed: Seed of the split.
        validation_fraction: Share of `validation` when there is none yet.
        test_fraction: Share of `test` when there is no split yet.
        labels: Table of labels, as a path or a name in the folder; "folders" for class folders although
            there is a table; None for the one table in the folder, or else class folders.
        image_column: Column with the name or path of the image; by default known by its name.
        label_column: Column with the class; by default known by its name.
        group_column: Column with the group; by default known by its name; "" for none.
        split_column: Column with train, validation or test; by default known by its name; "" for none.
        label_separator: Between the labels of an image that has several; by default "|" where a cell
            has it; "" when it is part of a name.
    """

    groups: str | None = None
    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    labels: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    label_separator: str | None = None


class LabelledFolder(datasets.GeneratorBasedBuilder):
    """Builder of own labelled images: a `label` for each or, where an image has several, `labels`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = LabelledFolderConfig
    BUILDER_CONFIGS = [LabelledFolderConfig(name="classification", version=VERSION)]
    DEFAULT_CONFIG_NAME = "classification"

    license = "unknown"
    redistributable = False
    homepage = ""
    citation = ""
    class_names: tuple[str, ...] = ()  # those of the data are in the feature of the column
    class_colors: dict[str, tuple[int, int, int]] = {}
    group_pattern = None  # the option `groups` says it
    leaky_configs: dict[str, str] = {}
    helpers = (folders, label_tables, labelled_items)  # modules that decide the rows as well

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description="Microscopy images with class labels.")

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        check_split_options(self.config)
        root = Path(self.config.data_dir)
        items, several = read_items(root, self.config)
        label = datasets.ClassLabel(names=natural_order({name for item in items for name in item.classes}))
        self.info.features = datasets.Features(
            {
                "image_id": datasets.Value("string"),
                "group": datasets.Value("string"),
                "image": datasets.Image(),
                **({"labels": datasets.List(label)} if several else {"label": label}),
            }
        )
        splits = self._split(root, items)
        check_splits(root, splits, label.names)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"items": splits[split]})
            for split in SPLIT_FOLDERS
            if splits.get(split)
        ]

    def _split(self, root: Path, items: list[Item]) -> dict[str, list[Item]]:
        """Take the splits that are made; cut what is missing from the training images, or from all."""
        splits: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            splits[item.split or "train"].append(item)
        fractions = {"validation": self.config.validation_fraction}
        if all(item.split is None for item in items):
            fractions = {"test": self.config.test_fraction, **fractions}
        elif "train" not in splits or "validation" in splits:
            return splits
        training = splits.pop("train")
        # A group may have the name of an image that has none.
        groups = [f"group {item.group}" if item.group else f"image {item.name}" for item in training]
        classes = [item.classes for item in training]
        try:
            sides = assign_stratified_splits(groups, classes, fractions, self.config.split_seed)
        except ValueError as error:
            raise CellsError(f"{error}; mend validation_fraction and test_fraction") from error
        for item, side in zip(training, sides):
            splits[side].append(item)
        for split, fraction in fractions.items():
            if fraction > 0 and not splits[split]:
                unit = "groups" if any(item.group for item in training) else "images"
                raise CellsError(
                    f"{root}: {split} stays empty, as {len(set(groups))} {unit} are too few to divide; "
                    f"add {unit}, make a {split} split yourself, or set {split}_fraction=0"
                )
        return splits

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        features = self.info.features
        label = features["label"] if "label" in features else features["labels"].feature
        for item in items:
            image_bytes, _ = read_image_file(Path(self.config.data_dir) / item.name)
            ids = sorted({label.str2int(name) for name in item.classes})
            yield (
                item.image_id,
                {
                    "image_id": item.image_id,
                    "group": item.group,
                    "image": {"bytes": image_bytes, "path": PurePosixPath(item.name).name},
                    **({"label": ids[0]} if "label" in features else {"labels": ids}),
                },
            )


def looks_like_labelled_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder has images in class folders, or a table beside or above images; masks say no."""
    names = FolderSource(os.fspath(path)).names()
    images = [below_split(name.casefold()) for name in names if is_image(name)]
    if any("masks" in name.casefold().split("/")[:-1] or name.endswith(".parquet") for name in names):
        return False
    if any("images" in name.split("/")[1:-1] for name in images):
        return False  # <id>/images/ is how the raw files of a named dataset lie
    in_class_folders = any("/" in name and not name.startswith("images/") for name in images)
    return in_class_folders or bool(images and tables_in(names))


def holds_classes_of(path: str | os.PathLike[str], builder: type[datasets.DatasetBuilder]) -> bool:
    """Tell raw files of a named dataset from own images that merely lie alike.

    Returns:
        False when the labels can be read and none is a class of the dataset, nor are they its numbers.
    """
    classes = getattr(builder, "class_names", ())
    try:
        items, _ = read_items(Path(path), LabelledFolderConfig())
    except CellsError:
        return True
    found = {name.casefold() for item in items for name in item.classes}
    return found == set(map(str, range(len(classes)))) or any(name.casefold() in found for name in classes)


def check_splits(root: Path, splits: dict[str, list[Item]], names: list[str]) -> None:
    """Refuse a class that cannot be learnt; warn of one that cannot be measured.

    Raises:
        CellsError: A class has no training image.
    """
    for split, items in splits.items():
        counts = Counter(name for item in items for name in item.classes)
        missing = [name for name in names if not counts[name]]
        if missing and items and split == "train":
            raise CellsError(
                f"{root}: no training image is {missing[0]!r} ({len(missing)} such classes); add some, "
                "take the class out of the other splits, or choose another split_seed"
            )
        if missing and items:
            logger.warning(
                f"{root}: no image of {split} is {', '.join(missing)}, so that nothing is measured there; "
                "add images or groups of these classes"
            )

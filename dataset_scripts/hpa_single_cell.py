"""Human Protein Atlas, single-cell classification (Kaggle 2021): nineteen labels, four channels, weak labels.

On disk, as a folder or inside zips:

    train.csv                                      ID,Label (numbers 0 to 18 as a|b) and, from `hf-cells folds`, fold
    train/<ID>_{red,green,blue,yellow}.png         fields: microtubules, protein, nuclei, endoplasmic reticulum
    test.csv  test/<ID>_<colour>.png               where a test split is made
    antibodies.csv                                 ID,antibody,cell_line where they are known
    masks/<ID>_{nucleus,cell}.png                  labels 1..n; of simulated fields, the atlas' own have none

    cells.csv or any other name                    cell_id,parent_image_id,cell_number,size_y,size_x,edge_of_img,Label
    <parent>_cell_<n>_<colour>.png                 crops, both as `hf-cells segment` writes them

Every channel is a column of its own with the bytes of its file, 8 or 16 bits, so that nothing is lost. Fields of one
antibody, and cells of one field, are never in two splits.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ._hpa_items import CLASS_NAMES, COLOURS, Item, Wanted, find_items, read_planes
from ._reading import assign_splits, encode_png
from ._stratify import assign_stratified_splits
from ._tables import find_sources

# By configuration: the channels that are read by default, and the mask.
CHANNELS = {
    "fields": COLOURS,
    "cells": COLOURS,
    "nuclei": ("blue",),
    "whole_cells": ("red", "yellow", "blue"),
}
MASK_OF = {"nuclei": "nucleus", "whole_cells": "cell"}
list_of = getattr(datasets, "List", None) or datasets.Sequence  # its name before datasets 4
CITATION = """@article{le2022analysis,
  title   = {Analysis of the Human Protein Atlas Weakly Supervised Single-Cell Classification competition},
  author  = {Le, Trang and Winsnes, Casper F. and Axelsson, Ulrika and Xu, Hao and others},
  journal = {Nature Methods}, volume = {19}, pages = {1221--1229}, year = {2022},
  doi     = {10.1038/s41592-022-01606-z}
}"""


@dataclass
class HPAConfig(datasets.BuilderConfig):
    """What is read and how it is split.

    Args:
        channels: Which channels, in which order: colours with commas between. By default all four; of `nuclei` blue,
            of `whole_cells` red, yellow and blue.
        fold: Use the column `fold` of the table, as `hf-cells folds` writes it: this fold is `test`, and the next
            one (cyclic) `validation`; where the data have a test split of their own, this fold is `validation`.
        validation_fraction: Share of `validation` where no fold is asked for.
        test_fraction: Share of `test` where no fold is asked for and there is no test split yet.
        split_seed: Seed of that split.
        drop_border: For cells: leave out those that the border of the field cuts.
        skip_missing: Leave out rows without any file, and fields without a mask, instead of refusing the data.
        max_side: For `nuclei` and `whole_cells`: larger fields are reduced to this side in pixels, the scale at which
            `hf-cells segment` works; 0 keeps their size.
    """

    channels: str = ""
    fold: int | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0
    drop_border: bool = False
    skip_missing: bool = False
    max_side: int = 512


class HPASingleCell(datasets.GeneratorBasedBuilder):
    """Builder of `fields` (whole fields of view) and `cells` (crops of single cells), with several labels each.

    `group` is the antibody of a field where it is known, else the field; of a cell it is its field. `box` is left,
    top, right and bottom (exclusive) of a cell in its field, in pixels; empty where the table does not tell.

    `nuclei` and `whole_cells` are fields with 16-bit labels of their nuclei or cells, for instance models: `image` is
    the nuclear stain, of cells each reference channel is a column; `modality` is the cell line.
    """

    VERSION = datasets.Version("1.1.0")
    BUILDER_CONFIG_CLASS = HPAConfig
    BUILDER_CONFIGS = [
        HPAConfig(name="fields", version=VERSION, description="fields of view, a column for each channel"),
        HPAConfig(
            name="cells", version=VERSION, description="crops of single cells with their field's labels"
        ),
        HPAConfig(
            name="nuclei", version=VERSION, description="nuclear stain of fields, labels 1..n = nuclei"
        ),
        HPAConfig(
            name="whole_cells",
            version=VERSION,
            description="reference channels of fields, labels 1..n = cells",
        ),
    ]
    DEFAULT_CONFIG_NAME = "fields"

    license = "cc-by-sa-4.0"
    redistributable = False  # parts of the atlas carry other licences
    homepage = "https://www.kaggle.com/c/hpa-single-cell-image-classification"
    citation = CITATION
    class_names = CLASS_NAMES
    class_colors: dict[str, tuple[int, int, int]] = {}
    group_pattern = None
    leaky_configs: dict[str, str] = {}

    def _info(self) -> datasets.DatasetInfo:
        name = self.config.name
        planes = {column: datasets.Image() for column in self._columns().values()}
        if name in MASK_OF:
            features = {"modality": datasets.Value("string"), **planes, "instance_labels": datasets.Image()}
        else:
            cell = {
                "cell_number": datasets.Value("int32"),
                "height": datasets.Value("int32"),
                "width": datasets.Value("int32"),
                "at_border": datasets.Value("bool"),
                "box": list_of(datasets.Value("int32")),
            }
            features = {
                **(cell if name == "cells" else {}),
                "fold": datasets.Value("int32"),
                **planes,
                "labels": list_of(datasets.ClassLabel(names=list(CLASS_NAMES))),
            }
        return datasets.DatasetInfo(
            description="Fields and single cells of the Human Protein Atlas: "
            + ("outlines of single cells." if name in MASK_OF else "nineteen protein locations."),
            features=datasets.Features(
                {"image_id": datasets.Value("string"), "group": datasets.Value("string"), **features}
            ),
            homepage=self.homepage,
            license=self.license,
            citation=self.citation,
        )

    def _columns(self) -> dict[str, str]:
        """Column of each channel: its colour, or `image` for the one of nuclei."""
        name = self.config.name
        channels = read_channels(self.config.channels or ",".join(CHANNELS[name]))
        return {channel: "image" if name == "nuclei" else channel for channel in channels}

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        config = self.config
        if config.data_dir is None:
            raise FileNotFoundError(
                "hpa_single_cell needs data_dir, the folder with train.csv and <ID>_<colour>.png; "
                f"the images are at {self.homepage}, and `hf-cells simulate hpa_single_cell` makes such a folder"
            )
        path, columns, mask = str(config.data_dir), self._columns(), MASK_OF.get(config.name)
        if len(set(columns.values())) < len(columns):
            raise ValueError(f"channels={config.channels!r}: nuclei are shown in one channel; give it alone")
        planes = (*columns, mask) if mask else tuple(columns)
        wanted = Wanted(config.name == "cells", planes, config.drop_border, config.skip_missing)
        splits = split_items(path, find_items(path, find_sources(path, "hpa"), wanted), config)
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        columns = self._columns()
        for item in items:
            planes = read_planes(item)
            row: dict[str, Any] = {
                "image_id": item.image_id,
                "group": item.parent if self.config.name == "cells" else item.unit,
            }
            if mask := MASK_OF.get(self.config.name):
                images = reduced(planes, self.config.max_side)
                row |= {"modality": item.line or "fluorescence_dark", "instance_labels": images.pop(mask)}
            else:
                images = stored(item, planes)
                row |= {**item.cell, "fold": item.fold, "labels": item.labels}
            yield item.image_id, row | {columns[channel]: image for channel, image in images.items()}


def read_channels(text: str) -> list[str]:
    """Return the colours of the option `channels`."""
    channels = [name.strip().lower() for name in text.split(",")]
    if not set(channels) <= set(COLOURS) or len(set(channels)) < len(channels):
        raise ValueError(f"channels={text!r}: give some of {','.join(COLOURS)}, each once")
    return channels


def stored(item: Item, planes: Mapping[str, tuple[bytes, Image.Image]]) -> dict[str, dict[str, Any]]:
    """Return the bytes of the files."""
    names = {plane: PurePosixPath(item.files[plane][1]).name for plane in planes}
    return {plane: {"bytes": data, "path": names[plane]} for plane, (data, _) in planes.items()}


def reduced(planes: Mapping[str, tuple[bytes, Image.Image]], max_side: int) -> dict[str, dict[str, Any]]:
    """Return channels and mask with their longer side at most `max_side`, the labels 1..n."""
    width, height = next(iter(planes.values()))[1].size
    factor = min(1.0, max_side / max(width, height)) if max_side > 0 else 1.0
    size = max(1, round(height * factor)), max(1, round(width * factor))
    row = {}
    for plane, (data, image) in planes.items():
        if plane not in COLOURS:
            data = encode_png(reduce_labels(np.asarray(image), size))
        elif factor < 1:
            data = encode_png(reduce_plane(np.asarray(image), size))
        row[plane] = {"bytes": data, "path": None}
    return row


def reduce_plane(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) uint8 or uint16 at `size`, every pixel the weighted mean of those it covers."""
    plane = Image.fromarray(pixels.astype(np.float32))
    small = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return np.rint(small).astype(np.uint8 if pixels.dtype == np.uint8 else np.uint16)


def reduce_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) labels at `size`, every pixel the one in the middle of those it covers; uint16, 1..n."""
    rows, columns = (
        ((np.arange(short) + 0.5) * side / short).astype(int) for short, side in zip(size, labels.shape)
    )
    _, numbers = np.unique(np.append(0, labels[rows][:, columns]), return_inverse=True)
    return numbers[1:].reshape(size).astype(np.uint16)


def split_items(path: str, items: Sequence[Item], config: HPAConfig) -> dict[str, list[Item]]:
    """Divide the items by the folds of the table, or anew; antibodies and fields stay whole.

    Raises:
        ValueError: There are no folds, not this one, or a field is in two of them.
    """
    splits: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        splits["test" if item.split == "test" else "train"].append(item)
    own_test = bool(splits["test"])
    training = splits.pop("train", [])
    if config.fold is not None:
        sides = split_by_fold(path, training, config.fold, own_test)
    else:
        fractions = {"validation": config.validation_fraction}
        if not own_test:
            fractions = {"test": config.test_fraction, **fractions}
        units = [item.unit for item in training]
        if config.name in MASK_OF:  # what the protein channel shows does not matter
            sides = assign_splits(units, fractions, config.split_seed)
        else:
            classes = [[CLASS_NAMES[label] for label in item.labels] for item in training]
            sides = assign_stratified_splits(units, classes, fractions, config.split_seed)
    for item, side in zip(training, sides):
        splits[side].append(item)
    return splits


def split_by_fold(path: str, items: Sequence[Item], fold: int, own_test: bool) -> list[str]:
    """Return the split of every item when `fold` is held out."""
    homes: dict[str, int] = {}
    for item in items:
        if item.fold is None:
            raise ValueError(
                f"{item.where}: {item.image_id} has no fold; make the column with `hf-cells folds --train_csv`"
            )
        if homes.setdefault(item.parent, item.fold) != item.fold:
            raise ValueError(
                f"{item.where}: the field {item.parent} is in fold {homes[item.parent]} and in {item.fold}; "
                "make the folds anew with `hf-cells folds`"
            )
    folds = sorted(set(homes.values()))
    if fold not in folds:
        raise ValueError(f"{path}: there is no fold {fold}; choose from {', '.join(map(str, folds))}")
    following = folds[(folds.index(fold) + 1) % len(folds)]
    held_out = {fold: "validation"} if own_test else {following: "validation", fold: "test"}
    return [held_out.get(item.fold or 0, "train") for item in items]

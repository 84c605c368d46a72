"""Human Protein Atlas, single-cell classification (Kaggle 2021): nineteen labels, four channels, weak labels.

On disk, as a folder or inside zips:

    train.csv                                      ID,Label (numbers 0 to 18 as a|b) and, from `hf-cells folds`, fold
    train/<ID>_{red,green,blue,yellow}.png         fields: microtubules, protein, nuclei, endoplasmic reticulum
    test.csv  test/<ID>_<colour>.png               where a test split is made
    antibodies.csv                                 ID,antibody where it is known

    cells.csv or any other name                    cell_id,parent_image_id,cell_number,size_y,size_x,edge_of_img,Label
    <parent>_cell_<n>_<colour>.png                 crops, both as `hf-cells segment` writes them

Every channel is a column of its own with the bytes of its file, 8 or 16 bits, so that nothing is lost. Fields of one
antibody, and cells of one field, are never in two splits.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import datasets

from ._reading import Source, decode_image, read_csv
from ._stratify import assign_stratified_splits
from ._tables import find_sources

CLASS_NAMES = (
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Intermediate filaments",
    "Actin filaments",
    "Microtubules",
    "Mitotic spindle",
    "Centrosome",
    "Plasma membrane",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Vesicles and punctate cytosolic patterns",
    "Negative",
)
COLOURS = ("red", "green", "blue", "yellow")
CHANNEL_FILE = re.compile(rf"^(.+)_({'|'.join(COLOURS)})\.(?:png|tiff?)$", re.IGNORECASE)
ONE_CHANNEL = ("L", "I;16", "I;16B", "I;16L", "I", "1")
list_of = getattr(datasets, "List", None) or datasets.Sequence  # its name before datasets 4
CITATION = """@article{le2022analysis,
  title   = {Analysis of the Human Protein Atlas Weakly Supervised Single-Cell Classification competition},
  author  = {Le, Trang and Winsnes, Casper F. and Axelsson, Ulrika and Xu, Hao and others},
  journal = {Nature Methods}, volume = {19}, pages = {1221--1229}, year = {2022},
  doi     = {10.1038/s41592-022-01606-z}
}"""

logger = datasets.logging.get_logger(__name__)


@dataclass
class HPAConfig(datasets.BuilderConfig):
    """What is read and how it is split.

    Args:
        channels: Which channels, in which order: colours with commas between.
        fold: Use the column `fold` of the table, as `hf-cells folds` writes it: this fold is `test`, and the next
            one (cyclic) `validation`; where the data have a test split of their own, this fold is `validation`.
        validation_fraction: Share of `validation` where no fold is asked for.
        test_fraction: Share of `test` where no fold is asked for and there is no test split yet.
        split_seed: Seed of that split.
        drop_border: For cells: leave out those that the border of the field cuts.
        skip_missing: Leave out rows without any file instead of refusing the data.
    """

    channels: str = ",".join(COLOURS)
    fold: int | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0
    drop_border: bool = False
    skip_missing: bool = False


@dataclass
class Item:
    """A field or a cell: its labels, where its channels are, and what the tables tell."""

    image_id: str
    where: str
    labels: list[int]
    parent: str
    unit: str  # what must not be divided: the antibody, or the field
    split: str | None = None
    fold: int | None = None
    cell: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[Source, str]] = field(default_factory=dict)


class HPASingleCell(datasets.GeneratorBasedBuilder):
    """Builder of `fields` (whole fields of view) and `cells` (crops of single cells), with several labels each.

    `group` is the antibody of a field where it is known, else the field; of a cell it is its field. `box` is left,
    top, right and bottom (exclusive) of a cell in its field, in pixels; empty where the table does not tell.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = HPAConfig
    BUILDER_CONFIGS = [
        HPAConfig(name="fields", version=VERSION, description="fields of view, a column for each channel"),
        HPAConfig(
            name="cells", version=VERSION, description="crops of single cells with their field's labels"
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
        cell = {
            "cell_number": datasets.Value("int32"),
            "height": datasets.Value("int32"),
            "width": datasets.Value("int32"),
            "at_border": datasets.Value("bool"),
            "box": list_of(datasets.Value("int32")),
        }
        return datasets.DatasetInfo(
            description="Fields and single cells of the Human Protein Atlas: nineteen protein locations.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    **(cell if self.config.name == "cells" else {}),
                    "fold": datasets.Value("int32"),
                    **{colour: datasets.Image() for colour in read_channels(self.config.channels)},
                    "labels": list_of(datasets.ClassLabel(names=list(CLASS_NAMES))),
                }
            ),
            homepage=self.homepage,
            license=self.license,
            citation=self.citation,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        config = self.config
        if config.data_dir is None:
            raise FileNotFoundError(
                "hpa_single_cell needs data_dir, the folder with train.csv and <ID>_<colour>.png; "
                f"the images are at {self.homepage}, and `hf-cells simulate hpa_single_cell` makes such a folder"
            )
        path = str(config.data_dir)
        items = find_items(path, config)
        splits = split_items(path, items, config)
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            yield (
                item.image_id,
                {
                    "image_id": item.image_id,
                    "group": item.parent if self.config.name == "cells" else item.unit,
                    **item.cell,
                    "fold": item.fold,
                    **read_item(item),
                    "labels": item.labels,
                },
            )


def read_channels(text: str) -> list[str]:
    """Return the colours of the option `channels`."""
    channels = [name.strip().lower() for name in text.split(",")]
    if not set(channels) <= set(COLOURS) or len(set(channels)) < len(channels):
        raise ValueError(f"channels={text!r}: give some of {','.join(COLOURS)}, each once")
    return channels


def read_item(item: Item) -> dict[str, dict[str, Any]]:
    """Read the channels of an item as stored bytes and check that they fit one another.

    Raises:
        ValueError: A channel is damaged, in colour, or of another size or depth than the first.
    """
    row: dict[str, dict[str, Any]] = {}
    first: tuple[str, tuple[int, int], bool] | None = None
    for colour, (source, name) in item.files.items():
        data, where = source.read(name), source.locate(name)
        image = decode_image(data, where)
        if image.mode not in ONE_CHANNEL:
            raise ValueError(
                f"{where}: is an image in colour ({image.mode}); save the {colour} channel as grey"
            )
        deep = image.mode.startswith("I")
        if first is None:
            first = where, image.size, deep
        if image.size != first[1]:
            size, other = (f"{height}x{width}" for width, height in (image.size, first[1]))
            raise ValueError(f"{where}: is {size} but {first[0]} is {other}; the channels need one size")
        if deep != first[2]:
            raise ValueError(
                f"{where}: has another bit depth than {first[0]}; save both with 8 or with 16 bits"
            )
        row[colour] = {"bytes": data, "path": PurePosixPath(name).name}
    return row


def find_items(path: str, config: HPAConfig) -> list[Item]:
    """Find the fields or cells of the tables with their files, sorted by ID.

    Raises:
        FileNotFoundError: There is no table, or a row has no files.
        ValueError: A table is wrong, or a colour is missing.
    """
    sources = find_sources(path, "hpa")
    files: dict[str, dict[str, tuple[Source, str]]] = defaultdict(dict)
    tables: list[tuple[str, str, list[dict[str, str]]]] = []
    for source in sources:
        for name in source.names():
            if match := CHANNEL_FILE.match(PurePosixPath(name).name):
                add_channel(files[match[1]], match[2].lower(), source, name)
            elif name.lower().endswith(".csv"):
                where = source.locate(name)
                tables.append((where, name, read_csv(where, source.read(name))))
    antibodies = read_antibodies([(where, rows) for where, _, rows in tables])
    items: dict[str, Item] = {}
    tables.sort(key=lambda table: not any("fold" in row for row in table[2][:1]))  # with folds before without
    for where, name, rows in tables:
        for item in read_table(where, name, rows, config.name, antibodies):
            other = items.setdefault(item.image_id, item)
            if other is not item and (
                other.where == where or other.fold is None or other.labels != item.labels
            ):
                raise ValueError(f"{where}: {item.image_id} is listed already in {other.where}; keep one row")
    if not items:
        columns = "ID,Label" if config.name == "fields" else "cell_id,parent_image_id,Label"
        made = "" if config.name == "fields" else "; make it with `hf-cells segment`"
        raise FileNotFoundError(f"{path}: no CSV with the columns {columns} found{made}")
    return [
        items[name] for name in sorted(attach_files(path, items, files, config))
        if not (config.drop_border and items[name].cell.get("at_border"))
    ]  # fmt: skip


def add_channel(channels: dict[str, tuple[Source, str]], colour: str, source: Source, name: str) -> None:
    """Add a file; a zip beside a folder may hold the same file again, a folder may not."""
    there = channels.setdefault(colour, (source, name))
    if there[0] is source and there[1] != name:
        raise ValueError(f"{source.locate(name)}: is there already as {source.locate(there[1])}; keep one")


def read_antibodies(tables: Sequence[tuple[str, list[dict[str, str]]]]) -> dict[str, str]:
    """Return the antibody by ID from a table that has both."""
    for _, rows in tables:
        if rows and {"id", "antibody"} <= rows[0].keys() and "split" not in rows[0]:
            return {row["id"].strip(): row["antibody"].strip() for row in rows if row["antibody"].strip()}
    return {}


def read_table(
    where: str, name: str, rows: list[dict[str, str]], kind: str, antibodies: Mapping[str, str]
) -> Iterator[Item]:
    """Read the items of a table, or none when it is another kind of table."""
    columns = rows[0].keys() if rows else {}
    wanted = {"id", "label"} if kind == "fields" else {"cell_id", "parent_image_id", "label"}
    if not wanted <= set(columns) or (kind == "fields" and "cell_number" in columns):
        return
    split = "test" if kind == "fields" and PurePosixPath(name).stem.lower() == "test" else None
    for row in rows:
        image_id = (row["id"] if kind == "fields" else row["cell_id"] or "").strip()
        parent = image_id if kind == "fields" else (row["parent_image_id"] or "").strip()
        if not image_id or not parent:
            raise ValueError(f"{where}: has a row without an ID; mend or remove it")
        yield Item(
            image_id,
            where,
            read_labels(where, image_id, row["label"]),
            parent,
            antibodies.get(parent, parent),
            split,
            read_number(where, image_id, row, "fold"),
            read_cell(where, image_id, row) if kind == "cells" else {},
        )


def read_labels(where: str, image_id: str, text: str | None) -> list[int]:
    """Read `a|b` as sorted label numbers.

    Raises:
        ValueError: None is there, or one is no number from 0 to 18.
    """
    labels = set()
    for part in (text or "").split("|"):
        if not part.strip().isdecimal() or int(part) >= len(CLASS_NAMES):
            raise ValueError(
                f"{where}: label {part.strip()!r} of {image_id} is none of 0 to {len(CLASS_NAMES) - 1}; "
                "write the numbers of the labels with | between them"
            )
        labels.add(int(part))
    return sorted(labels)


def read_number(where: str, image_id: str, row: Mapping[str, str], column: str) -> int | None:
    """Read a whole number, None where the column or the cell is empty."""
    text = (row.get(column) or "").strip()
    if not text:
        return None
    if not re.fullmatch(r"-?\d+(\.0*)?", text):
        raise ValueError(f"{where}: {column} of {image_id} is {text!r}; write a whole number")
    return int(float(text))


def read_cell(where: str, image_id: str, row: Mapping[str, str]) -> dict[str, Any]:
    """Read what the table of `hf-cells segment` tells of a cell."""
    at_border = (row.get("edge_of_img") or "").strip().lower()
    if at_border not in ("", "0", "1", "0.0", "1.0", "true", "false"):
        raise ValueError(f"{where}: edge_of_img of {image_id} is {at_border!r}; write True or False")
    sides = [read_number(where, image_id, row, name) for name in ("min_col", "min_row", "max_col", "max_row")]
    return {
        "cell_number": read_number(where, image_id, row, "cell_number"),
        "height": read_number(where, image_id, row, "size_y"),
        "width": read_number(where, image_id, row, "size_x"),
        "at_border": at_border in ("1", "1.0", "true") if at_border else None,
        "box": [side for side in sides if side is not None],
    }


def attach_files(
    path: str,
    items: Mapping[str, Item],
    files: Mapping[str, Mapping[str, tuple[Source, str]]],
    config: HPAConfig,
) -> list[str]:
    """Set `files` of every item in the order of the channels; return the IDs that have them."""
    channels = read_channels(config.channels)
    absent = [image_id for image_id in items if not files.get(image_id)]
    if absent and (not config.skip_missing or len(absent) == len(items)):
        raise FileNotFoundError(
            f"{items[absent[0]].where}: {len(absent)} of {len(items)} IDs have no files under {path}, the first is "
            f"{absent[0]} ({absent[0]}_{channels[0]}.png); put them back, or set skip_missing=true"
        )
    if absent:
        logger.warning(f"{path}: {len(absent)} of {len(items)} IDs have no files and are left out")
    present = [image_id for image_id in items if files.get(image_id)]
    for image_id in present:
        own = files[image_id]
        if lacking := [colour for colour in channels if colour not in own]:
            source, name = next(iter(own.values()))
            raise FileNotFoundError(
                f"{source.locate(name)}: {image_id} has no {lacking[0]} channel beside it; put "
                f"{image_id}_{lacking[0]}.png back, or leave it out with the option channels"
            )
        items[image_id].files = {colour: own[colour] for colour in channels}
    return present


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
        classes = [[CLASS_NAMES[label] for label in item.labels] for item in training]
        units = [item.unit for item in training]
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

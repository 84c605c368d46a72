"""HEp-2 cells of the I3A contest (ICPR 2014): six staining patterns of one antibody test, 78x78 grey.

On disk, as a folder or inside zips, in the layout of the contest or in class folders:

    training/NNNNN.png   validation/   test/   gt_training.csv     header Image ID,Image class or ID,category
    {tra,val,tes}/<Class>/NNNNN.png                                or train, training, validation, test

All cells of a specimen have one label, a contiguous run of IDs, and much in common. Which run is which
specimen is not published, so `block_split` divides every class into contiguous blocks of IDs and never
divides a block; the published split, random by cell, has near copies of its test cells in training.
"""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import datasets

from ._reading import Source, ZipSource, decode_image
from ._stratify import assign_stratified_splits
from ._tables import (
    IMAGE_SUFFIX,
    LabelledFile,
    LabelTable,
    add_file,
    check_classes,
    file_key,
    find_sources,
    find_tables,
    merge_tables,
    pixel_hash,
)

CLASS_NAMES = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
CLASSES = {name.lower(): name for name in CLASS_NAMES}
SPLIT_FOLDERS = {
    **dict.fromkeys(("training", "train", "tra"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "tes"), "test"),
}
ID_COLUMNS = ("Image ID", "id", "image", "name", "filename", "file")
LABEL_COLUMNS = ("Image class", "category", "class", "label", "pattern")
BLOCKS, FOLDS = 20, 5
CITATION = """@article{hobson2015benchmarking,
  title   = {Benchmarking human epithelial type 2 interphase cells classification methods on a very large dataset},
  author  = {Hobson, Peter and Lovell, Brian C. and Percannella, Gennaro and Vento, Mario and Wiliem, Arnold},
  journal = {Artificial Intelligence in Medicine}, volume = {65}, number = {3}, pages = {239--250}, year = {2015},
  doi     = {10.1016/j.artmed.2015.08.001}
}"""

logger = datasets.logging.get_logger(__name__)


@dataclass
class HEp2Config(datasets.BuilderConfig):
    """How the cells are split.

    Args:
        fold: For block_split: which fifth of the blocks is `test`, 0 to 4.
        validation_blocks: For block_split: how many of the 20 blocks after those of `test` are `validation`.
        gap_blocks: For block_split: how many blocks before and after those of `test` are in no split. A specimen that
            the border of `test` cuts is otherwise on both sides; it has more than a block of cells.
        test_from: For published_split: "test", or "validation" to make validation/ the split `test` and
            to cut `validation` from training/, for copies of the data without test/.
        pooled: For published_split: cut `validation` anew, out of training/ and validation/ together, so that more
            images are left to learn from; `test` stays as published.
        validation_fraction: Share that is cut for `validation` by test_from="validation" or by pooled.
        split_seed: Seed of that cut.
    """

    fold: int = 0
    validation_blocks: int = 2
    gap_blocks: int = 0
    test_from: str = "test"
    pooled: bool = False
    validation_fraction: float = 0.1
    split_seed: int = 0


@dataclass
class Cell(LabelledFile):
    """One cell: its folders below that of the split, published split, hash of its pixels, and block."""

    folder: str = ""
    split: str = ""
    pixels: str = ""
    group: str = ""


class HEp2(datasets.GeneratorBasedBuilder):
    """Builder of `published_split` (random by cell, leaks) and `block_split` (five folds of ID blocks)."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = HEp2Config
    BUILDER_CONFIGS = [
        HEp2Config(name="published_split", version=VERSION, description="training/, validation/ and test/"),
        HEp2Config(name="block_split", version=VERSION, description="five folds of contiguous IDs"),
    ]
    DEFAULT_CONFIG_NAME = "published_split"

    license = "other"  # for those who registered for the contest; nothing grants redistribution
    redistributable = False
    homepage = "https://hep2.unisa.it"
    citation = CITATION
    class_names = CLASS_NAMES
    class_colors = {
        "Homogeneous": (0, 114, 178),
        "Speckled": (230, 159, 0),
        "Nucleolar": (0, 158, 115),
        "Centromere": (204, 121, 167),
        "NuMem": (86, 180, 233),
        "Golgi": (213, 94, 0),
    }
    group_pattern = rf"^(?:{'|'.join(CLASS_NAMES)})-\d\d$"
    leaky_configs = {
        "published_split": "random by cell: cells of one specimen, and pixel-identical copies, are on both sides"
    }

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="HEp-2 cells under indirect immunofluorescence: six staining patterns.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    "image": datasets.Image(),
                    "label": datasets.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            homepage=self.homepage,
            license=self.license,
            citation=self.citation,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        config = self.config
        check_options(config)
        if config.data_dir is None:
            raise FileNotFoundError(
                "hep2 needs data_dir, the folder or zip with training/ and gt_training.csv; "
                f"the images are given to who registers at {self.homepage}"
            )
        path = str(config.data_dir)
        items = find_items(path)
        set_groups(items)
        if config.name == "block_split":
            splits = split_by_block(path, items, config)
        else:
            splits = split_as_published(path, items, config)
        remedy = "put images of the other classes into training/ and the CSV"
        labels = {split: [item.label for item in splits[split]] for split in splits}
        check_classes(path, labels, CLASS_NAMES, remedy)
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Cell]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:  # every pixel was decoded when the groups were set: bytes are enough here
            image = {"bytes": item.read(), "path": PurePosixPath(item.file).name}
            row = {"image_id": item.image_id, "group": item.group, "image": image, "label": item.label}
            yield item.image_id, row


def check_options(config: HEp2Config) -> None:
    """Refuse options out of range."""
    if config.fold not in range(FOLDS):
        raise ValueError(f"fold={config.fold!r}: choose 0 to {FOLDS - 1}")
    others = BLOCKS - BLOCKS // FOLDS  # one of them at least is to learn from
    if config.gap_blocks not in range((others + 1) // 2):
        raise ValueError(f"gap_blocks={config.gap_blocks!r}: choose 0 to {(others - 1) // 2}")
    most = others - 2 * config.gap_blocks - 1
    if config.validation_blocks not in range(most + 1):
        beside = f" beside gap_blocks={config.gap_blocks}" if config.gap_blocks else ""
        raise ValueError(f"validation_blocks={config.validation_blocks!r}: choose 0 to {most}{beside}")
    if config.test_from not in ("test", "validation"):
        raise ValueError(f"test_from={config.test_from!r}: choose 'test' or 'validation'")


def split_as_published(path: str, items: list[Cell], config: HEp2Config) -> dict[str, list[Cell]]:
    """Return the splits of the folders, or with test_from="validation" those of training/ and validation/."""
    splits: dict[str, list[Cell]] = defaultdict(list)
    for item in items:
        splits[item.split].append(item)
    if config.test_from == "test":
        if "train" in splits and "validation" not in splits:
            raise ValueError(
                f"{path}: training/ has images but validation/ has none; put them back or use the "
                "configuration block_split, which divides all images itself"
            )
        if config.pooled and "train" in splits:
            return _cut_validation([*splits["train"], *splits["validation"]], splits["test"], config)
        return splits
    if missing := {"train", "validation"} - splits.keys():
        raise ValueError(
            f"{path}: test_from='validation' needs images in training/ and validation/, "
            f"and there are none for {' and '.join(sorted(missing))}; put them back"
        )
    if "test" in splits:
        logger.warning(f"{path}: test/ is left out, because test_from='validation'")
    return _cut_validation(splits["train"], splits["validation"], config)


def _cut_validation(training: list[Cell], test: list[Cell], config: HEp2Config) -> dict[str, list[Cell]]:
    """Return the splits with `validation` cut from the training images; equal pictures stay together."""
    copies = [f"{item.label} {item.pixels}" for item in training]
    labels = [item.label for item in training]
    cut: dict[str, list[Cell]] = defaultdict(list, {"test": test} if test else {})
    fractions = {"validation": config.validation_fraction}
    sides = assign_stratified_splits(copies, [[label] for label in labels], fractions, config.split_seed)
    for item, side in zip(training, sides):
        cut[side].append(item)
    return cut


def split_by_block(path: str, items: list[Cell], config: HEp2Config) -> dict[str, list[Cell]]:
    """Return blocks 4k..4k+3 as `test`, the next ones as `validation` (cyclic), the rest but the gaps as `train`."""
    test_blocks, gap, validation_blocks = BLOCKS // FOLDS, config.gap_blocks, config.validation_blocks
    splits: dict[str, list[Cell]] = defaultdict(list)
    for item in items:
        place = (int(item.group[-2:]) - config.fold * test_blocks) % BLOCKS
        if place < test_blocks:
            splits["test"].append(item)
        elif test_blocks + gap <= place < BLOCKS - gap:
            later = place < test_blocks + gap + validation_blocks
            splits["validation" if later else "train"].append(item)
    wanted = ["train", "test", *(["validation"] if validation_blocks else [])]
    if empty := [split for split in wanted if not splits.get(split)]:
        raise ValueError(
            f"{path}: {len(items)} images are too few for blocks: {' and '.join(empty)} would be empty; "
            f"give at least {BLOCKS} images of a class, or other folds or validation_blocks"
        )
    return splits


def set_groups(items: Sequence[Cell]) -> None:
    """Decode every image and set `pixels` and `group`, "<Class>-<NN>" with NN from 00 to 19.

    Blocks are contiguous in the sorted IDs of a class; equal pictures sit together at the first's place.

    Raises:
        ValueError: An image is damaged.
    """
    labels: dict[str, str] = {}
    conflicts = 0
    copies: dict[str, dict[str, list[Cell]]] = {name: defaultdict(list) for name in CLASS_NAMES}
    for item in sorted(items, key=id_order):
        image = decode_image(item.read(), item.where)
        item.pixels = pixel_hash(image)
        copies[item.label][item.pixels].append(item)
        conflicts += labels.setdefault(item.pixels, item.label) != item.label
    if conflicts:
        logger.warning(f"{conflicts} images are equal to one of another class, pixel by pixel")
    for label, pictures in copies.items():
        count, place = sum(map(len, pictures.values())), 0
        for equal in pictures.values():  # in the order of their first IDs
            for item in equal:
                item.group = f"{label}-{BLOCKS * place // count:02d}"
            place += len(equal)


def id_order(item: Cell) -> tuple[bool, int, str]:
    """Sort numbers as numbers, then all else by name."""
    number = item.image_id.isdecimal()
    return not number, int(item.image_id) if number else 0, item.image_id


def image_key(name: str) -> str:
    """Return the ID of an image as five digits, whether it was padded, a file name, or a spreadsheet's 1.0."""
    key = file_key(name)
    number = re.fullmatch(r"([0-9]+)(\.0*)?", key)
    return f"{int(number[1]):05d}" if number else key


def find_items(path: str) -> list[Cell]:
    """Find the labelled images under a folder or in a zip, sorted by ID.

    Raises:
        FileNotFoundError: There are no images or no labels.
        ValueError: An image lacks its label, a label its image, an ID stands for two, or a file is damaged.
    """
    sources = find_sources(path, "hep")
    found: dict[str, dict[str, Cell]] = {}
    for source in sources:
        for split, items in collect(source).items():
            first = next(iter(found.get(split, {}).values()), None)
            if first is None:
                found[split] = items
            elif isinstance(first.source, ZipSource):
                raise ValueError(
                    f"{path}: the images of {split} are in {first.source.path} and in {source.path}; keep one"
                )
    images: dict[str, Cell] = {}
    for items in found.values():
        for item in items.values():
            add_file(images, item)
    if not images:
        raise FileNotFoundError(
            f"{path}: no images found; expected training/NNNNN.png, validation/ and test/ with gt_training.csv, "
            "or train/<Class>/*.png and so on"
        )
    table = merge_tables(find_tables(sources, ID_COLUMNS, LABEL_COLUMNS, CLASSES, image_key))
    check_missing(table, images.keys(), found.keys())
    labelled = attach_labels(path, found, table)
    return sorted((item for items in labelled.values() for item in items), key=id_order)


def collect(source: Source) -> dict[str, dict[str, Cell]]:
    """Sort the images of a source into splits by the nearest folder that is named like one.

    Images at the top belong to a split when the source itself is named like one, as in test.zip.
    """
    found: dict[str, dict[str, Cell]] = defaultdict(dict)
    for name in source.names():
        *folders, file = name.lower().split("/")
        if not IMAGE_SUFFIX.search(file):
            continue
        depth = max((i for i, folder in enumerate(folders) if folder in SPLIT_FOLDERS), default=-1)
        split = SPLIT_FOLDERS[folders[depth]] if depth >= 0 else ""
        folder = "/".join(name.split("/")[depth + 1 : -1])
        cell = Cell(image_key(name), source, name, folder=folder, split=split)
        add_file(found[split], cell)
    loose = found.pop("", {})
    own = SPLIT_FOLDERS.get(os.path.basename(os.path.abspath(source.path)).lower().removesuffix(".zip"))
    if loose and own and not found:
        for item in loose.values():
            item.split = own
        return {own: loose}
    if loose:
        logger.warning(
            f"{source.path}: {len(loose)} images outside training/, validation/, test/ are left out"
        )
    return found


def check_missing(table: LabelTable, images: Collection[str], splits: Collection[str]) -> None:
    """Refuse labels without an image; only warn where a whole split is not there and they may belong to it."""
    missing = sorted(table.labels.keys() - set(images))
    if not missing:
        return
    text = (
        f"{table.where}: {len(missing)} of {len(table.labels)} IDs have no image, the first is {missing[0]}"
    )
    absent = [split for split in ("train", "validation", "test") if split not in splits]
    if not absent:
        raise ValueError(f"{text}; put the images back or remove these rows")
    logger.warning(f"{text}; they are left out, as there are no images for {' and '.join(absent)}")


def attach_labels(
    path: str, found: Mapping[str, Mapping[str, Cell]], table: LabelTable
) -> dict[str, list[Cell]]:
    """Set labels from class folders and tables; leave out test/ when none of its images has one."""
    labelled: dict[str, list[Cell]] = {}
    for split, items in found.items():
        for item in items.values():
            listed, item.label = table.labels.get(item.image_id), CLASSES.get(item.folder.lower(), "")
            item.label = item.label or listed or ""
            if listed not in (None, item.label):
                raise ValueError(
                    f"{item.where}: is in the folder of {item.label} but {table.where} says {listed}; "
                    "move it or mend the row"
                )
        labelled[split] = [item for item in items.values() if item.label]
        bare = [item for item in items.values() if not item.label]
        if bare and (labelled[split] or split != "test"):
            raise unlabelled(path, bare, len(items), table)
        if bare:
            logger.warning(f"{path}: test/ is left out: none of its {len(bare)} images has a label")
    if not any(labelled.values()):
        bare = list(found["test"].values())
        raise unlabelled(path, bare, len(bare), table)
    return labelled


def unlabelled(path: str, bare: Sequence[Cell], count: int, table: LabelTable) -> Exception:
    """Return the error for images without a label: their folder is no class, or a CSV lacks them, or is not there."""
    first = bare[0]
    if first.folder and not table.labels:
        return ValueError(
            f"{first.where}: its folder {first.folder!r} is not a class; rename it to one of: "
            + ", ".join(CLASS_NAMES)
        )
    if not table.labels:
        return FileNotFoundError(
            f"{path}: no CSV with labels; put gt_training.csv with the header 'Image ID,Image class' "
            "beside training/"
        )
    return ValueError(
        f"{first.where}: has no label, as {len(bare)} of {count} images beside it; "
        f"add them to {table.where} or remove the images"
    )

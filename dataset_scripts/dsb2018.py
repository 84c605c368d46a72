"""2018 Data Science Bowl: nuclei in many kinds of microscope image (BBBC038), semantic or instance masks.

On disk, as folders or inside the zips of the contest:

    stage1_train/<id>/images/<id>.png     the image, RGBA, 256x256 to 1040x1388
    stage1_train/<id>/masks/*.png         one mask per nucleus
    stage1_test/<id>/images/<id>.png      optional; its truth is <id>/masks/ or stage1_solution.csv
    stage2_test_final/<id>/images/...     optional; its truth is stage2_solution_final.csv

Labelled contest images become the split `test`; without them `test` is cut from stage1_train.
"""

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ._reading import (
    FolderSource,
    Source,
    ZipSource,
    assign_splits,
    decode_image,
    decode_rle,
    encode_png,
    foreground,
    merge_objects,
    modality_of,
    read_csv,
    read_group_table,
    zips_in,
)

URL = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
STAGE = re.compile(r"stage1_train|stage1_test|stage2_test")
CITATION = """@article{caicedo2019nucleus,
  title   = {Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl},
  author  = {Caicedo, Juan C. and Goodman, Allen and Karhohs, Kyle W. and others},
  journal = {Nature Methods}, volume = {16}, pages = {1247--1253}, year = {2019},
  doi     = {10.1038/s41592-019-0612-7}
}"""

logger = datasets.logging.get_logger(__name__)


@dataclass
class DSB2018Config(datasets.BuilderConfig):
    """How the images are split.

    Args:
        split_by: "random" (by image), "modality" (by stain, background and image size, read from the
            pixels) or "project" (by `project_table`). Whole groups go to one side.
        split_seed: Seed of the split.
        validation_fraction: Share of the stage1_train images for `validation`.
        test_fraction: Share for `test` where no labelled contest images are there.
        project_table: CSV file with an image column and a project column.
        test_groups: Groups that make up `test`, whatever the fraction; contest images are then left out.
    """

    split_by: str = "random"
    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    project_table: str | None = None
    test_groups: tuple[str, ...] | None = None


@dataclass
class Item:
    """One image and where its truth is: mask files, or run lengths of a solution CSV."""

    image_id: str
    source: Source
    image: str = ""
    masks: list[str] = field(default_factory=list)
    runs: "Runs | None" = None
    group: str | None = None


@dataclass
class Runs:
    """The rows of one image in a solution CSV."""

    file: str
    height: int
    width: int
    encoded: list[str] = field(default_factory=list)
    ignored: bool = False


class DSB2018(datasets.GeneratorBasedBuilder):
    """Builder of the configurations `semantic` (0/1 masks) and `instance` (16-bit label images)."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = DSB2018Config
    BUILDER_CONFIGS = [
        DSB2018Config(name="semantic", version=VERSION, description="uint8 masks: 1 = nucleus"),
        DSB2018Config(name="instance", version=VERSION, description="16-bit labels: 1..n = nuclei"),
    ]
    DEFAULT_CONFIG_NAME = "instance"

    license = "cc0-1.0"
    redistributable = True
    homepage = "https://bbbc.broadinstitute.org/BBBC038"
    citation = CITATION
    class_names = ("background", "nucleus")
    class_colors = {"background": (0, 0, 0), "nucleus": (255, 255, 255)}
    group_pattern = r"^[a-z_]+-\d+x\d+$"  # groups of split_by="modality"; projects come from a table

    def _info(self) -> datasets.DatasetInfo:
        target = "semantic_mask" if self.config.name == "semantic" else "instance_labels"
        return datasets.DatasetInfo(
            description="Nuclei of the 2018 Data Science Bowl: fluorescence, histology and bright field.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    "modality": datasets.Value("string"),
                    "image": datasets.Image(),
                    target: datasets.Image(),
                }
            ),
            homepage=self.homepage,
            license=self.license,
            citation=self.citation,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.split_by not in ("random", "modality", "project"):
            raise ValueError(f"split_by={self.config.split_by!r}: choose 'random', 'modality' or 'project'")
        splits = self._split(find_items(self.config.data_dir or download(dl_manager)))
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _split(self, stages: dict[str, list[Item]]) -> dict[str, list[Item]]:
        config = self.config
        for items in stages.values():
            self._set_groups(items)
        training = stages.get("stage1_train", [])
        contest = stages.get("stage1_test") or stages.get("stage2_test") or []
        if not training:
            return {"test": contest}
        forced, fractions = {}, {"test": config.test_fraction, "validation": config.validation_fraction}
        if config.test_groups:
            if config.split_by == "random":
                raise ValueError("test_groups needs split_by='modality' or split_by='project'")
            forced, contest = dict.fromkeys(config.test_groups, "test"), []
        if contest:
            fractions.pop("test")

        by_image = config.split_by == "random"
        groups = [item.image_id if by_image else str(item.group) for item in training]
        shared = {item.group for item in training} & {item.group for item in contest} - {None}
        if shared:
            logger.warning(f"{len(shared)} groups are in stage1_train and in the contest's test images")
        splits: dict[str, list[Item]] = defaultdict(list, {"test": list(contest)} if contest else {})
        for item, split in zip(training, assign_splits(groups, fractions, config.split_seed, forced)):
            splits[split].append(item)
        return splits

    def _set_groups(self, items: list[Item]) -> None:
        """Set `group`: the project where a table is given, else what `split_by` asks for."""
        config = self.config
        if config.split_by == "modality":
            for item in items:
                image = read_image(item)
                item.group = f"{modality_of(image)}-{image.height}x{image.width}"
        elif config.project_table:
            projects = read_group_table(config.project_table)
            for item in items:
                item.group = projects.get(item.image_id)
            missing = [item.image_id for item in items if item.group is None]
            if missing and config.split_by == "project":
                raise ValueError(
                    f"{config.project_table}: no project for {len(missing)} of {len(items)} images, "
                    f"the first is {missing[0]}; add them to the table or use split_by='modality'"
                )
        elif config.split_by == "project":
            raise ValueError("split_by='project' needs project_table='<CSV with image_id and project>'")

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            image_bytes = item.source.read(item.image)
            image = decode_image(image_bytes, item.source.locate(item.image))
            labels = read_labels(item, (image.height, image.width))
            row: dict[str, Any] = {
                "image_id": item.image_id,
                "group": item.group,
                "modality": modality_of(image),
                "image": {"bytes": image_bytes, "path": PurePosixPath(item.image).name},
            }
            if self.config.name == "semantic":
                row["semantic_mask"] = {"bytes": encode_png((labels > 0).astype(np.uint8)), "path": None}
            else:
                row["instance_labels"] = {"bytes": encode_png(labels), "path": None}
            yield item.image_id, row


def download(dl_manager: datasets.DownloadManager) -> str:
    """Fetch stage1_train.zip from its home."""
    try:
        return dl_manager.download(URL)
    except OSError as error:
        raise FileNotFoundError(f"{URL}: cannot be downloaded; get it yourself and pass data_dir") from error


def read_image(item: Item) -> Image.Image:
    """Decode the image of an item."""
    return decode_image(item.source.read(item.image), item.source.locate(item.image))


def read_labels(item: Item, shape: tuple[int, int]) -> np.ndarray:
    """Merge the masks or run lengths of an item into uint16 labels (H, W); the smaller of two wins."""
    where = item.source.locate(item.image)
    objects = []
    if item.runs is not None:
        if (item.runs.height, item.runs.width) != shape:
            raise ValueError(
                f"{item.runs.file}: {item.image_id} is {item.runs.height}x{item.runs.width} there but "
                f"{shape[0]}x{shape[1]} in {where}; use the CSV of these images"
            )
        name = f"{item.runs.file}, image {item.image_id}"
        objects = [decode_rle(runs, *shape, name) for runs in item.runs.encoded]
    for mask_name in item.masks:
        mask_where = item.source.locate(mask_name)
        mask = decode_image(item.source.read(mask_name), mask_where)
        if (mask.height, mask.width) != shape:
            raise ValueError(
                f"{mask_where}: is {mask.height}x{mask.width} but its image is {shape[0]}x{shape[1]}; "
                "replace the mask with one of the image's size"
            )
        pixels = foreground(mask)
        if not pixels[2].size:
            logger.warning(f"{mask_where}: the mask is empty and counts as no nucleus")
        objects.append(pixels)
    try:
        return merge_objects(shape, objects)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def find_items(path: str) -> dict[str, list[Item]]:
    """Find the labelled images under a folder or in a zip.

    Args:
        path: A folder that holds or is a stage, a folder with zips, or one zip.

    Returns:
        Items sorted by image id for each of "stage1_train", "stage1_test", "stage2_test" that is there.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: An image lacks its truth, a mask its image, or a file is damaged or unsafe.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path}: no such file or folder; data_dir is where stage1_train or its zip is"
        )
    found: dict[str, dict[str, Item]] = {}
    sources = find_sources(path)
    for source in sources:
        for stage, items in collect_stages(
            source, default="stage1_train" if source.path == path else ""
        ).items():
            first = next(iter(found.get(stage, {}).values()), None)
            if first is None:
                found[stage] = items
            elif isinstance(first.source, ZipSource):
                raise ValueError(
                    f"{path}: {stage} is in {first.source.path} and in {source.path}; keep one of them"
                )
    if not found:
        broken = [p for p in zips_in(path) if not zipfile.is_zipfile(p)]
        hint = f" ({broken[0]} is truncated or not a zip: download it again)" if broken else ""
        raise FileNotFoundError(
            f"{path}: no images found{hint}; expected stage1_train/<id>/images/<id>.png and "
            f"stage1_train/<id>/masks/*.png, as a folder or as stage1_train.zip ({URL})"
        )
    solutions = read_solutions(path, sources)
    labelled = {stage: attach_truth(path, stage, items, solutions) for stage, items in found.items()}
    if not any(labelled.values()):
        raise ValueError(
            f"{path}: {', '.join(found)} has neither masks/ nor a solution CSV; "
            "put stage1_solution.csv beside it"
        )
    return labelled


def find_sources(path: str) -> list[Source]:
    """Return the zip, or the folder and then those of its zips that could hold images of a stage."""
    if os.path.isfile(path):
        return [ZipSource(path)]
    named = [z for z in zips_in(path) if STAGE.search(os.path.basename(z))]
    others = [z for z in zips_in(path) if z not in named and zipfile.is_zipfile(z)]
    return [FolderSource(path), *map(ZipSource, named + others)]


def collect_stages(source: Source, default: str) -> dict[str, dict[str, Item]]:
    """Sort the files of a source into stages and images; other files are left alone.

    Args:
        source: Where to look.
        default: Stage of `<id>/images/` at the top when the source's own name does not tell.
    """
    own = STAGE.search(os.path.basename(os.path.abspath(source.path)))
    top = own.group() if own else default
    stages: dict[str, dict[str, Item]] = defaultdict(dict)
    for name in source.names():
        *prefix, image_id, kind, file = ["", "", "", *name.split("/")]
        if kind not in ("images", "masks") or not image_id or file in ("Thumbs.db", "desktop.ini"):
            continue
        inner = STAGE.findall("/".join(prefix))
        stage = inner[-1] if inner else "" if any(prefix) else top
        if not stage:
            continue
        item = stages[stage].setdefault(image_id, Item(image_id, source))
        if kind == "masks":
            item.masks.append(name)
        elif not item.image:
            item.image = name
        else:
            raise ValueError(
                f"{source.locate(name)}: a second image beside {PurePosixPath(item.image).name}; "
                "keep one image per <id>/images/ (a folder of many images is loaded by its path instead)"
            )
    if isinstance(source, ZipSource) and (stages or top):
        source.check()
    return stages


def attach_truth(path: str, stage: str, items: dict[str, Item], solutions: dict[str, Runs]) -> list[Item]:
    """Return the items that have truth; none of a contest stage without any, but never only some."""
    labelled: list[Item] = []
    bare: list[Item] = []
    for image_id, item in sorted(items.items()):
        if not item.image:
            raise ValueError(
                f"{item.source.locate(item.masks[0])}: a mask without its image; "
                f"put {image_id}/images/{image_id}.png back or remove the folder {image_id}"
            )
        item.runs = None if item.masks else solutions.get(image_id)
        if item.runs is not None and item.runs.ignored:
            continue  # the contest showed this image but did not score it
        (labelled if item.masks or item.runs else bare).append(item)
    if bare and (labelled or stage == "stage1_train"):
        raise ValueError(
            f"{bare[0].source.locate(bare[0].image)}: has no masks, as {len(bare)} of {len(items)} images of "
            f"{stage}; put its masks into {bare[0].image_id}/masks/ or remove the image"
        )
    if bare:
        logger.warning(f"{path}: {stage} has neither masks/ nor a solution CSV and is left out")
    return labelled


def read_solutions(path: str, sources: list[Source]) -> dict[str, Runs]:
    """Read every `*solution*.csv` in the sources, or beside a `path` that is itself a zip or a stage."""
    path = os.path.abspath(path)
    if os.path.isfile(path) or STAGE.search(os.path.basename(path)):
        folder = os.path.dirname(path)
        zips = [z for z in zips_in(folder) if "solution" in os.path.basename(z) and zipfile.is_zipfile(z)]
        sources = [*sources, FolderSource(folder, max_depth=1), *map(ZipSource, zips)]
    runs: dict[str, Runs] = {}
    for source in sources:
        for name in source.names():
            if re.search(r"solution.*\.csv$", PurePosixPath(name).name, re.IGNORECASE):
                runs = read_solution(source, name) | runs
    return runs


def read_solution(source: Source, name: str) -> dict[str, Runs]:
    """Read a solution CSV: one row per nucleus; images with only `Ignored` rows are marked so."""
    where = source.locate(name)
    images: dict[str, Runs] = {}
    for row in read_csv(where, source.read(name)):
        try:
            image_id, encoded = row["imageid"], row["encodedpixels"].strip()
            runs = images.setdefault(image_id, Runs(where, int(row["height"]), int(row["width"]), [], True))
        except (KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{where}: cannot be read as a solution ({error!r}); "
                "it needs the columns ImageId, EncodedPixels, Height, Width"
            ) from error
        if (row.get("usage") or "").strip().lower() == "ignored":
            continue
        runs.ignored = False
        if encoded:
            runs.encoded.append(encoded)
    return images

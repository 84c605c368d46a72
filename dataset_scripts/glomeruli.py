"""Glomeruli in PAS-stained kidney sections: crops that are globally sclerotic or not.

On disk, as a folder or inside a zip:

    any/place/<name>.png      crops, RGB or RGBA, of any size
    any.csv                   header name,ground truth; 0 = non-sclerotic, 1 = globally sclerotic

Names carry the case and the slide: S-YYYY-NNNNNN_PAS_1of2_<hex>.png is slide 1of2 of case S-YYYY-NNNNNN.
Crops of one case look alike, so a whole case goes to one side. Names may identify a patient: this script
puts them into no message but errors.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
)

CLASS_NAMES = ("non-sclerotic", "sclerotic")
CLASSES = {
    **dict.fromkeys(("0", "0.0", "non-sclerotic", "non_sclerotic", "nonsclerotic"), "non-sclerotic"),
    **dict.fromkeys(("1", "1.0", "sclerotic", "globally sclerotic"), "sclerotic"),
}
NAME_COLUMNS = ("name", "filename", "file", "image", "image name", "image id")
LABEL_COLUMNS = ("ground truth", "label", "class")
CASE_PATTERN = r"^(?P<case>[^_]+)_[A-Za-z]+_(?P<slide>\d+of\d+)_"


@dataclass
class GlomeruliConfig(datasets.BuilderConfig):
    """How the crops are split.

    Args:
        split_seed: Seed of the split.
        validation_fraction: Share of the images for `validation`.
        test_fraction: Share of the images for `test`.
        case_pattern: Regular expression that finds `(?P<case>...)` and perhaps `(?P<slide>...)` in a name.
    """

    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    case_pattern: str = CASE_PATTERN


@dataclass
class Crop(LabelledFile):
    """One crop with its case and slide."""

    case: str | None = None
    slide: str | None = None


class Glomeruli(datasets.GeneratorBasedBuilder):
    """Builder of `case_split` (whole cases) and `random_split` (by image as in the source, leaks)."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = GlomeruliConfig
    BUILDER_CONFIGS = [
        GlomeruliConfig(name="case_split", version=VERSION, description="a case is in one split only"),
        GlomeruliConfig(name="random_split", version=VERSION, description="by image, as in the source"),
    ]
    DEFAULT_CONFIG_NAME = "case_split"

    license = "unknown"
    redistributable = False
    homepage = "https://github.com/pankaj-chand/Globally_Sclerotic_Glomeruli"
    citation = ""
    class_names = CLASS_NAMES
    class_colors = {"non-sclerotic": (0, 114, 178), "sclerotic": (213, 94, 0)}
    group_pattern = CASE_PATTERN  # in the names; its `case` is the group
    leaky_configs = {"random_split": "random by image: images of one case are on both sides"}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Glomeruli in PAS-stained kidney sections, globally sclerotic or not.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    "slide": datasets.Value("string"),
                    "image": datasets.Image(),
                    "label": datasets.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            homepage=self.homepage,
            license=self.license,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        config = self.config
        if config.data_dir is None:
            raise FileNotFoundError(
                "glomeruli needs data_dir, the folder or zip with the crops and their CSV 'name,ground truth'; "
                "the images are not public"
            )
        path, by_case = str(config.data_dir), config.name == "case_split"
        items = find_items(path)
        set_cases(path, items, config.case_pattern, required=by_case)
        splits = split_items(path, items, config)
        labels = {name: [item.label for item in part] for name, part in splits.items()}
        remedy = "add cases of the other, or set test_fraction=0, or use the configuration random_split"
        check_classes(path, labels, CLASS_NAMES, remedy if by_case else "add images of the other")
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Crop]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            image_bytes = item.read()
            decode_image(image_bytes, item.where)
            row = {"image_id": item.image_id, "group": item.case, "slide": item.slide, "label": item.label}
            image = {"bytes": image_bytes, "path": PurePosixPath(item.file).name}
            yield item.image_id, row | {"image": image}


def split_items(path: str, items: Sequence[Crop], config: GlomeruliConfig) -> dict[str, list[Crop]]:
    """Split by case or by image.

    Raises:
        ValueError: A split that was asked for would be empty, or the fractions are out of range.
    """
    by_case = config.name == "case_split"
    groups = [str(item.case) if by_case else item.image_id for item in items]
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    sides = assign_stratified_splits(groups, [[item.label] for item in items], fractions, config.split_seed)
    splits: dict[str, list[Crop]] = defaultdict(list)
    for item, side in zip(items, sides):
        splits[side].append(item)
    if empty := [name for name, fraction in fractions.items() if fraction > 0 and name not in splits]:
        what, remedy = ("cases", ", or use the configuration random_split") if by_case else ("images", "")
        raise ValueError(
            f"{path}: {len(set(groups))} {what} are too few: {' and '.join(empty)} would be empty; "
            f"add more, or set {empty[0]}_fraction=0{remedy}"
        )
    return splits


def set_cases(path: str, items: Sequence[Crop], pattern: str, required: bool) -> None:
    """Set case and slide from the names; a name that does not tell has none when not `required`.

    Raises:
        ValueError: The pattern is no such expression, or fails on a name where a case is required.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"case_pattern={pattern!r} is not a regular expression ({error}); mend it"
        ) from error
    if "case" not in expression.groupindex:
        raise ValueError(f"case_pattern={pattern!r} has no group (?P<case>...); put it around the case")
    for item in items:
        match = expression.search(item.image_id)
        found = match.groupdict() if match else {}
        item.case, item.slide = found.get("case") or None, found.get("slide") or None
    unknown = [item for item in items if item.case is None]
    if unknown and required:
        raise ValueError(
            f"{path}: case_pattern={pattern!r} finds no case in {len(unknown)} of {len(items)} names, such as "
            f"{unknown[0].image_id!r}; give another case_pattern with (?P<case>...) or use random_split"
        )


def find_items(path: str) -> list[Crop]:
    """Find the labelled crops under a folder or in a zip, sorted by name.

    Raises:
        FileNotFoundError: There are no images, or no CSV.
        ValueError: An image lacks its label, a label its image, or there are two CSVs or files of one name.
    """
    sources = find_sources(path, "glom")
    holders = [source for source in sources if any(map(IMAGE_SUFFIX.search, source.names()))]
    if not holders:
        raise FileNotFoundError(f"{path}: no images found; expected PNG crops and a CSV 'name,ground truth'")
    if len(holders) > 1 and isinstance(holders[0], ZipSource):
        raise ValueError(
            f"{path}: images are in {holders[0].path} and in {holders[1].path}; keep one of them"
        )
    images: dict[str, Crop] = {}
    for file in filter(IMAGE_SUFFIX.search, holders[0].names()):
        add_file(images, Crop(file_key(file), holders[0], file))
    table = the_table(path, [holders[0], *(source for source in sources if source is not holders[0])])
    if bare := sorted(images.keys() - table.labels.keys()):
        raise ValueError(
            f"{images[bare[0]].where}: has no label, as {len(bare)} of {len(images)} images; "
            f"add them to {table.where} or remove the images"
        )
    if missing := sorted(table.labels.keys() - images.keys()):
        raise ValueError(
            f"{table.where}: {len(missing)} of {len(table.labels)} names have no image, the first is "
            f"{missing[0]!r}; put the images back or remove these rows"
        )
    for name, item in images.items():
        item.label = table.labels[name]
    return [images[name] for name in sorted(images)]


def the_table(path: str, sources: Sequence[Source]) -> LabelTable:
    """Return the label table of the first source that has one."""
    tables = find_tables(sources, NAME_COLUMNS, LABEL_COLUMNS, CLASSES, first_source_only=True)
    if not tables:
        raise FileNotFoundError(
            f"{path}: no CSV with labels; put one with the header 'name,ground truth' beside the images"
        )
    if len(tables) > 1:
        raise ValueError(f"{tables[0].where} and {tables[1].where}: two CSVs of labels; keep one of them")
    return tables[0]

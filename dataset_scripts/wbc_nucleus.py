"""White blood cells with masks of nucleus and cytoplasm (Zheng 2018): background, cytoplasm, nucleus.

On disk, as folders or inside a zip:

    Dataset 1/NNN.bmp     120x120, rapid stain, yellow glass
    Dataset 1/NNN.png     mask: 0 background and red cells, 128 cytoplasm, 255 nucleus
    Dataset 2/NNN.bmp     300x300, the usual stain, many red cells
    Dataset 2/NNN.png

Each folder is a microscope and a stain: its images are divided between the splits in the same proportion.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import datasets
import numpy as np

from ._reading import Source, ZipSource, assign_splits, decode_image, encode_png
from ._tables import IMAGE_SUFFIX, file_key, find_sources, pixel_hash

CLASS_NAMES = ("background", "cytoplasm", "nucleus")
SMOOTHED = 0.01  # share of pixels between the three greys: a few strokes of a soft brush are in the originals
CITATION = """@article{zheng2018fast,
  title   = {Fast and robust segmentation of white blood cell images by self-supervised learning},
  author  = {Zheng, Xin and Wang, Yong and Wang, Guoyou and Liu, Jianguo},
  journal = {Micron}, volume = {107}, pages = {55--71}, year = {2018},
  doi     = {10.1016/j.micron.2018.01.010}
}"""


@dataclass
class WBCNucleusConfig(datasets.BuilderConfig):
    """How the images are split.

    Args:
        split_seed: Seed of the split.
        validation_fraction: Share of the images of each folder for `validation`.
        test_fraction: Share of the images of each folder for `test`.
    """

    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2


@dataclass
class Item:
    """One image and its mask."""

    image_id: str
    source: Source
    image: str
    mask: str
    folder: str
    group: str = ""


class WBCNucleus(datasets.GeneratorBasedBuilder):
    """Builder of `semantic`: uint8 masks, 0 background, 1 cytoplasm, 2 nucleus."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = WBCNucleusConfig
    BUILDER_CONFIGS = [
        WBCNucleusConfig(name="semantic", version=VERSION, description="0 background, 1 cytoplasm, 2 nucleus")
    ]
    DEFAULT_CONFIG_NAME = "semantic"

    license = "gpl-3.0"
    redistributable = False  # images of two companies, to be acknowledged; the licence is of the repository
    homepage = "https://github.com/zxaoyou/segmentation_WBC"
    citation = CITATION
    class_names = CLASS_NAMES
    class_colors = {"background": (0, 0, 0), "cytoplasm": (86, 180, 233), "nucleus": (213, 94, 0)}
    group_pattern = r"^(?P<folder>.+)/(?P<image>[^/]+)$"  # of the first of pixel-identical images
    leaky_configs: dict[str, str] = {}

    @staticmethod
    def recognises(path: str) -> bool:
        """Tell whether images lie there with masks of their own names beside them."""
        try:
            return bool(find_items(path))
        except (ValueError, FileNotFoundError):
            return False

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="White blood cells with masks of nucleus and cytoplasm.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    "modality": datasets.Value("string"),
                    "image": datasets.Image(),
                    "semantic_mask": datasets.Image(),
                }
            ),
            homepage=self.homepage,
            license=self.license,
            citation=self.citation,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is None:
            raise FileNotFoundError(
                "wbc_nucleus needs data_dir, the folder or zip with 'Dataset 1/001.bmp' and '001.png' from "
                + self.homepage
            )
        splits = split_items(find_items(str(self.config.data_dir)), self.config)
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            image_bytes = item.source.read(item.image)
            row = {
                "image_id": item.image_id,
                "group": item.group,
                "modality": item.folder,
                "image": {"bytes": image_bytes, "path": PurePosixPath(item.image).name},
                "semantic_mask": {"bytes": encode_png(read_mask(item, image_bytes)), "path": None},
            }
            yield item.image_id, row


def find_items(path: str) -> list[Item]:
    """Find the images with their masks under a folder or in a zip, sorted by name.

    Raises:
        FileNotFoundError: There are none.
        ValueError: An image lacks its mask, or a mask its image.
    """
    for source in find_sources(path, "wbc"):
        names = [name for name in source.names() if IMAGE_SUFFIX.search(name)]
        masks = {name[: -len(".png")]: name for name in names if name.lower().endswith(".png")}
        images = {IMAGE_SUFFIX.sub("", name): name for name in names if name not in masks.values()}
        if not images:
            continue
        if lone := sorted(images.keys() ^ masks.keys()):
            name, lacks = (images[lone[0]], "mask") if lone[0] in images else (masks[lone[0]], "image")
            raise ValueError(
                f"{source.locate(name)}: has no {lacks}, as {len(lone)} files; put the {lacks} of the same "
                "name beside it or remove it"
            )
        items = [make_item(source, images[key], masks[key]) for key in sorted(images)]
        set_groups(items)
        return items
    raise FileNotFoundError(f"{path}: no images found; expected 'Dataset 1/001.bmp' with its mask 001.png")


def make_item(source: Source, image: str, mask: str) -> Item:
    """Name an image after its folder and file."""
    folder = PurePosixPath(image).parent.name
    name = folder or PurePosixPath(source.path).stem
    prefix = f"{name}-" if isinstance(source, ZipSource) or folder else ""
    return Item(f"{prefix}{file_key(image)}".replace(" ", "_").lower(), source, image, mask, name)


def set_groups(items: list[Item]) -> None:
    """Group pixel-identical images; every other image is a group of its own."""
    first: dict[str, str] = {}
    for item in items:
        image = decode_image(item.source.read(item.image), item.source.locate(item.image))
        item.group = first.setdefault(pixel_hash(image), f"{item.folder}/{file_key(item.image)}")


def split_items(items: list[Item], config: WBCNucleusConfig) -> dict[str, list[Item]]:
    """Split each folder alike; a group that is in two folders goes where the first of them went."""
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    by_folder: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_folder[item.group.rpartition("/")[0]].append(item)
    splits: dict[str, list[Item]] = defaultdict(list)
    for folder in sorted(by_folder):
        own = by_folder[folder]
        for item, side in zip(own, assign_splits([i.group for i in own], fractions, config.split_seed)):
            splits[side].append(item)
    return splits


def read_mask(item: Item, image_bytes: bytes) -> np.ndarray:
    """Read a mask as class ids uint8 (H, W).

    Raises:
        ValueError: Another size than the image, or many greys that are none of the three.
    """
    where = item.source.locate(item.mask)
    mask = decode_image(item.source.read(item.mask), where)
    image = decode_image(image_bytes, item.source.locate(item.image))
    if mask.size != image.size:
        raise ValueError(
            f"{where}: is {mask.height}x{mask.width} but its image is {image.height}x{image.width}; "
            "replace the mask with one of the image's size"
        )
    grey = np.asarray(mask.convert("L")).astype(np.int16)
    levels = np.array([0, 128, 255], np.int16)
    distance = np.abs(grey[..., None] - levels)
    between = distance.min(-1) > 8
    if between.mean() > SMOOTHED:
        foreign = int(grey[between][0])
        raise ValueError(
            f"{where}: has the grey {foreign}; use 0 for background, 128 for cytoplasm and 255 for nucleus, "
            "without smoothing"
        )
    return distance.argmin(-1).astype(np.uint8)

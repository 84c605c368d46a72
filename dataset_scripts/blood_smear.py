"""Composed blood smears: ten classes, instances, or which cells are there.

On disk, as a folder or inside a zip, what `hf-cells compose dataset` writes:

    <split>/images/NNN.png       RGB
    <split>/labels/NNN.json      {"objects": [{"id", "class", "box": [left, top, right, bottom], "sample",
                                 "pasted", ...}], "background": {"name": ...}, "layout": ...}
    <split>/segments/NNN.png     colour map: a palette of the class colours, or RGB in these colours
    <split>/instances/NNN.png    16-bit labels 1..n, the ids of the objects

with the splits train, validation (or valid, val) and test. Samples were divided between the splits before
anything was composed, so the splits are taken as they are.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ._reading import FolderSource, Source, ZipSource, decode_image, encode_png, zips_in

CLASS_COLORS = {
    "background": (0x00, 0x00, 0x00),
    "eosinophil": (0x00, 0xFF, 0xFF),
    "basophil": (0x00, 0x80, 0x80),
    "neutrophil": (0xFB, 0xBE, 0xBE),
    "lymphocyte": (0x80, 0x80, 0x00),
    "monocyte": (0x00, 0x00, 0x80),
    "thrombocyte": (0xFF, 0xFF, 0x00),
    "platelet_clump": (0xFF, 0x00, 0xFF),
    "infected_rbc": (0xFF, 0x00, 0x00),
    "healthy_rbc": (0x00, 0xFF, 0x00),
}
CLASS_NAMES = tuple(CLASS_COLORS)
CELL_NAMES = CLASS_NAMES[1:]
WHITE_CELLS = CLASS_NAMES[1:6]
SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
list_of = getattr(datasets, "List", None) or datasets.Sequence  # its name before datasets 4
KINDS = {"images": ".png", "labels": ".json", "segments": ".png", "instances": ".png"}
_CODES = {(r << 16) | (g << 8) | b: index for index, (r, g, b) in enumerate(CLASS_COLORS.values())}


@dataclass
class Item:
    """The files of one sample: {kind of file: path in the source}."""

    image_id: str
    source: Source
    files: dict[str, str]

    def where(self, kind: str) -> str:
        """How an error message should call one of the files."""
        return self.source.locate(self.files[kind])


class BloodSmear(datasets.GeneratorBasedBuilder):
    """Builder of `semantic` (class ids), `instance` (16-bit labels) and `classification` (cells present).

    `semantic` has, beside the mask, the number of the cell of every pixel in `cell_labels` where it is known (for
    counts in an evaluation), and in `sources` the class and sample, `basophil/basophil-0003`, of every cell.
    `classification` has the boxes of all cells beside the labels: left, top, right and bottom (exclusive) in pixels.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [
        datasets.BuilderConfig(name="semantic", version=VERSION, description="uint8 masks of class ids 0..9"),
        datasets.BuilderConfig(name="instance", version=VERSION, description="16-bit labels: 1..n = cells"),
        datasets.BuilderConfig(
            name="classification", version=VERSION, description="the kinds of cell present"
        ),
    ]
    DEFAULT_CONFIG_NAME = "semantic"

    license = "unknown"
    redistributable = False
    homepage = "https://github.com/abhanjac/blood_cell_image_segmentation"
    citation = ""
    class_names = CLASS_NAMES
    class_colors = CLASS_COLORS
    group_pattern = (
        r"^(neutrophil|eosinophil|basophil|lymphocyte|monocyte)-\d+$|^(train|validation|test)-\d+$"
    )
    leaky_configs: dict[str, str] = {}

    @staticmethod
    def recognises(path: str) -> bool:
        """Tell whether composed smears lie there: own labelled images may lie alike."""
        try:
            return bool(find_items(path, {"images", "labels"}))
        except (ValueError, FileNotFoundError):
            return False

    def _info(self) -> datasets.DatasetInfo:
        target: dict[str, Any] = {
            "semantic": {
                "semantic_mask": datasets.Image(),
                "cell_labels": datasets.Image(),
                "sources": list_of(datasets.Value("string")),
            },
            "instance": {
                "instance_labels": datasets.Image(),
                "instance_classes": list_of(datasets.ClassLabel(names=list(CELL_NAMES))),
            },
            "classification": {
                "labels": list_of(datasets.ClassLabel(names=list(CELL_NAMES))),
                # A list, and not `list_of`, which turned a dictionary inside out before datasets 4.
                "boxes": [{"label": datasets.Value("string"), "box": [datasets.Value("int32")]}],
            },
        }[self.config.name]
        return datasets.DatasetInfo(
            description="Blood smears composed from single cells: white cells, platelets, red cells, malaria.",
            features=datasets.Features(
                {
                    "image_id": datasets.Value("string"),
                    "group": datasets.Value("string"),
                    "layout": datasets.Value("string"),
                    "image": datasets.Image(),
                    **target,
                }
            ),
            homepage=self.homepage,
            license=self.license,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is None:
            raise FileNotFoundError(
                "blood_smear needs data_dir, a folder or zip of composed smears; make one with "
                "`hf-cells compose library` and `hf-cells compose dataset`"
            )
        needed = {"semantic": "segments", "instance": "instances"}.get(self.config.name, "labels")
        splits = find_items(str(self.config.data_dir), {"images", "labels", needed})
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"items": splits[name]})
            for name in ("train", "validation", "test")
            if splits.get(name)
        ]

    def _generate_examples(self, items: list[Item]) -> Iterator[tuple[str, dict[str, Any]]]:
        for item in items:
            image_bytes = item.source.read(item.files["images"])
            image = decode_image(image_bytes, item.where("images"))
            label = read_label(item, image.size)
            row: dict[str, Any] = {
                "image_id": item.image_id,
                "group": group_of(label),
                "layout": label.get("layout"),
                "image": {"bytes": image_bytes, "path": PurePosixPath(item.files["images"]).name},
            }
            if self.config.name == "semantic":
                row["semantic_mask"] = {"bytes": encode_png(read_segments(item, image.size)), "path": None}
                row["cell_labels"] = None
                if "instances" in item.files:
                    cells = read_instances(item, image.size, len(label["objects"]))
                    row["cell_labels"] = {"bytes": encode_png(cells), "path": None}
                row["sources"] = sources_of(label, item.image_id)
            elif self.config.name == "instance":
                instances = read_instances(item, image.size, len(label["objects"]))
                row["instance_labels"] = {"bytes": encode_png(instances), "path": None}
                row["instance_classes"] = [cell["class"] for cell in label["objects"]]
            else:
                present = {cell["class"] for cell in label["objects"]}
                row["labels"] = [name for name in CELL_NAMES if name in present]
                row["boxes"] = [{"label": cell["class"], "box": cell["box"]} for cell in label["objects"]]
            yield item.image_id, row


def find_items(path: str, needed: set[str]) -> dict[str, list[Item]]:
    """Find the samples of every split under a folder or in a zip.

    Args:
        path: Folder with the splits, or a zip, or a folder with one zip.
        needed: Kinds of file that every sample must have.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: A sample lacks a file, or the composition was interrupted.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder; data_dir is where train/images/ is")
    source: Source = FolderSource(path) if os.path.isdir(path) else ZipSource(path)
    names = source.names()
    if isinstance(source, FolderSource) and not any("/images/" in name for name in names) and zips_in(path):
        source = ZipSource(zips_in(path)[0])
        names = source.names()
    if isinstance(source, ZipSource):
        source.check()
    files: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for name in names:
        *_, split, kind, file = ["", "", *name.split("/")]
        place = PurePosixPath(file)
        if split in SPLITS and KINDS.get(kind) == place.suffix.lower():
            files[SPLITS[split]][place.stem][kind] = name
    if not files:
        raise FileNotFoundError(
            f"{path}: no composed smears found; expected train/images/*.png, train/labels/*.json, "
            "train/segments/*.png; make them with `hf-cells compose dataset`"
        )
    # The composer writes the record first and the manifest last.
    tops = {PurePosixPath(name).name for name in names if name.count("/") <= 1}
    if "composition.json" in tops and "manifest.json" not in tops:
        raise ValueError(f"{path}: its composition is not finished; run `hf-cells compose dataset` again")
    splits: dict[str, list[Item]] = {}
    for split, stems in files.items():
        for stem, own in sorted(stems.items()):
            if missing := sorted(needed - own.keys()):
                raise ValueError(
                    f"{source.locate(next(iter(own.values())))}: has no file in {missing[0]}/; put "
                    f"{split}/{missing[0]}/{stem}{KINDS[missing[0]]} back or remove the sample"
                )
            splits.setdefault(split, []).append(Item(f"{split}-{stem}", source, own))
    return splits


def read_label(item: Item, size: tuple[int, int]) -> dict[str, Any]:
    """Read the label of a sample and check it against the width and height of its image.

    Raises:
        ValueError: Broken JSON, an unknown class, or a box outside the image.
    """
    where = item.where("labels")
    try:
        label = json.loads(item.source.read(item.files["labels"]))
        objects = [(str(cell["class"]), [int(v) for v in cell["box"]]) for cell in label["objects"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{where}: is broken ({type(error).__name__}: {error}); it needs objects with class and box"
        ) from error
    for name, box in objects:
        if name not in CELL_NAMES:
            raise ValueError(f"{where}: no class is called {name!r}; the classes are {', '.join(CELL_NAMES)}")
        if len(box) != 4 or not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
            raise ValueError(
                f"{where}: box {box} of {name} lies outside the {size[0]}x{size[1]} image; mend or remove it"
            )
    return label


def sources_of(label: dict[str, Any], image_id: str) -> list[str]:
    """Name class and sample of every cell; a cell of unknown origin is a source of its own."""
    cells = enumerate(label["objects"], 1)
    return sorted({f"{cell['class']}/{cell.get('sample') or f'{image_id}-{n}'}" for n, cell in cells})


def group_of(label: dict[str, Any]) -> str | None:
    """Name the source sample of the first pasted white cell, else the background."""
    for cell in label["objects"]:
        if cell.get("pasted") and cell["class"] in WHITE_CELLS and cell.get("sample"):
            return str(cell["sample"])
    background = label.get("background")
    return str(background["name"]) if isinstance(background, dict) and "name" in background else None


def read_segments(item: Item, size: tuple[int, int]) -> np.ndarray:
    """Read a colour map as class ids uint8 (H, W); the palette or the colours tell the class."""
    where = item.where("segments")
    image = decode_image(item.source.read(item.files["segments"]), where)
    check_size(image, size, where)
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    codes = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    known = np.array(sorted(_CODES))
    place = np.searchsorted(known, codes).clip(0, len(known) - 1)
    if (foreign := known[place] != codes).any():
        raise ValueError(
            f"{where}: {int(foreign.sum())} pixels have no class colour, the first is "
            f"#{int(codes[foreign][0]):06x}; save the colour map without smoothing as PNG"
        )
    return np.array([_CODES[code] for code in known.tolist()], np.uint8)[place]


def read_instances(item: Item, size: tuple[int, int], count: int) -> np.ndarray:
    """Read a label image as uint16 (H, W) and check that it has as many cells as the label."""
    where = item.where("instances")
    image = decode_image(item.source.read(item.files["instances"]), where)
    check_size(image, size, where)
    instances = np.asarray(image).astype(np.int64)
    if instances.ndim != 2 or instances.min() < 0 or instances.max() != count:
        raise ValueError(
            f"{where}: numbers its cells up to {int(instances.max())} but the label lists {count}; "
            "compose the sample again"
        )
    return instances.astype(np.uint16)


def check_size(image: Image.Image, size: tuple[int, int], where: str) -> None:
    """Refuse a mask of another size than its image."""
    if image.size != size:
        raise ValueError(
            f"{where}: is {image.height}x{image.width} but its image is {size[1]}x{size[0]}; "
            "replace the mask with one of the image's size"
        )

"""Composed blood smears: three configurations of the same samples, and every fault in one clear line."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_cells.compose import CLASS_COLORS, CLASS_NAMES, compose_dataset, simulate_library
from hf_cells.data.loading import load_dataset
from hf_cells.data.registry import builder_class
from hf_cells.data.simulated import simulated_title
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError
from hf_cells.training.main import use_data
from hf_cells.training.recipe import load_recipe


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("smears")
    library = simulate_library(root / "cells", per_class=3)
    return compose_dataset(library, root / "smears", train=6, validation=2, test=2, backgrounds=9)


@pytest.fixture
def load(tmp_path: Path):
    """Load the smears with a cache of its own."""

    def call(data_dir, config=None, **options):
        return load_dataset("blood_smear", config, data_dir=data_dir, cache_dir=tmp_path / "cache", **options)

    return call


def test_three_configurations_of_the_same_samples(smears, load):
    semantic, instance, present = (load(smears, c) for c in ("semantic", "instance", "classification"))
    assert {name: len(data) for name, data in semantic.items()} == {"train": 6, "validation": 2, "test": 2}
    check_groups(semantic)
    for split in semantic:
        for one, two, three in zip(semantic[split], instance[split], present[split], strict=True):
            assert one["image_id"] == two["image_id"] == three["image_id"]
            classes, labels = np.asarray(one["semantic_mask"]), np.asarray(two["instance_labels"]).astype(int)
            assert one["image"].size == (224, 224) and classes.dtype == np.uint8
            cell_ids = np.array([0, *(c + 1 for c in two["instance_classes"])])
            assert (cell_ids[labels] == classes).all()
            assert {c + 1 for c in three["labels"]} == set(np.unique(classes)) - {0}


def test_drawn_cells_are_under_no_terms_of_real_ones(smears, load):
    info = load(smears, "semantic")["test"].info
    assert (
        info.license == "cc0-1.0" and simulated_title(info) == "simulated images in the layout of blood_smear"
    )


def test_label_maps_know_their_cells_and_where_these_come_from(smears, load):
    semantic, instance = load(smears, "semantic")["test"], load(smears, "instance")["test"]
    for one, two in zip(semantic, instance, strict=True):
        assert (np.asarray(one["cell_labels"]) == np.asarray(two["instance_labels"])).all()
        label = json.loads((smears / "test/labels" / f"{one['image_id'][5:]}.json").read_text())
        assert set(one["sources"]) == {f"{cell['class']}/{cell['sample']}" for cell in label["objects"]}


def test_maps_of_other_origin_have_neither_cells_nor_samples(smears, load, tmp_path):
    root = shutil.copytree(smears, tmp_path / "theirs")
    shutil.rmtree(root / "train/instances")
    path = root / "train/labels/000000.json"
    label = json.loads(path.read_text())
    for cell in label["objects"]:
        cell.pop("sample")
    path.write_text(json.dumps(label))
    row = load(root)["train"][0]
    assert row["cell_labels"] is None
    assert len(row["sources"]) == len(label["objects"])  # each cell counts as a source of its own


def test_composed_smears_are_told_from_own_folders(smears, tmp_path):
    builder = builder_class("blood_smear")
    assert builder.recognises(str(smears))
    for name in ("train/images/a.png", "train/masks/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert not builder.recognises(str(tmp_path)) and not builder.recognises(str(tmp_path / "train"))
    recipe = load_recipe("blood_smear_unet_fast")
    use_data(recipe, str(smears))
    assert recipe["data"]["name"] == "blood_smear" and recipe["data"]["data_dir"] == str(smears)


def test_groups_are_the_sample_or_the_background(smears, load):
    for row in load(smears)["train"]:
        label = json.loads(
            (smears / "train/labels" / f"{row['image_id'].removeprefix('train-')}.json").read_text()
        )
        white = [c["sample"] for c in label["objects"] if c["pasted"] and c["class"] in CLASS_NAMES[1:6]]
        assert row["group"] == (white[0] if white else label["background"]["name"])


def test_the_classes_are_those_of_the_composer():
    builder = builder_class("blood_smear")
    assert builder.class_names == CLASS_NAMES and builder.class_colors == CLASS_COLORS
    assert builder.license == "unknown" and not builder.redistributable and builder.leaky_configs == {}


@pytest.mark.parametrize("place", ["zip", "zip in a folder", "colours"])
def test_other_places_and_plain_colours_give_the_same_rows(smears, load, tmp_path, place):
    expected = load(smears)["train"]
    root = tmp_path / "other"
    shutil.copytree(smears, root / "smears")
    if place == "colours":
        for path in root.glob("smears/*/segments/*.png"):
            Image.open(path).convert("RGB").save(path)
        data_dir = root / "smears"
    else:
        archive = tmp_path / "smears.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(root.rglob("*")):
                file.write(path, path.relative_to(root))
        shutil.rmtree(root)
        root.mkdir()
        data_dir = archive if place == "zip" else Path(shutil.move(archive, root)).parent
    for one, two in zip(expected, load(data_dir)["train"], strict=True):
        assert one["image_id"] == two["image_id"] and one["group"] == two["group"]
        assert (np.asarray(one["semantic_mask"]) == np.asarray(two["semantic_mask"])).all()


def change_label(folder: Path, change) -> None:
    path = folder / "train/labels/000000.json"
    label = json.loads(path.read_text())
    change(label)
    path.write_text(json.dumps(label))


@pytest.mark.parametrize(
    ("damage", "config", "message"),
    [
        ("json", "semantic", r"000000.json: is broken"),
        ("no box", "semantic", r"000000.json: is broken \(KeyError: 'box'\)"),
        ("box", "classification", r"box \[200, 0, 300, 9\] of \w+ lies outside the 224x224 image"),
        ("class", "semantic", r"no class is called 'platypus'"),
        ("size", "semantic", r"000000.png: is 100x100 but its image is 224x224"),
        ("colour", "semantic", r"1 pixels have no class colour, the first is #010203"),
        ("number", "instance", r"numbers its cells up to \d+ but the label lists \d+"),
        ("missing", "semantic", r"has no file in segments/; put train/segments/000000.png back"),
        ("image", "semantic", r"images/000000.png: cannot be decoded"),
        ("unfinished", "semantic", r"is not finished; run `hf-cells compose dataset` again"),
        ("empty", "semantic", r"no composed smears found"),
        ("absent", "semantic", r"no such file or folder"),
    ],
)
def test_faults(smears, load, tmp_path, damage, config, message):
    folder = tmp_path / "broken"
    shutil.copytree(smears, folder)
    segments = folder / "train/segments/000000.png"
    if damage == "json":
        (folder / "train/labels/000000.json").write_text('{"objects": [')
    elif damage == "no box":
        change_label(folder, lambda label: label["objects"][0].pop("box"))
    elif damage == "box":
        change_label(folder, lambda label: label["objects"][0].update(box=[200, 0, 300, 9]))
    elif damage == "class":
        change_label(folder, lambda label: label["objects"][0].update({"class": "platypus"}))
    elif damage == "size":
        Image.open(segments).resize((100, 100), 0).save(segments)
    elif damage == "colour":
        image = Image.open(segments).convert("RGB")
        image.putpixel((5, 5), (1, 2, 3))
        image.save(segments)
    elif damage == "number":
        change_label(folder, lambda label: label["objects"].pop())
    elif damage == "missing":
        segments.unlink()
    elif damage == "image":
        (folder / "train/images/000000.png").write_bytes(b"nothing")
    elif damage == "unfinished":
        (folder / "manifest.json").unlink()
    elif damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        shutil.rmtree(folder)
    with pytest.raises(CellsError, match=message) as caught:
        load(folder, config)
    assert "\n" not in str(caught.value)


def test_without_a_folder_it_says_how_to_make_one(load):
    with pytest.raises(CellsError, match="needs data_dir.*hf-cells compose dataset"):
        load(None)

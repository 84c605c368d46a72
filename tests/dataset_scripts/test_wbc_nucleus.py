"""Nucleus and cytoplasm of white cells: pairs, splits by folder, faults."""

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.registry import builder_class
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError
from hf_cells.training.main import use_data
from hf_cells.training.recipe import load_recipe

MASK = np.zeros((20, 24), np.uint8)
MASK[4:16, 4:16] = 128
MASK[7:12, 7:12] = 255


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images in one folder and 10 in another; the first two are one picture."""
    rng = np.random.default_rng(0)
    for name, count in (("Dataset 1", 20), ("Dataset 2", 10)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            if name == "Dataset 1" and number == 0:
                first = image
            if name == "Dataset 1" and number == 1:
                image = first
            Image.fromarray(image).save(tmp_path / "data" / name / f"{number:03d}.bmp")
            Image.fromarray(MASK).save(tmp_path / "data" / name / f"{number:03d}.png")
    (tmp_path / "data/Class Labels of Dataset 1.csv").write_text("image ID,class label\n1,2\n")
    return tmp_path / "data"


@pytest.fixture
def load(tmp_path):
    def call(data_dir, **options):
        return load_dataset("wbc_nucleus", data_dir=data_dir, cache_dir=tmp_path / "cache", **options)

    return call


def test_masks_folders_and_groups(folder, load):
    splits = load(folder)
    check_groups(splits)
    rows = [row for data in splits.values() for row in data]
    assert len({row["image_id"] for row in rows}) == 30 and rows[0]["image"].size == (24, 20)
    expected = np.select([MASK == 255, MASK == 128], [2, 1], 0)
    assert all((np.asarray(row["semantic_mask"]) == expected).all() for row in rows)
    counts = {name: Counter(data["modality"]) for name, data in splits.items()}
    assert counts["test"] == {"Dataset 1": 4, "Dataset 2": 2}
    assert counts["validation"] == {"Dataset 1": 2, "Dataset 2": 1}
    twins = [row for row in rows if row["image_id"] in ("dataset_1-000", "dataset_1-001")]
    assert {row["group"] for row in twins} == {"Dataset 1/000"}


def test_raw_files_are_told_from_own_folders(folder, tmp_path):
    recipe = load_recipe("wbc_nucleus")
    use_data(recipe, str(folder))  # a table of classes lies beside the images, as in a folder of labels
    assert recipe["data"]["name"] == "wbc_nucleus" and recipe["data"]["data_dir"] == str(folder)
    for name in ("own/images/a.jpg", "own/masks/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    assert not builder_class("wbc_nucleus").recognises(str(tmp_path / "own"))


def test_a_zip_gives_the_same_rows(folder, load, tmp_path):
    with zipfile.ZipFile(tmp_path / "wbc.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    one, two = load(folder), load(tmp_path / "wbc.zip")
    assert {k: sorted(v["image_id"]) for k, v in one.items()} == {
        k: sorted(v["image_id"]) for k, v in two.items()
    }


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("mask", r"003.bmp: has no mask, as 1 files"),
        ("image", r"003.png: has no image"),
        ("size", r"003.png: is 5x5 but its image is 20x24"),
        ("grey", r"003.png: has the grey 60; use 0 for background"),
        ("broken", r"003.bmp: cannot be decoded"),
        ("empty", r"no images found"),
    ],
)
def test_faults(folder, load, damage, message):
    image, mask = folder / "Dataset 1/003.bmp", folder / "Dataset 1/003.png"
    if damage == "mask":
        mask.unlink()
    elif damage == "image":
        image.unlink()
    elif damage == "size":
        Image.new("L", (5, 5)).save(mask)
    elif damage == "grey":
        Image.new("L", (24, 20), 60).save(mask)
    elif damage == "broken":
        image.write_bytes(b"BM")
    else:
        shutil.rmtree(folder / "Dataset 1")
        shutil.rmtree(folder / "Dataset 2")
    with pytest.raises(CellsError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_real_images(real_data, load):
    splits = load(real_data("wbc_jtsc_cellavision.zip"))
    assert sum(map(len, splits.values())) == 300
    row = splits["test"][0]
    assert set(np.unique(np.asarray(row["semantic_mask"]))) == {0, 1, 2}
    assert set(splits["test"]["modality"]) == {"Dataset 1", "Dataset 2"}

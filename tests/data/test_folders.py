"""A user's own folder, in every accepted form, and what is said about the others."""

import re

import numpy as np
import pytest
import tifffile
from cell_folders import FORMS, SHAPE, WRONG_SPLIT_OPTIONS, label_image, write_folder, write_image, write_mask
from hf_cells.dataset_scripts._reading import decode_image
from PIL import Image

from hf_cells.data.folders import encode_labels, read_mask
from hf_cells.data.loading import load_dataset
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError


@pytest.fixture
def load(tmp_path):
    def call(path, config=None, **options):
        return load_dataset(path, config, cache_dir=tmp_path / "cache", **options)

    return call


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mask_gives_the_same_labels(tmp_path, load, form):
    root = write_folder(tmp_path / "own", ["a"], form)
    row = load(root, split="all")[0]
    assert list(row) == ["image_id", "group", "modality", "image", "instance_labels"]
    labels = np.asarray(row["instance_labels"])
    assert labels.dtype == np.uint16 and (labels == label_image()).all()
    mask = np.asarray(load(root, "semantic", split="all")[0]["semantic_mask"])
    assert mask.dtype == np.uint8 and (mask == (label_image() > 0)).all()


def test_binary_or_labels_can_be_said(tmp_path):
    two_pieces = np.zeros(SHAPE, np.uint8)
    two_pieces[2:5, 2:5] = two_pieces[10:12, 10:12] = 1
    touching = np.zeros(SHAPE, np.uint8)
    touching[2:5, 2:5], touching[5:8, 2:5] = 1, 2
    for name, array in (("pieces", two_pieces), ("touching", touching)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    counts = {
        (name, kind): read_mask(tmp_path / f"{name}.png", SHAPE, kind).max()
        for name in ("pieces", "touching")
        for kind in ("auto", "labels", "binary")
    }
    assert counts == {
        ("pieces", "auto"): 2,
        ("pieces", "labels"): 1,
        ("pieces", "binary"): 2,
        ("touching", "auto"): 2,
        ("touching", "labels"): 2,
        ("touching", "binary"): 1,
    }


def test_more_objects_than_16_bits(tmp_path):
    many = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    tifffile.imwrite(tmp_path / "m.tif", many)
    labels = read_mask(tmp_path / "m.tif", (300, 300))
    assert labels.max() == 300 * 300 - 1
    encoded = encode_labels(labels)
    assert encoded[:2] in (b"II", b"MM")
    assert (np.asarray(decode_image(encoded, "x")) == many).all()


def test_images_of_every_format_keep_their_bytes(tmp_path, load):
    root = tmp_path / "own"
    deep = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE) * 100
    tifffile.imwrite(write_image(root / "images", "deep", ".tif"), deep)
    for stem, suffix in (("a", ".png"), ("b", ".jpg"), ("c", ".bmp"), ("d", ".tiff")):
        write_image(root / "images", stem, suffix)
    for stem in ("deep", "a", "b", "c", "d"):
        write_mask(root / "masks", stem)
    data = load(root, split="all").sort("image_id")
    assert data["image_id"] == ["a", "b", "c", "d", "deep"]
    assert (np.asarray(data[4]["image"]) == deep).all()  # all 16 bits are kept


def test_split_by_seed_and_by_groups(tmp_path, load):
    stems = [f"case{case:02d}_{field}" for case in range(10) for field in "abc"]
    root = write_folder(tmp_path / "own", stems)
    plain = load(root)
    assert {name: len(split) for name, split in plain.items()} == {"train": 21, "validation": 3, "test": 6}
    assert set(plain["train"]["group"]) == {None}
    whole = load(root, groups=r"^(case\d+)_")
    assert {name: len(split) for name, split in whole.items()} == {"train": 21, "validation": 3, "test": 6}
    assert set(whole["test"]["group"]) <= {f"case{case:02d}" for case in range(10)}
    check_groups(whole)
    assert whole["test"]["image_id"] != load(root, groups=r"^(case\d+)_", split_seed=1)["test"]["image_id"]
    assert len(set(load(root, groups=r"case\d+", split="all")["group"])) == 10
    for bad, message in ((r"slide(\d)", "finds nothing in this name"), ("(", "is not a regular expression")):
        with pytest.raises(CellsError, match=message):
            load(root, groups=bad)


def test_split_subfolders_are_kept(tmp_path, load):
    root = tmp_path / "own"
    write_folder(root / "train", [f"t{i}" for i in range(10)])
    write_folder(root / "test", ["x", "y"])
    splits = load(root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 9, "validation": 1, "test": 2}
    write_folder(root / "val", ["v"])
    splits = load(root)
    assert {name: len(split) for name, split in splits.items()} == {"train": 10, "validation": 1, "test": 2}
    assert splits["validation"]["image_id"] == ["v"]
    write_folder(root, ["z"])
    with pytest.raises(CellsError, match="has images/ and train/images/; keep one"):
        load(root)


def remove_mask(root):
    (root / "masks" / "b.png").unlink()


def remove_image(root):
    (root / "images" / "b.png").unlink()


def twice(root):
    write_image(root / "images", "b", ".bmp")


def wrong_size(root):
    Image.new("L", (5, 5)).save(root / "masks" / "b.png")


def break_image(root):
    path = root / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:-30])


def break_mask(root):
    (root / "masks" / "b.png").write_bytes(b"nonsense")


def break_npy(root):
    (root / "masks" / "b.png").unlink()
    np.save(root / "masks" / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def fractions(root):
    (root / "masks" / "b.png").unlink()
    np.save(root / "masks" / "b.npy", np.full(SHAPE, 0.5))


def colours(root):
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    pixels[3, 3] = 255, 0, 0
    Image.fromarray(pixels).save(root / "masks" / "b.png")


def empty_object_folder(root):
    (root / "masks" / "b.png").unlink()
    (root / "masks" / "b").mkdir()


def stack(root):
    (root / "images" / "b.png").unlink()
    tifffile.imwrite(root / "images" / "b.tif", np.zeros((3, *SHAPE), np.uint8), photometric="minisblack")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (remove_mask, r"images/b\.png: has no mask of the same name \(1 such files\); add masks/b\.\*"),
        (remove_image, r"masks/b\.png: has no image of the same name"),
        (twice, r"images/b\.png: has the same stem as b\.bmp; keep one"),
        (wrong_size, r"masks/b\.png: is \(5, 5\) but its image is \(20, 24\)"),
        (break_image, r"images/b\.png: cannot be decoded"),
        (break_mask, r"masks/b\.png: cannot be decoded"),
        (break_npy, r"masks/b\.npy: cannot be read \(.*pickle"),
        (fractions, r"masks/b\.npy: holds fractions or negative numbers"),
        (colours, r"masks/b\.png: is \(20, 24, 3\) but its image is \(20, 24\); save one plane"),
        (empty_object_folder, r"masks/b: holds no masks; put one file per object"),
        (stack, r"images/b\.tif: is a stack of 3 planes; save one file a plane"),
    ],
)
def test_a_broken_folder_is_one_clear_line(tmp_path, load, harm, message):
    root = write_folder(tmp_path / "own", ["a", "b", "c"])
    harm(root)
    with pytest.raises(CellsError, match=message) as error:
        load(root)
    assert "\n" not in str(error.value)


def test_folders_that_are_not_ready(tmp_path, load):
    (tmp_path / "own" / "images").mkdir(parents=True)
    with pytest.raises(CellsError, match="holds no images"):
        load(tmp_path / "own")
    write_image(tmp_path / "own" / "images", "a")
    with pytest.raises(CellsError, match=r"has images/ but no masks/"):
        load(tmp_path / "own")
    with pytest.raises(CellsError, match=r"masks='some': choose 'auto', 'labels' or 'binary'"):
        load(tmp_path / "own", masks="some")
    (tmp_path / "other").mkdir()
    expected = r"use its name \(.*dsb2018.*\) " + re.escape(f"with data_dir={tmp_path / 'other'}")
    with pytest.raises(CellsError, match="neither images/ with masks/ nor Parquet.*" + expected):
        load(tmp_path / "other")


@pytest.mark.parametrize(("option", "value", "message"), WRONG_SPLIT_OPTIONS)
def test_options_of_the_split_that_are_none(tmp_path, load, option, value, message):
    root = write_folder(tmp_path / "own", ["a", "b", "c"])
    with pytest.raises(CellsError, match=f"^{message}"):
        load(root, **{option: value})

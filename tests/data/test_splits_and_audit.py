"""Group-wise splits, their check, and the report of leaks."""

import json

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_cells.data.audit import leak_report, pixel_hash
from hf_cells.data.splits import check_groups, shared_groups, split_dataset
from hf_cells.errors import CellsError


def table(groups, names=None):
    names = names or [f"i{index:02d}" for index in range(len(groups))]
    features = datasets.Features({"image_id": datasets.Value("string"), "group": datasets.Value("string")})
    return datasets.Dataset.from_dict({"image_id": names, "group": groups}, features=features)


def pictures(seeds, prefix, groups=None):
    images = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 9), np.uint8)) for seed in seeds
    ]
    columns = {"image_id": [f"{prefix}{n}" for n in range(len(images))], "image": images}
    columns["group"] = groups or [None] * len(images)
    features = datasets.Features(
        {"image_id": datasets.Value("string"), "image": datasets.Image(), "group": datasets.Value("string")}
    )
    return datasets.Dataset.from_dict(columns, features=features)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=3, max_size=30), st.integers(0, 3))
def test_split_dataset_keeps_groups_whole(groups, seed):
    splits = split_dataset(table(groups), seed=seed)
    check_groups(splits)
    assert sorted(name for split in splits.values() for name in split["image_id"]) == sorted(
        table(groups)["image_id"]
    )


def test_split_dataset_without_groups_and_with_bad_fractions():
    data = table([None] * 40).remove_columns("group")
    splits = split_dataset(data, validation_fraction=0.25, test_fraction=0.25)
    assert {name: len(split) for name, split in splits.items()} == {"train": 20, "validation": 10, "test": 10}
    assert "test" not in split_dataset(data, test_fraction=0)
    with pytest.raises(CellsError, match="below 1 together"):
        split_dataset(data, test_fraction=1)


def test_check_groups_refuses_a_leak_without_naming_anyone():
    clean = {"train": table(["a", "a", None]), "test": table(["b", None])}
    check_groups(clean)
    assert shared_groups(clean) == {}
    leaky = {"train": table(["patient-1", "b"]), "test": table(["patient-1", "b", "c"])}
    assert shared_groups(leaky) == {"b": ["train", "test"], "patient-1": ["train", "test"]}
    with pytest.raises(CellsError, match="2 groups are in more than one of the splits test, train") as error:
        check_groups(leaky)
    assert "patient-1" not in str(error.value)


def test_leak_report_counts_groups_and_identical_pixels():
    splits = datasets.DatasetDict(
        train=pictures([1, 2, 3, 3], "a", ["g", "g", "h", "h"]), test=pictures([2, 4], "b", ["k", "g"])
    )
    report = leak_report(splits)
    assert report["duplicate_images"] == [[["train", "a1"], ["test", "b0"]]]
    assert report["groups_on_both_sides"] == {"g": ["train", "test"]}
    assert report["leaks"] == 2 and report["groups"] == {"train": 2, "test": 2}
    assert report["images"] == {"train": 4, "test": 2}
    assert report["summary"] == "1 groups and 1 identical images are in more than one split of 6 images"
    assert json.loads(json.dumps(report)) == report
    clean = leak_report({"train": pictures([1], "a"), "test": pictures([2], "b")})
    assert clean["leaks"] == 0 and clean["groups"] == {"train": 1, "test": 1}


def test_pixel_hash_sees_through_the_file_but_not_past_the_pixels():
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 7), np.uint8))
    same = [grey, grey.convert("RGB"), grey.convert("RGBA"), grey.convert("LA")]
    assert len({pixel_hash(image) for image in same}) == 1
    turned = grey.transpose(Image.Transpose.TRANSPOSE)
    other = grey.copy()
    other.putpixel((0, 0), (grey.getpixel((0, 0)) + 1) % 256)
    assert len({pixel_hash(image) for image in (grey, turned, other)}) == 3

"""Glomeruli: cases from names, splits that keep them whole, every fault in one clear line."""

import random
import shutil
from collections import Counter

import datasets
import numpy as np
import pytest
from classification_layouts import crop_name, noise, write_glomeruli, write_labels, zip_all
from hf_cells.dataset_scripts import glomeruli
from hf_cells.dataset_scripts._reading import FolderSource
from hf_cells.dataset_scripts._stratify import assign_stratified_splits
from hf_cells.dataset_scripts._tables import find_tables
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError

HEADER = "name,ground truth"


@pytest.fixture
def load(tmp_path):
    """Load glomeruli with a cache of its own."""

    def call(data_dir, config=None, **options):
        return load_dataset("glomeruli", config, data_dir=data_dir, cache_dir=tmp_path / "cache", **options)

    return call


def contents(splits):
    """Return {file name: 0 or 1} over all splits."""
    return {
        f"{i}.png": label for data in splits.values() for i, label in zip(data["image_id"], data["label"])
    }


@pytest.mark.parametrize(
    "place", ["folder", "zip", "zip in a folder", "csv beside the zip", "unzipped beside", "flat"]
)
def test_every_place_gives_the_same_crops(tmp_path, load, place):
    root, other = tmp_path / "data", tmp_path / "other"
    labels = write_glomeruli(root)
    expected = {path.name: path.read_bytes() for path in (root / "public").iterdir()}
    other.mkdir()
    if place == "flat":
        for path in (root / "public").iterdir():
            path.rename(root / path.name)
    elif place == "csv beside the zip":
        (root / "public.csv").rename(other / "public.csv")
    archive = zip_all(root, other / "crops.zip")
    if place == "unzipped beside":
        shutil.copytree(root, other, dirs_exist_ok=True)
    splits = load({"zip": archive, "folder": root, "flat": root}.get(place, other))
    assert list(splits) == ["train", "validation", "test"] and contents(splits) == labels
    train = splits["train"]
    assert train.column_names == ["image_id", "group", "slide", "image", "label"]
    assert train.features["label"].names == ["non-sclerotic", "sclerotic"]
    assert {row["image"].mode for row in train} == {"RGB", "RGBA"}
    for row in train.cast_column("image", datasets.Image(decode=False)):
        assert row["image"]["bytes"] == expected[f"{row['image_id']}.png"]  # the original file


def test_cases_stay_whole_and_every_split_holds_both_classes(tmp_path, load):
    root = tmp_path / "data"
    write_glomeruli(root, cases=12, per_case=5, sclerotic=2)
    for seed in range(3):
        splits = load(root, split_seed=seed)
        check_groups(splits)
        assert {name: len(data) for name, data in splits.items()} == {"train": 50, "validation": 5, "test": 5}
    row = splits["test"][0]
    assert row["image_id"].startswith(f"{row['group']}_PAS_{row['slide']}_") and row["slide"] in (
        "1of2",
        "2of2",
    )
    assert list(glomeruli.Glomeruli.leaky_configs) == ["random_split"]
    by_image = load(root, "random_split")
    assert {name: len(data) for name, data in by_image.items()} == {"train": 48, "validation": 6, "test": 6}
    with pytest.raises(CellsError, match="groups are in more than one of the splits"):
        check_groups(by_image)
    assert contents(by_image) == contents(splits)
    half = load(root, test_fraction=0.5, validation_fraction=0.0)
    assert {name: len(data) for name, data in half.items()} == {"train": 30, "test": 30}


def test_every_split_holds_every_class_where_the_cases_allow_it():
    draw = random.Random(0)
    for seed in range(30):  # one case in four has any sclerotic crop: most shuffles leave a split without
        groups = [f"case {i // 3}" for i in range(72)]
        labels = ["1" if i // 3 % 4 == 0 else "0" for i in range(72)]
        sides = assign_stratified_splits(
            groups, [[label] for label in labels], {"test": 0.1, "validation": 0.1}, seed
        )
        assert len(set(zip(sides, labels))) == 6
        assert len(set(zip(sides, groups))) == 24
        order = draw.sample(range(72), 72)
        other = assign_stratified_splits(
            [groups[i] for i in order], [[labels[i]] for i in order], {"test": 0.1, "validation": 0.1}, seed
        )
        assert other == [sides[i] for i in order]
    lone = assign_stratified_splits(["a", "b", "c"], [["0"], ["0"], ["1"]], {"validation": 0.3}, 0)
    assert {side for side, label in zip(lone, "001") if label == "1"} == {"train"}  # train comes first


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding"),
    [
        ("Name,Ground Truth", ";", "utf-8-sig"),
        ("filename,label", "\t", "utf-16"),
        ("image_name,GROUND_TRUTH", ",", "utf-16-le"),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, load, header, delimiter, encoding):
    labels = write_glomeruli(tmp_path / "data")
    words = {0: "Non-sclerotic", 1: "1.0"}
    rows = {name.removesuffix(".png") if v else f"public/{name}": words[v] for name, v in labels.items()}
    write_labels(tmp_path / "data" / "public.csv", rows, header, delimiter, encoding)
    assert contents(load(tmp_path / "data")) == labels


def test_own_names_need_an_own_pattern(tmp_path, load):
    root = tmp_path / "data"
    root.mkdir()
    names = [f"patient{case:02d}-{number}.png" for case in range(8) for number in range(4)]
    for seed, name in enumerate(names):
        Image.fromarray(noise(seed)).save(root / name)
    write_labels(root / "labels.csv", {name: str(i % 2) for i, name in enumerate(names)}, HEADER)
    with pytest.raises(
        CellsError, match=r"finds no case in 32 of 32 names, such as 'patient00-0'; give another"
    ) as e:
        load(root)
    assert "\n" not in str(e.value) and "(?P<case>...)" in str(e.value)
    assert set(load(root, "random_split", split="all")["group"]) == {None}
    splits = load(root, case_pattern=r"^(?P<case>patient\d+)-")
    check_groups(splits)
    everything = load(root, case_pattern=r"^(?P<case>patient\d+)-", split="all")
    assert set(everything["group"]) == {f"patient{case:02d}" for case in range(8)}
    assert set(everything["slide"]) == {None}
    for pattern, message in (
        ("(?P<case>", "is not a regular expression .*; mend it"),
        (r"^patient\d+", r"has no group \(\?P<case>\.\.\.\); put it around the case"),
        ("(?P<case>patient0[0-3])", "finds no case in 16 of 32 names"),
    ):
        with pytest.raises(CellsError, match=message):
            load(root, case_pattern=pattern)


FIRST = crop_name(0, 0)
FAULTS = {
    "label": (
        lambda root, labels: relabel(root, labels | {FIRST: 2}),
        r"public\.csv: '2' of image '.*' is not a class; mend it to one of: 0 \(non-sclerotic\), 1 \(sclerotic\)",
    ),
    "no label": (
        lambda root, labels: relabel(root, {n: v for n, v in labels.items() if n != FIRST}),
        r"public/S-1900-000000_.*\.png: has no label, as 1 of 40 images; add them to .*public\.csv or remove",
    ),
    "no image": (
        lambda root, labels: (root / "public" / FIRST).unlink(),
        r"public\.csv: 1 of 40 names have no image, the first is 'S-1900-000000_.*'; put the images back",
    ),
    "two labels": (
        lambda root, labels: relabel(root, labels | {FIRST.removesuffix(".png"): 0}),
        r"public\.csv: image '.*' is listed twice, as sclerotic and as non-sclerotic; keep one",
    ),
    "two tables": (
        lambda root, labels: shutil.copy(root / "public.csv", root / "evaluation.csv"),
        r"evaluation\.csv and .*public\.csv: two CSVs of labels; keep one",
    ),
    "no table": (
        lambda root, labels: (root / "public.csv").unlink(),
        r"data: no CSV with labels; put one with the header 'name,ground truth' beside the images",
    ),
    "another table": (
        lambda root, labels: (root / "public.csv").write_text("case,age\n1,2\n"),
        r"public\.csv: has the columns \['case', 'age'\]; give it the header 'name,ground truth'",
    ),
    "broken image": (
        lambda root, labels: (root / "public" / FIRST).write_bytes(b"\x89PNG nonsense"),
        r"public/.*\.png: cannot be decoded \(.*\); replace the file or remove it",
    ),
    "one name twice": (
        lambda root, labels: shutil.copy(root / "public" / FIRST, root / FIRST),
        r"\.png: has the same ID as .*\.png; keep one of the two or rename one",
    ),
    "no images": (
        lambda root, labels: shutil.rmtree(root / "public"),
        r"data: no images found; expected PNG crops and a CSV 'name,ground truth'",
    ),
    "one class": (
        lambda root, labels: relabel(root, dict.fromkeys(labels, 0)),
        r"the training split holds one class only \(non-sclerotic\); add cases of the other",
    ),
}


def relabel(root, labels):
    write_labels(root / "public.csv", {name: str(label) for name, label in labels.items()}, HEADER)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_line(tmp_path, load, fault):
    harm, message = FAULTS[fault]
    harm(tmp_path / "data", write_glomeruli(tmp_path / "data"))
    with pytest.raises(CellsError, match=message) as error:
        load(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_too_few_cases_and_wrong_options(tmp_path, load, caplog):
    root = tmp_path / "two"
    write_glomeruli(root, cases=2)
    with pytest.raises(
        CellsError, match=r"2 cases are too few: validation would be empty; add more, or set valid"
    ):
        load(root)
    assert {name: len(data) for name, data in load(root, test_fraction=0.0).items()} == {
        "train": 4,
        "validation": 4,
    }
    with pytest.raises(CellsError, match="below 1 together"):
        load(root, test_fraction=1.0)
    with pytest.raises(CellsError, match="glomeruli needs data_dir, the folder or zip with the crops"):
        load(None)
    labels = write_glomeruli(tmp_path / "rare")
    relabel(tmp_path / "rare", {name: int(name == FIRST) for name in labels})
    assert 1 in load(tmp_path / "rare")["train"]["label"]
    assert "no images of sclerotic in the split test" in caplog.text and "S-1900" not in caplog.text
    (tmp_path / "zips").mkdir()
    for letter in "ab":
        zip_all(root, tmp_path / "zips" / f"{letter}.zip")
    with pytest.raises(CellsError, match=r"images are in .*a\.zip and in .*b\.zip; keep one"):
        load(tmp_path / "zips")


def test_the_real_crops(real_data, load):
    path = real_data("glomeruli_pas_sample.zip")
    splits = load(path, "random_split")
    assert {name: len(data) for name, data in splits.items()} == {"train": 12, "validation": 2, "test": 2}
    assert all(set(data["label"]) == {0, 1} for data in splits.values())
    assert Counter(contents(splits).values()) == {0: 8, 1: 8}
    sizes = [np.asarray(row["image"]).shape for data in splits.values() for row in data]
    assert all(256 <= max(height, width) <= 915 and channels == 4 for height, width, channels in sizes)
    with pytest.raises(CellsError, match="3 cases are too few: validation would be empty"):
        load(path)
    whole = load(path, test_fraction=0.0)
    check_groups(whole)
    assert set(whole["train"]["label"]) == {0, 1}


def test_the_real_names(real_data, tmp_path):
    shutil.copy(real_data("glomeruli_public_full_5758.csv"), tmp_path)
    (table,) = find_tables(
        [FolderSource(str(tmp_path))], glomeruli.NAME_COLUMNS, glomeruli.LABEL_COLUMNS, glomeruli.CLASSES
    )
    source = FolderSource(str(tmp_path))
    crops = [glomeruli.Crop(name, source, name, label) for name, label in table.labels.items()]
    glomeruli.set_cases("the table", crops, glomeruli.CASE_PATTERN, required=True)
    assert len(crops) == 5758 and Counter(crop.label for crop in crops)["sclerotic"] == 1054
    assert len({crop.case for crop in crops}) == 215
    assert len({(crop.case, crop.slide) for crop in crops}) == 227
    splits = glomeruli.split_items("the table", crops, glomeruli.GlomeruliConfig(name="case_split"))
    cases = {name: {crop.case for crop in part} for name, part in splits.items()}
    assert sum(map(len, cases.values())) == 215 and min(map(len, cases.values())) > 10
    assert all(len({crop.label for crop in part}) == 2 for part in splits.values())
    assert all(abs(len(splits[name]) - 576) < 10 for name in ("validation", "test"))

"""HEp-2: every layout gives the same cells, blocks never leak, every fault gives one clear line."""

import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from classification_layouts import PATTERNS, noise, write_hep2, write_labels, zip_all
from hf_cells.dataset_scripts import hep2
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError


@pytest.fixture
def load(tmp_path):
    """Load HEp-2 with a cache of its own."""

    def call(data_dir, config=None, **options):
        return load_dataset("hep2", config, data_dir=data_dir, cache_dir=tmp_path / "cache", **options)

    return call


def contents(splits):
    """Return {split: {ID: class}}."""
    names = next(iter(splits.values())).features["label"].names
    return {
        split: {int(i): names[label] for i, label in zip(data["image_id"], data["label"])}
        for split, data in splits.items()
    }


LAYOUTS = {
    "contest": {},
    "unpadded": {"padded": False},
    "class folders": {"by_class": True},
    "other names": {"folders": {"tra": 6, "val": 2, "tes": 2}, "by_class": True},
    "train": {"folders": {"train": 6, "valid": 2, "testing": 2}},
}


PLACES = [(layout, "folder") for layout in LAYOUTS]
PLACES += [(x, y) for x in ("contest", "class folders") for y in ("zip", "zip in a folder", "below")]


@pytest.mark.parametrize(("layout", "place"), PLACES)
def test_every_layout_gives_the_same_cells(tmp_path, load, layout, place):
    root = tmp_path / "data" / "dataset"
    labels = write_hep2(root, 5, **LAYOUTS[layout])
    write_labels(root / "simulated.csv", {"00001": "Golgi"})  # describes simulated images: no labels
    data_dir = root.parent if place == "below" else root
    if place.startswith("zip"):
        (tmp_path / "zips").mkdir()
        archive = zip_all(root, tmp_path / "zips" / "cells.zip")
        data_dir = archive if place == "zip" else archive.parent
    splits = load(data_dir)
    turn = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    expected = defaultdict(dict)
    for number, label in labels.items():
        expected[turn[number % 10]][number] = label
    assert list(splits) == ["train", "validation", "test"] and contents(splits) == expected
    assert splits["train"].column_names == ["image_id", "group", "image", "label"]
    for row in splits["test"]:
        assert row["image_id"] == f"{int(row['image_id']):05d}"
        assert (np.asarray(row["image"]) == noise(int(row["image_id"]))).all()


def test_the_builder_says_what_the_data_are(tmp_path, load):
    builder = hep2.HEp2
    assert builder.class_names == PATTERNS == tuple(builder.class_colors)
    assert not builder.redistributable and "Hobson" in builder.citation
    assert list(builder.leaky_configs) == ["published_split"] == [builder.DEFAULT_CONFIG_NAME]
    write_hep2(tmp_path / "data", 3)
    feature = load(tmp_path / "data")["train"].features["label"]
    assert tuple(feature.names) == PATTERNS  # of the contest, not of sorted folders


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding", "form"),
    [
        ("ID,category", ",", "utf-8", "{}"),
        ("id,Category", ";", "utf-8-sig", "{}"),
        ("IMAGE ID,IMAGE CLASS", "\t", "utf-16", "{:05d}"),
        ("image_id,label", ";", "utf-16-le", "{:05d}.png"),
        ("Image ID,Image class", ",", "utf-16-be", "training/{:05d}.png"),
        ("ID,class", ",", "utf-8", "{}.0"),
        ('"Image ID",  Image class ', ",", "utf-8", '"{}"'),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, load, header, delimiter, encoding, form):
    root = tmp_path / "data"
    labels = write_hep2(root, 4)
    rows = {form.format(i): f" {label.upper()}" for i, label in labels.items()}
    write_labels(root / "gt_training.csv", rows, header, delimiter, encoding)
    assert Counter(c for split in contents(load(root)).values() for c in split.items()) == Counter(
        labels.items()
    )


def test_blocks_are_contiguous_and_each_is_tested_once(tmp_path, load):
    root = tmp_path / "data"
    copies = {120: 81, 119: 82, 45: 44}  # one pair far apart in its class, one beside it
    labels = write_hep2(root, 40, copies=copies, classes=PATTERNS[:3])
    tested = Counter()
    for fold in range(5):
        splits = load(root, "block_split", fold=fold)
        check_groups(splits)
        sides = {i: split for split, part in contents(splits).items() for i in part}
        assert sides.keys() == labels.keys()
        assert all(sides[a] == sides[b] for a, b in copies.items())
        tested.update(contents(splits)["test"].keys())
        blocks = {split: {g[-2:] for g in data["group"]} for split, data in splits.items()}
        assert blocks["test"] == {f"{4 * fold + k:02d}" for k in range(4)}
        assert blocks["validation"] == {f"{(4 * fold + 4 + k) % 20:02d}" for k in range(2)}
        for split, data in splits.items():
            assert Counter(g[:-3] for g in data["group"]) == Counter(contents(splits)[split].values())
    assert tested == Counter(labels.keys())
    items = hep2.find_items(str(root))
    hep2.set_groups(items)
    places = {int(item.image_id): int(item.group[-2:]) for item in items}
    homogeneous = [places[i] for i in range(1, 41)]
    assert homogeneous == [i // 2 for i in range(40)]
    assert places[120] == places[81] == 0 and places[119] == places[82] == 1
    published = load(root)
    assert {g for data in published.values() for g in data["group"]} == {item.group for item in items}
    with pytest.raises(CellsError, match="groups are in more than one of the splits"):
        check_groups(published)


def test_validation_blocks(tmp_path, load):
    write_hep2(tmp_path / "data", 20)
    splits = load(tmp_path / "data", "block_split", fold=4, validation_blocks=5)
    assert {g[-2:] for g in splits["validation"]["group"]} == {"00", "01", "02", "03", "04"}
    assert list(load(tmp_path / "data", "block_split", validation_blocks=0)) == ["train", "test"]


def test_gap_blocks_are_in_no_split(tmp_path, load):
    """On both sides of `test`, cyclically; validation comes after the gap."""
    write_hep2(tmp_path / "data", 20)
    splits = load(tmp_path / "data", "block_split", fold=0, gap_blocks=2, validation_blocks=3)
    blocks = {name: sorted({int(group[-2:]) for group in data["group"]}) for name, data in splits.items()}
    assert blocks == {"test": [0, 1, 2, 3], "validation": [6, 7, 8], "train": list(range(9, 18))}
    splits = load(tmp_path / "data", "block_split", fold=4, gap_blocks=7, validation_blocks=1)
    assert {name: {int(g[-2:]) for g in data["group"]} for name, data in splits.items()} == {
        "test": {16, 17, 18, 19},
        "validation": {7},
        "train": {8},
    }


def test_a_copy_of_the_data_without_test(tmp_path, load):
    root = tmp_path / "data"
    copies = {number + 3: number for number in range(1, 115, 10)}  # training/ with training/
    labels = write_hep2(root, 20, folders={"training": 8, "validation": 2}, copies=copies)
    assert list(load(root)) == ["train", "validation"]
    splits = contents(load(root, test_from="validation"))
    assert splits["test"].keys() == {i for i in labels if i % 10 >= 8}
    assert Counter(splits["validation"].values()) == dict.fromkeys(PATTERNS, 2)  # a tenth of 16, rounded
    sides = {i: split for split, part in splits.items() for i in part}
    assert all(sides[a] == sides[b] != "test" for a, b in copies.items())
    other = contents(load(root, test_from="validation", split_seed=1))
    assert other["test"] == splits["test"] and other["validation"] != splits["validation"]
    more = contents(load(root, test_from="validation", validation_fraction=0.3))
    assert len(more["validation"]) in (28, 29, 30)


def test_pooled_learns_from_both_folders_and_leaves_the_published_test_alone(tmp_path, load):
    root = tmp_path / "data"
    write_hep2(root, 20, folders={"training": 6, "validation": 2, "test": 2})
    published, pooled = contents(load(root)), contents(load(root, pooled=True))
    assert pooled["test"] == published["test"]
    both = published["train"] | published["validation"]
    assert pooled["train"] | pooled["validation"] == both
    assert len(pooled["validation"]) == 12 and len(pooled["train"]) > len(published["train"])


def test_labels_of_test_in_a_table_of_their_own_or_nowhere(tmp_path, load, caplog):
    root = tmp_path / "data"
    labels = write_hep2(root, 10)
    test = {f"{i}": label for i, label in labels.items() if i % 10 >= 8}
    others = {f"{i}": label for i, label in labels.items() if i % 10 < 8}
    write_labels(root / "gt_training.csv", others)
    write_labels(root / "gt_test.csv", test, "ID,category")
    assert contents(load(root))["test"] == {int(i): label for i, label in test.items()}
    (root / "gt_test.csv").unlink()
    assert list(load(root)) == ["train", "validation"]
    assert "test/ is left out: none of its 12 images has a label" in caplog.text
    write_labels(root / "gt_training.csv", others | dict.fromkeys(test, ""))
    assert list(load(root)) == ["train", "validation"]


def test_splits_in_zips_of_their_own(tmp_path, load):
    root, zips = tmp_path / "data", tmp_path / "zips"
    labels = write_hep2(root, 10)
    zips.mkdir()
    for split in ("training", "validation", "test"):
        zip_all(root / split, zips / f"{split}.zip")
    shutil.copy(root / "gt_training.csv", zips)
    assert sum(map(len, contents(load(zips)).values())) == len(labels)
    shutil.copytree(root / "test", zips / "test")  # unzipped beside its zip
    assert contents(load(zips)) == contents(load(root))
    shutil.copy(zips / "training.zip", zips / "train.zip")
    with pytest.raises(
        CellsError, match=r"images of train are in .*train\.zip and in .*training\.zip; keep one"
    ):
        load(zips)


def test_test_images_alone_are_enough_to_evaluate(tmp_path, load):
    labels = write_hep2(tmp_path / "data", 2, folders={"test": 1})
    assert contents(load(tmp_path / "data")) == {"test": labels}


def table(root, harm):
    path = root / "gt_training.csv"
    path.write_text(harm(path.read_text()))


FAULTS = {
    "label": (
        lambda root: table(root, lambda text: text.replace("00003,Homogeneous", "00003,Cytoplasmic")),
        r"gt_training\.csv: 'Cytoplasmic' of image '00003' is not a class; mend it to one of: Homogeneous, .*Golgi",
    ),
    "no label": (
        lambda root: table(root, lambda text: text.replace("00003,Homogeneous\n", "")),
        r"training/00003\.png: has no label, as 1 of 36 images beside it; add them to .*gt_training\.csv",
    ),
    "no image": (
        lambda root: (root / "training" / "00003.png").unlink(),
        r"gt_training\.csv: 1 of 60 IDs have no image, the first is 00003; put the images back or remove",
    ),
    "two labels": (
        lambda root: table(root, lambda text: text + "3,Golgi\n"),
        r"gt_training\.csv: image '00003' is listed twice, as Homogeneous and as Golgi; keep one",
    ),
    "two tables": (
        lambda root: write_labels(root / "more.csv", {"3": "Golgi"}),
        r"more\.csv: says that image 00003 is Golgi, but .*gt_training\.csv says Homogeneous; mend one",
    ),
    "padded and not": (
        lambda root: shutil.copy(root / "training" / "00003.png", root / "training" / "3.png"),
        r"3\.png: has the same ID as .*00003\.png; keep one of the two or rename one",
    ),
    "in two splits": (
        lambda root: shutil.copy(root / "training" / "00003.png", root / "test" / "00003.png"),
        r"training/00003\.png|test/00003\.png: has the same ID as .*00003\.png; keep one",
    ),
    "no table": (
        lambda root: (root / "gt_training.csv").unlink(),
        r"data: no CSV with labels; put gt_training\.csv with the header 'Image ID,Image class' beside training/",
    ),
    "no header": (
        lambda root: table(root, lambda text: text.partition("\n")[2]),
        r"gt_training\.csv: has the columns \['00001', 'homogeneous'\]; give it the header 'Image ID,Image class'",
    ),
    "not text": (
        lambda root: (root / "gt_training.csv").write_bytes(b"Image ID,Image class\n\xff\xfe\x81"),
        r"gt_training\.csv: is not a CSV .*; save it as comma-separated UTF-8",
    ),
    "broken image": (
        lambda root: (root / "test" / "00008.png").write_bytes(b"\x89PNG nonsense"),
        r"test/00008\.png: cannot be decoded \(.*\); replace the file or remove it",
    ),
    "no validation": (
        lambda root: [path.unlink() for path in (root / "validation").iterdir()],
        r"training/ has images but validation/ has none; put them back or use the configuration block_split",
    ),
    "wrong zip": (
        lambda root: (root / "hep2.zip").write_bytes(b"PK nonsense"),
        r"hep2\.zip: is truncated or not a zip \(.*\); download it again",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_line(tmp_path, load, fault):
    harm, message = FAULTS[fault]
    write_hep2(tmp_path / "data", 10)
    harm(tmp_path / "data")
    with pytest.raises(CellsError, match=message) as error:
        load(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_class_folders_that_are_none(tmp_path, load):
    root = tmp_path / "data"
    write_hep2(root, 10, by_class=True)
    write_labels(root / "gt.csv", {"3": "Golgi"})
    with pytest.raises(
        CellsError, match=r"Homogeneous/00003\.png: is in the folder of Homogeneous but .*gt\.csv says"
    ):
        load(root)
    (root / "gt.csv").unlink()
    (root / "training" / "Golgi").rename(root / "training" / "Mitochondria")
    with pytest.raises(
        CellsError, match=r"its folder 'Mitochondria' is not a class; rename it to one of: Homog"
    ):
        load(root)


def test_one_class_and_absent_classes(tmp_path, load, caplog):
    write_hep2(tmp_path / "one", 20, classes=["Golgi"])
    with pytest.raises(
        CellsError, match=r"one: the training split holds one class only \(Golgi\); put images"
    ):
        load(tmp_path / "one")
    write_hep2(tmp_path / "two", 20, classes=["Golgi", "NuMem"])
    load(tmp_path / "two", "block_split")
    assert "no images of Homogeneous, Speckled, Nucleolar, Centromere in the split test" in caplog.text
    write_hep2(tmp_path / "few", 1, folders={"training": 5, "validation": 1})
    with pytest.raises(
        CellsError, match=r"6 images are too few for blocks: train and validation would be empty"
    ):
        load(tmp_path / "few", "block_split")


def test_labels_of_images_that_were_never_there(tmp_path, load, caplog):
    root = tmp_path / "data"
    write_hep2(root, 10)
    shutil.rmtree(root / "test")
    assert list(load(root)) == ["train", "validation"]
    assert (
        "12 of 60 IDs have no image, the first is 00008; they are left out, as there are no images for test"
        in (caplog.text)
    )


def test_wrong_options(tmp_path, load):
    write_hep2(tmp_path / "data", 10)
    for config, options, message in (
        ("block_split", {"fold": 5}, "fold=5: choose 0 to 4"),
        ("block_split", {"validation_blocks": 16}, "validation_blocks=16: choose 0 to 15"),
        ("block_split", {"gap_blocks": 8}, "gap_blocks=8: choose 0 to 7"),
        ("block_split", {"gap_blocks": 7}, "validation_blocks=2: choose 0 to 1 beside gap_blocks=7"),
        (None, {"test_from": "train"}, "test_from='train': choose 'test' or 'validation'"),
        (None, {"test_from": "validation", "validation_fraction": 1.5}, "below 1 together"),
        ("five_fold", {}, "no configuration 'five_fold'; choose from: published_split, block_split"),
    ):
        with pytest.raises(CellsError, match=message):
            load(tmp_path / "data", config, **options)
    shutil.rmtree(tmp_path / "data" / "validation")
    with pytest.raises(
        CellsError, match="test_from='validation' needs images .* none for validation; put them back"
    ):
        load(tmp_path / "data", test_from="validation")
    with pytest.raises(CellsError, match="hep2 needs data_dir, the folder or zip with training/"):
        load(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellsError, match=r"empty: no images found; expected training/NNNNN\.png"):
        load(tmp_path / "empty")


def test_equal_pictures_of_two_classes_are_reported(tmp_path, caplog):
    write_hep2(tmp_path / "data", 4, copies={24: 1})
    hep2.set_groups(hep2.find_items(str(tmp_path / "data")))
    assert "1 images are equal to one of another class" in caplog.text


def test_a_copy_in_another_format_is_found(tmp_path):
    root = tmp_path / "data"
    write_hep2(root, 4, folders={"training": 1}, classes=["Golgi", "NuMem"])
    grey = Image.fromarray(noise(1))
    for number, mode in ((2, "RGB"), (3, "RGBA"), (4, "P")):
        (root / "training" / f"{number:05d}.png").unlink()
        grey.convert(mode).save(root / "training" / f"{number:05d}.png")
    items = hep2.find_items(str(root))
    hep2.set_groups(items)
    assert [len({item.pixels for item in part}) for part in (items[:4], items[4:], items)] == [1, 4, 5]
    assert [item.group for item in items[:5]] == ["Golgi-00"] * 4 + ["NuMem-00"]


def test_stray_images_are_counted_and_names_need_not_be_numbers(tmp_path, load, caplog):
    root = tmp_path / "data"
    write_hep2(root, 3, by_class=True)
    Image.fromarray(noise(1)).save(root / "montage.png")
    (root / "training" / "Speckled" / "notes.txt").write_text("no image")
    Image.fromarray(noise(99)).save(root / "training" / "Speckled" / "mine_a.BMP")
    ids = load(root)["train"]["image_id"]
    assert ids[-1] == "mine_a" and ids[:-1] == sorted(ids[:-1])
    assert "1 images outside training/, validation/, test/ are left out" in caplog.text


def test_two_processes_give_the_same_rows(tmp_path, load):
    write_hep2(tmp_path / "data", 4)
    archive = zip_all(tmp_path / "data", tmp_path / "one.zip")
    assert contents(load(archive, num_proc=2)) == contents(load(tmp_path / "data"))


def test_the_real_cells(real_data):
    path = str(real_data("hep2_icpr2014_train_val.zip"))
    items = hep2.find_items(path)
    hep2.set_groups(items)
    assert Counter(item.split for item in items) == {"train": 8701, "validation": 2175}
    copies = defaultdict(list)
    for item in items:
        copies[item.pixels].append(item)
    pairs = [equal for equal in copies.values() if len(equal) > 1]
    assert len(pairs) == 118 and {len(pair) for pair in pairs} == {2}
    assert Counter("+".join(sorted(i.split for i in pair)) for pair in pairs) == {
        "train+train": 80,
        "train+validation": 35,
        "validation+validation": 3,
    }
    for a, b in pairs:
        assert a.group == b.group and abs(int(a.image_id) - int(b.image_id)) == 194
    for fold in range(5):
        splits = hep2.split_by_block(path, items, hep2.HEp2Config(fold=fold))
        sides = {item.image_id: split for split, part in splits.items() for item in part}
        assert all(sides[a.image_id] == sides[b.image_id] for a, b in pairs)
        assert all({item.label for item in part} == set(PATTERNS) for part in splits.values())
        assert abs(len(splits["test"]) - 2175) < 10 and abs(len(splits["validation"]) - 1088) < 10
    cut = hep2.split_as_published(path, items, hep2.HEp2Config(test_from="validation"))
    assert {split: len(part) for split, part in cut.items()} == {
        "train": 7831,
        "validation": 870,
        "test": 2175,
    }
    sides = {item.image_id: split for split, part in cut.items() for item in part}
    divided = [pair for pair in pairs if len({sides[item.image_id] for item in pair}) > 1]
    assert len(divided) == 35  # as published; the cut through training/ divides none
    assert all("test" in {sides[item.image_id] for item in pair} for pair in divided)

"""A user's own labelled images: class folders and tables, and what is said about the others."""

import csv
import io
import zipfile
from collections import Counter

import datasets
import numpy as np
import pytest
import tifffile
from cell_folders import WRONG_SPLIT_OPTIONS
from hf_cells.dataset_scripts._stratify import assign_stratified_splits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_cells.data.label_tables import ImageFinder
from hf_cells.data.labelled_items import natural_order
from hf_cells.data.loading import load_dataset, own_builder
from hf_cells.data.prepare import prepare
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError
from hf_cells.training.main import use_data
from hf_cells.training.recipe import load_recipe


def write_image(path, seed=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(str(path.relative_to(path.parents[1])).encode()) if seed is None else seed
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 7), np.uint8)).save(path)
    return path


def class_folders(root, counts, case_size=1):
    """Write <root>/<Class>/<class>NN_caseMM.png."""
    for name, count in counts.items():
        for index in range(count):
            write_image(root / name / f"{name.lower()}{index:02d}_case{index // case_size:02d}.png")
    return root


def table(root, text, names, encoding="utf-8"):
    """Write <root>/labels.csv and images of these names."""
    for index, name in enumerate(names):
        write_image(root / name, seed=index)
    (root / "labels.csv").write_bytes(text.encode(encoding))
    return root


def labels_of(rows, column="label"):
    feature = rows.features[column]
    if column == "labels":
        return {row["image_id"]: [feature.feature.int2str(i) for i in row[column]] for row in rows}
    return {row["image_id"]: feature.int2str(row[column]) for row in rows}


@pytest.fixture
def load(tmp_path):
    def call(path, config=None, **options):
        return load_dataset(path, config, cache_dir=tmp_path / "cache", **options)

    return call


NO_SPLIT = {"validation_fraction": 0.0, "test_fraction": 0.0}


def test_class_folders_give_columns_and_a_split_by_class(tmp_path, load):
    root = class_folders(tmp_path / "own", {"Speckled": 20, "Golgi": 4, "class 10": 20, "Class 2": 20})
    splits = load(root)
    assert list(splits) == ["train", "validation", "test"]
    features = splits["train"].features
    assert list(features) == ["image_id", "group", "image", "label"]
    assert features["label"].names == ["Class 2", "class 10", "Golgi", "Speckled"]
    counts = {split: Counter(labels_of(rows).values()) for split, rows in splits.items()}
    assert counts["test"] == {"Class 2": 4, "class 10": 4, "Golgi": 1, "Speckled": 4}
    assert counts["validation"] == {"Class 2": 2, "class 10": 2, "Golgi": 1, "Speckled": 2}
    assert counts["train"] == {"Class 2": 14, "class 10": 14, "Golgi": 2, "Speckled": 14}
    assert set(splits["train"]["group"]) == {None}
    stored = splits["test"].cast_column("image", datasets.Image(decode=False))[0]
    name = labels_of(splits["test"])[stored["image_id"]]
    assert stored["image"]["bytes"] == (root / name / f"{stored['image_id']}.png").read_bytes()
    assert load(root)["test"]["image_id"] == splits["test"]["image_id"]
    assert load(root, split_seed=1)["test"]["image_id"] != splits["test"]["image_id"]


def test_groups_stay_whole_and_may_be_folders(tmp_path, load):
    root = class_folders(tmp_path / "own", {"A": 24, "B": 24}, case_size=3)
    by_name = load(root, groups=r"_(case\d+)$")
    check_groups(by_name)
    assert {split: len(set(rows["group"])) for split, rows in by_name.items()} == {
        "train": 5,
        "validation": 1,
        "test": 2,
    }
    for path in sorted(root.rglob("*.png")):
        write_image(path.parent / path.stem[-6:] / f"{path.stem[:3]}.png")
        path.unlink()
    by_folder = load(root, groups=r"/(case\d+)/")
    check_groups(by_folder)
    assert by_folder["test"]["group"] == by_name["test"]["group"]
    for bad, message in (
        (r"slide\d", "finds nothing in this name"),
        (r"x*$", "finds nothing"),
        ("(", "no"),
    ):
        with pytest.raises(CellsError, match=message):
            load(root, groups=bad)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "Valid", "Testing"), ("tra", "val", "tes")]
)
def test_a_made_split_is_kept(tmp_path, load, names):
    root = tmp_path / "own"
    for folder, count in zip(names, (5, 2, 3)):
        class_folders(root / folder, {"A": count, "B": count})
    splits = load(root)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 10, "validation": 4, "test": 6}
    assert splits["test"]["image_id"][0] == f"{names[2]}/A/a00_case00"  # stems come twice


def test_validation_is_cut_from_train(tmp_path, load):
    class_folders(tmp_path / "own" / "train", {"A": 20, "B": 20})
    class_folders(tmp_path / "own" / "test", {"A": 2, "B": 2})
    splits = load(tmp_path / "own")
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 36, "validation": 4, "test": 4}
    assert Counter(splits["validation"]["label"]) == {0: 2, 1: 2}


def test_a_class_called_test_is_a_class(tmp_path, load):
    splits = load(class_folders(tmp_path / "own", {"control": 5, "test": 5}))
    assert splits["train"].features["label"].names == ["control", "test"]


def test_every_format_and_depth_keeps_its_pixels(tmp_path, load):
    root = class_folders(tmp_path / "own", {"A": 1, "B": 1})
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    tifffile.imwrite(root / "A" / "deep.tif", deep)
    for suffix in (".jpg", ".BMP", ".tiff"):
        write_image(root / "B" / f"b{suffix}{suffix}")
    rows = load(root, split="all", **NO_SPLIT)
    assert len(rows) == 6
    (pixels,) = [np.asarray(row["image"]) for row in rows if row["image_id"] == "deep"]
    assert (pixels == deep).all()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_of_every_dialect(tmp_path, load, separator, encoding):
    rows = [
        ["Image ID", "Ground Truth", "remark"],
        ["a", "größer, fest; 2", "x"],
        ["b.png", "Klein", '"'],
        ["c", "Klein", ""],
    ]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator).writerows(rows)
    root = table(tmp_path / "own", buffer.getvalue(), ["a.png", "sub/b.png", "c.tif"], encoding)
    assert labels_of(load(root, split="all", **NO_SPLIT)) == {
        "a": "größer, fest; 2",
        "b": "Klein",
        "c": "Klein",
    }


def test_numbers_are_in_order_of_value(tmp_path, load):
    lines = "".join(f"{index},{index}\n" for index in range(12))
    root = table(tmp_path / "own", "file,class\n" + lines, [f"images/{index:03d}.png" for index in range(12)])
    rows = load(root, split="all", **NO_SPLIT)
    assert rows.features["label"].names == [str(index) for index in range(12)]
    assert labels_of(rows)["011"] == "11"  # the zeros that a spreadsheet has dropped
    assert natural_order(["10", "9.5", "-1"]) == ["-1", "9.5", "10"]
    assert natural_order(["b10", "B9", "a", "1"]) == ["1", "a", "B9", "b10"]


def test_groups_and_splits_of_a_table(tmp_path, load):
    names = [f"{index}.png" for index in range(12)]
    lines = "".join(
        f"{i}.png,{'AB'[i % 2]},p{i // 4},{('Train', 'val', 'TEST')[i // 4]}\n" for i in range(12)
    )
    root = table(tmp_path / "own", "filename,label,patient,split\n" + lines, names)
    splits = load(root)
    assert {split: set(rows["group"]) for split, rows in splits.items()} == {
        "train": {"p0"},
        "validation": {"p1"},
        "test": {"p2"},
    }
    again = load(root, split_column="", split_seed=3)
    check_groups(again)
    assert {split: len(rows) for split, rows in again.items()} == {"train": 4, "validation": 4, "test": 4}
    plain = load(
        root, split_column="", group_column="", split="all", validation_fraction=0.2, test_fraction=0.2
    )
    assert set(plain["group"]) == {None}
    by_name = load(root, groups=r"^\d", split="all")
    assert "p0" not in by_name["group"]


def test_columns_and_table_can_be_named(tmp_path, load):
    root = table(tmp_path / "own", "x\n1\n", ["a.png", "b.png", "c.png"])
    (root / "labels.csv").rename(tmp_path / "other.csv")
    (tmp_path / "other.csv").write_text(
        "shot,verdict,lot,set no\na,no,1,train\nb,yes,1,train\nc,yes,2,test\n"
    )
    options = {
        "image_column": "Shot",
        "label_column": "verdict",
        "group_column": "lot",
        "split_column": "set_no",
    }
    splits = load(root, labels=str(tmp_path / "other.csv"), validation_fraction=0.0, **options)
    assert labels_of(splits["train"]) == {"a": "no", "b": "yes"} and splits["test"]["group"] == ["2"]
    (tmp_path / "other.csv").write_text(
        "shot,verdict,lot,set no\na,yes,1,train\nb,no,1,train\nc,yes,2,test\n"
    )
    splits = load(root, labels=str(tmp_path / "other.csv"), validation_fraction=0.0, **options)
    assert labels_of(splits["train"]) == {"a": "yes", "b": "no"}  # never stale


def test_the_split_may_be_in_the_folders_of_a_table(tmp_path, load):
    names = ["train/1.png", "train/2.png", "test/1.png", "test/2.png"]
    text = "path,label\n" + "".join(f"{name},{name[-5]}\n" for name in names)
    splits = load(table(tmp_path / "own", text, names), validation_fraction=0.0)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 2, "test": 2}


def test_several_labels(tmp_path, load):
    text = "id,labels\na,red|blue\nb,\nc,blue\nd,blue | 7 | blue\n"
    root = table(tmp_path / "own", text, ["a.png", "b.png", "c.png", "d.png"])
    rows = load(root, split="all", **NO_SPLIT)
    assert rows.features["labels"] == datasets.List(datasets.ClassLabel(names=["7", "blue", "red"]))
    assert labels_of(rows, "labels") == {"a": ["blue", "red"], "b": [], "c": ["blue"], "d": ["7", "blue"]}
    (root / "labels.csv").write_text('id,labels\na,"red,blue"\nb,blue|\nc,blue\nd,"7,blue"\n')
    rows = load(root, split="all", label_separator=",", **NO_SPLIT)
    assert labels_of(rows, "labels")["b"] == ["blue|"]
    (root / "labels.csv").write_text("id,labels\na,red|blue\nb,blue\nc,blue\nd,red|blue\n")
    rows = load(root, split="all", label_separator="", **NO_SPLIT)
    assert rows.features["label"].names == ["blue", "red|blue"]


def test_a_table_beside_class_folders(tmp_path, load):
    root = class_folders(tmp_path / "own", {"A": 3, "B": 3})
    (root / "notes.csv").write_text("filename,reader\nx,y\n")
    with pytest.raises(
        CellsError, match=r"notes\.csv: none of the columns.*labels=folders for class folders"
    ):
        load(root)
    assert len(load(root, labels="folders", split="all")) == 6


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("one/a.png", ["one/a.png"]),
        ("two\\a", ["two/a.png"]),
        ("./one/a.PNG", ["one/a.png"]),
        ("/home/me/pictures/one/a.png", ["one/a.png"]),
        ("B", ["two/b.tif"]),
        ("b.png", ["two/b.tif"]),
        ("a.png", ["one/a.png", "two/a.png"]),
        ("three/a.png", []),
        ("7", []),
        ("007.v1", ["two/007.v1.png"]),
        ("8", ["008.png"]),
        ("", []),
    ],
)
def test_what_a_cell_means(cell, found):
    names = ["one/a.png", "two/a.png", "two/b.tif", "two/007.v1.png", "008.png"]
    assert ImageFinder(names).find(cell) == found


def test_of_two_image_columns_the_one_with_files_counts(tmp_path, load):
    names = ["a.png", "b.png"]
    root = table(tmp_path / "own", "id,name,file,label\n1,x,a,A\n2,y,b,B\n", names)
    assert labels_of(load(root, split="all", **NO_SPLIT)) == {"a": "A", "b": "B"}
    (root / "labels.csv").write_text("name,file,label\na,b,A\nb,a,B\n")
    with pytest.raises(CellsError, match="the columns name and file name different images; say which"):
        load(root)


BAD_TABLES = {
    "file,label\na,A\nb,B\nc,B\nx,A\n": r"labels\.csv, line 5: no image 'x' in .* \(1 such rows\); add the images",
    "file,label\na,A\nb,B\n": r"c\.png: has no row in .*labels\.csv \(1 such images\); add rows",
    "file,label\na,A\nb,B\nc,B\na.png,B\n": r"line 5: a\.png is 'B' here and 'A' in line 2; keep one row",
    "file,label\na,A\nb,B\nc,B\nc,B\n": r"line 5: c\.png has a row in line 4 already; keep one row",
    "file,label,split\na,A,train\nb,B,dev\nc,B,test\n": r"line 3: 'dev' in the column 'split' is no split; write",
    "file,label,split\na,A,train\nb,B,\nc,B,test\n": r"line 3: '' in the column 'split' is no split; write",
    "file,label\na,A\nb,A\nc,A\n": r"labels\.csv: has only the class 'A'; a classifier needs two or more",
    "file,label\na,A\nb,a\nc,A\n": r"the classes 'A' and 'a' differ by spelling only; make them one",
    "file,label\na,A\nb,\nc,B\n": r"line 3: has no label; fill it in",
    "file,label,split\na,A,train\nb,B,test\nc,A,train\n": r"no training image is 'B' \(1 such classes\); add some",
    "file,label,class\na,A,B\n": r"columns label, class may be the label; say which, such as label_column=label",
    "file,label,case,slide\na,A,1,1\nb,B,1,1\nc,B,2,2\n": r"case, slide may be the group; .* group_column=case",
    "file,x\na,A\n": r"none of the columns file, x is known to hold labels; say label_column=<name>",
    "x,label\na,A\n": r"none of the columns x, label is known to hold image names; say image_column=<name>",
    "file,label\nx,A\ny,B\n": r"no cell of the column 'file' is the name of an image in .*own; set image_column",
    "file,label,label\na,A,B\n": r"two columns are called 'label'; rename one",
    "file,label\na,A,B\n": r"line 2: has 3 cells but the header has 2; put cells",
    'file,label\na,"A\nb,B\n': r"labels\.csv, line \d: is no CSV \(.*\); mend the quotes",
    "file,label\n": r"labels\.csv: has no rows; it needs a header",
    "": r"labels\.csv: has no rows; it needs a header",
}


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.items())
def test_a_bad_table_is_one_clear_line(tmp_path, load, text, message):
    root = table(tmp_path / "own", text, ["a.png", "b.png", "c.png"])
    with pytest.raises(CellsError, match=message) as error:
        load(root, validation_fraction=0.0)
    assert "\n" not in str(error.value)


def two_tables(root):
    (root / "more.csv").write_text("file,label\n")
    return {}, r"holds the tables labels\.csv and more\.csv; say which .* labels=labels\.csv"


def latin(root):
    (root / "labels.csv").write_bytes("file,label\na,größer\n".encode("latin-1"))
    return {}, r"labels\.csv: is neither UTF-8 nor UTF-16 text; save it as CSV UTF-8"


def same_name(root):
    for folder in ("one", "two"):
        write_image(root / folder / "a.png")
    (root / "a.png").unlink()
    return {}, r"line 2: 'a' may be one/a\.png or two/a\.png; write its path"


def half_split(root):
    (root / "train").mkdir()
    (root / "b.png").rename(root / "train" / "b.png")
    return {}, r"train/b\.png is in a split folder and a\.png is not"


def no_such_table(root):
    return {"labels": "nowhere.csv"}, r"nowhere\.csv: no such table, neither from here nor from .*own"


def no_such_column(root):
    return {"label_column": "grade"}, r"no column 'grade'; set label_column to one of file, label"


def two_kinds_of_group(root):
    return {"groups": ".", "group_column": "label"}, "groups and group_column both say"


def fractions_too_large(root):
    return {"test_fraction": 0.9, "validation_fraction": 0.2}, "below 1 together; mend validation_fraction"


def damaged(root):
    path = root / "b.png"
    path.write_bytes(path.read_bytes()[:-30])
    return NO_SPLIT, r"own/b\.png: cannot be decoded"


def stack(root):
    (root / "b.png").unlink()
    tifffile.imwrite(root / "b.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    return NO_SPLIT, r"b\.tif: is a stack of 3 planes"


def too_few(root):
    return (
        {},
        r"validation stays empty, as 3 images are too few to divide; add images, make a validation split",
    )


def empty_split_folder(root):
    (root / "val").mkdir()
    return {}, r"own/val: holds no images; fill it"


@pytest.mark.parametrize(
    "harm",
    [
        two_tables,
        latin,
        same_name,
        half_split,
        no_such_table,
        no_such_column,
        two_kinds_of_group,
        fractions_too_large,
        damaged,
        stack,
        too_few,
        empty_split_folder,
    ],
)
def test_a_bad_folder_with_a_table_is_one_clear_line(tmp_path, load, harm):
    root = table(tmp_path / "own", "file,label\na,A\nb,B\nc,B\n", ["a.png", "b.png", "c.png"])
    options, message = harm(root)
    with pytest.raises(CellsError, match=message) as error:
        load(root, **options)
    assert "\n" not in str(error.value)


def loose(root):
    write_image(root / "x.png")
    return r"own/x\.png: lies in no class folder; move it into .*own/<Class>/, or put a table"


def empty_class(root):
    (root / "C").mkdir()
    return r"own/C: is a class folder without images"


def one_class(root):
    for path in (root / "B").iterdir():
        path.unlink()
    (root / "B").rmdir()
    return "has only the class 'A'"


def twice(root):
    write_image(root / "A" / "a00_case00.bmp")
    return r"a00_case00\.png: has the same stem as A/a00_case00\.bmp"


def mixed_splits(root):
    class_folders(root / "train", {"A": 2})
    return r"own/train/A/a00_case00\.png is in a split folder and A/a00_case00\.png is not"


def split_within_class(root):
    class_folders(root / "A" / "train", {"C": 2})
    return r"the split folder train lies within the class folder A; give the folder that holds the splits"


def table_option(root):
    (root / "labels.csv").touch()
    return r"own/labels\.csv: has no rows"


@pytest.mark.parametrize(
    "harm", [loose, empty_class, one_class, twice, mixed_splits, split_within_class, table_option]
)
def test_bad_class_folders_are_one_clear_line(tmp_path, load, harm):
    root = class_folders(tmp_path / "own", {"A": 6, "B": 6})
    message = harm(root)
    with pytest.raises(CellsError, match=message) as error:
        load(root)
    assert "\n" not in str(error.value)


def test_bad_splits_of_class_folders(tmp_path, load):
    root = tmp_path / "own"
    for split in ("train", "test"):
        class_folders(root / split, {"A": 3, "B": 3})
    class_folders(root / "test", {"C": 1})
    with pytest.raises(CellsError, match="no training image is 'C'"):
        load(root)
    class_folders(root / "train", {"C": 3})
    (root / "val" / "A").mkdir(parents=True)
    with pytest.raises(CellsError, match=r"own/val: holds no images; fill it"):
        load(root)
    class_folders(root / "val", {"A": 1, "B": 1, "C": 1})
    class_folders(root / "validation", {"A": 1})
    with pytest.raises(CellsError, match="val and validation are both validation; keep one"):
        load(root)
    with pytest.raises(CellsError, match="has no table for label_column; give it as labels="):
        load(class_folders(tmp_path / "plain", {"A": 3, "B": 3}), label_column="x")
    write_image(tmp_path / "flat" / "train" / "a.png")
    write_image(tmp_path / "flat" / "test" / "b.png")
    with pytest.raises(
        CellsError, match=r"test, train hold images but no class folders; move the images into"
    ):
        load(tmp_path / "flat", "classification")


def test_one_group_per_class_cannot_be_divided(tmp_path, load):
    root = class_folders(tmp_path / "own", {"A": 6, "B": 6})
    with pytest.raises(CellsError, match="test stays empty, as 2 groups are too few to divide; add groups"):
        load(root, groups="^[a-z]")


def test_a_class_that_cannot_be_measured_is_said(tmp_path, load, caplog):
    root = class_folders(tmp_path / "own", {"Rare": 2, "Many": 20})
    datasets.logging.enable_propagation()
    try:
        splits = load(root)
    finally:
        datasets.logging.disable_propagation()
    assert "no image of validation is Rare" in caplog.text
    assert Counter(labels_of(splits["train"]).values())["Rare"] == 1


def test_other_folders_are_not_taken_for_labelled_ones(tmp_path):
    write_image(tmp_path / "masks" / "images" / "a.png")
    write_image(tmp_path / "masks" / "masks" / "a.png")
    (tmp_path / "masks" / "labels.csv").write_text("file,label\n")
    write_image(tmp_path / "raw" / "stage1_train" / "a" / "images" / "a.png")
    (tmp_path / "raw" / "stage1_solution.csv").write_text("x")
    write_image(tmp_path / "flat" / "a.png")
    names = {name: own_builder(tmp_path / name) for name in ("masks", "raw", "flat")}
    assert {name: builder and builder.__name__ for name, builder in names.items()} == {
        "masks": "CellFolder",
        "raw": None,
        "flat": None,
    }
    write_image(tmp_path / "table" / "images" / "a.png")
    assert own_builder(tmp_path / "table").__name__ == "CellFolder"  # which asks for masks
    (tmp_path / "table" / "labels.csv").write_text("file,label\n")
    assert own_builder(tmp_path / "table").__name__ == "LabelledFolder"
    assert own_builder(tmp_path / "masks", "classification").__name__ == "LabelledFolder"
    assert own_builder(tmp_path / "flat", options=["labels"]).__name__ == "LabelledFolder"


def point(data_dir, name, model="cell_classification", config=None, **options):
    """Return what `--data_dir` makes of the data of a recipe."""
    recipe = load_recipe("dsb2018_instance")
    recipe["name"], recipe["model"]["type"] = "mine", model
    recipe["data"] |= {"name": name, "config": config, "options": options, "simulate": {"n_train": 3}}
    use_data(recipe, str(data_dir))
    return recipe["data"]


def test_training_takes_an_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "own", {"A": 3, "B": 3})
    for name, config in (("own", None), ("hep2", "published_split"), ("glomeruli", "case_split")):
        data = point("own", name, config=config, split_seed=2, validation_fraction=0.2)
        assert (data["name"], data["config"]) == (str(tmp_path / "own"), "classification")
        assert data["data_dir"] is None and data["simulate"] is None
        assert data["options"] == {"split_seed": 2, "validation_fraction": 0.2}
    # What only the dataset of the recipe knows goes; a slip of the pen stays, to be refused.
    assert point("own", "hep2", fold=3, grups="x")["options"] == {"grups": "x"}
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert point("own", "own", labels="labels.csv")["options"] == {"labels": str(tmp_path / "labels.csv")}
    with pytest.raises(
        CellsError, match="labelled images, which the recipe mine .*--recipe cells_classification"
    ):
        point("own", "dsb2018", "cell_unet_instance")
    write_image(tmp_path / "seg" / "images" / "a.png")
    write_image(tmp_path / "seg" / "masks" / "a.png")
    assert point("seg", "dsb2018", "cell_unet_semantic", split_by="random")["options"] == {}
    with pytest.raises(
        CellsError, match="images with masks, which the recipe mine .*--recipe dsb2018_instance"
    ):
        point("seg", "hep2")


def test_training_takes_the_raw_files_of_its_dataset(tmp_path):
    """The raw files of some datasets lie as own labelled images do."""
    cells = class_folders(tmp_path / "cells", {"Golgi": 3, "numem": 3})
    crops = table(tmp_path / "crops", "name,ground truth\na,0\nb,1\n", ["a.png", "b.png"])
    contest = table(tmp_path / "contest", "Image ID,Image class\n1,Golgi\n", ["training/1.png", "test/2.png"])
    for folder, name in ((cells, "hep2"), (contest, "hep2"), (crops, "glomeruli")):
        data = point(folder, name, fold=1)
        assert (data["name"], data["data_dir"], data["options"]) == (name, str(folder), {"fold": 1})
    assert point(crops, "hep2")["name"] == str(crops)
    assert point(cells, "glomeruli")["name"] == str(cells)


def test_prepare_writes_parquet_and_a_card_with_classes(tmp_path, load):
    root = class_folders(tmp_path / "own", {"A": 10, "B|C": 10})
    output = prepare(root, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache", groups=r"case\d+")
    plain = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "plain"))
    source = load(root, groups=r"case\d+")
    assert plain["train"].features == source["train"].features
    assert plain["test"]["label"] == source["test"]["label"]
    assert load(output, "classification")["test"]["image_id"] == source["test"]["image_id"]
    card = (output / "README.md").read_text()
    assert "image-classification" in card and "| A | 7 | 1 | 2 |" in card and r"| B\|C | 7 | 1 | 2 |" in card
    several = table(tmp_path / "several", "id,label\na,x|y\nb,y\nc,x\n", ["a.png", "b.png", "c.png"])
    output = prepare(several, output_dir=tmp_path / "two", cache_dir=tmp_path / "cache", **NO_SPLIT)
    assert "| x | 2 |" in (output / "README.md").read_text()
    assert load(output)["train"]["labels"] == [[0, 1], [1], [0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("AAAABBC")), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_stratified_splits(items, seed):
    groups, classes = [f"g{group}" for group, _ in items], [[name] for _, name in items]
    fractions = {"test": 0.2, "validation": 0.1}
    sides = assign_stratified_splits(groups, classes, fractions, seed)
    side_of = dict(zip(groups, sides))
    assert [side_of[group] for group in groups] == sides  # groups are whole
    order = np.random.default_rng(seed).permutation(len(items))
    shuffled = assign_stratified_splits(
        [groups[i] for i in order], [classes[i] for i in order], fractions, seed
    )
    assert shuffled == [sides[i] for i in order]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from("ABCDEF"), st.integers(3, 80), min_size=1), st.integers(0, 5))
def test_without_groups_every_class_gets_its_share_in_every_split(counts, seed):
    classes = [[name] for name, count in counts.items() for _ in range(count)]
    sides = assign_stratified_splits(
        [str(index) for index in range(len(classes))], classes, {"test": 0.2, "validation": 0.1}, seed
    )
    held = Counter((name, side) for (name,), side in zip(classes, sides))
    for name, count in counts.items():
        for side, share in (("test", 0.2), ("validation", 0.1)):
            assert held[name, side] >= 1 and held[name, "train"] >= 1
            assert abs(held[name, side] - share * count) <= 0.5 or held[name, side] == 1


def test_a_rare_class_reaches_every_split_although_groups_are_mixed():
    groups = [f"g{index % 20}" for index in range(400)]
    rare = {"g3": "R", "g8": "R", "g15": "R"}
    classes = [[rare.get(group, "ab"[index % 3 == 0])] for index, group in enumerate(groups)]
    for seed in range(10):
        sides = assign_stratified_splits(groups, classes, {"test": 0.2, "validation": 0.1}, seed)
        assert len({side for (name,), side in zip(classes, sides) if name == "R"}) == 3
        counts = Counter(sides)
        assert 60 <= counts["test"] <= 100 and 20 <= counts["validation"] <= 60
    with pytest.raises(ValueError, match="below 1 together"):
        assign_stratified_splits(groups, classes, {"test": 1.0})


def test_real_cells_in_class_folders(real_data, tmp_path, load):
    source = zipfile.ZipFile(real_data("hep2_icpr2014_train_val.zip"))
    rows = csv.DictReader(io.StringIO(source.read("gt_training.csv").decode()))
    taken: Counter = Counter()
    there = set(source.namelist())
    for row in rows:
        name, label = f"training/{row['Image ID']}.png", row["Image class"]
        if name in there and taken[label] < 12:
            taken[label] += 1
            (tmp_path / "own" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / label / f"{row['Image ID']}.png").write_bytes(source.read(name))
    splits = load(tmp_path / "own")
    names = ["Centromere", "Golgi", "Homogeneous", "Nucleolar", "NuMem", "Speckled"]
    assert splits["train"].features["label"].names == names
    assert {split: Counter(rows["label"]) for split, rows in splits.items()} == {
        "train": dict.fromkeys(range(6), 9),
        "validation": dict.fromkeys(range(6), 1),
        "test": dict.fromkeys(range(6), 2),
    }
    assert splits["test"][0]["image"].size == (78, 78)


def test_real_crops_with_their_table(real_data, tmp_path, load):
    with zipfile.ZipFile(real_data("glomeruli_pas_sample.zip")) as source:
        source.extractall(tmp_path / "own")
    splits = load(tmp_path / "own")
    assert {split: Counter(rows["label"]) for split, rows in splits.items()} == {
        "train": {0: 5, 1: 5},
        "validation": {0: 1, 1: 1},
        "test": {0: 2, 1: 2},
    }
    assert splits["train"][0]["image"].mode == "RGBA"


@pytest.mark.parametrize(("option", "value", "message"), WRONG_SPLIT_OPTIONS)
def test_options_of_the_split_that_are_none(tmp_path, load, option, value, message):
    root = class_folders(tmp_path / "own", {"A": 6, "B": 6})
    with pytest.raises(CellsError, match=f"^{message}"):
        load(root, **{option: value})

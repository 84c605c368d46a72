"""HPA: fields and cells with a column for each channel, no parent in two splits, one clear line for each fault."""

import csv
import shutil
from collections import defaultdict

import numpy as np
import pytest
from classification_layouts import zip_all
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.samples import ImageRows
from hf_cells.errors import CellsError
from hf_cells.models.image_reading import read_image

COLOURS = ("red", "green", "blue", "yellow")


def write_table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


def plane(name, colour, dtype=np.uint8, shape=(6, 9)):
    """The pixels of a channel, made of its name."""
    rng = np.random.default_rng([*map(ord, name), COLOURS.index(colour)])
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_image(folder, name, dtype=np.uint8, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        Image.fromarray(plane(name, colour, dtype)).save(folder / f"{name}_{colour}.{suffix}")


def write_fields(root, count=24, dtype=np.uint8, suffix="png"):
    """Fields f0, f1, … of two an antibody, with one of three labels and cytosol."""
    for number in range(count):
        write_image(root / "train", f"f{number}", dtype, suffix)
    write_table(root / "train.csv", "ID,Label", [(f"f{n}", f"{n // 2 % 3}|16") for n in range(count)])
    write_table(root / "antibodies.csv", "ID,antibody", [(f"f{n}", f"A{n // 2}") for n in range(count)])
    return root


def write_cells(root, count=12):
    """Two crops of each field; the first of each lies at the border."""
    rows = []
    for field in range(count):
        for number in (1, 2):
            write_image(root / "cells", f"f{field}_cell_{number}")
            row = (f"f{field}_cell_{number}", f"f{field}", number, 6, 9, number == 1, f"{field % 3}|16")
            rows.append((*row, 10, 20, 16, 29, field % 4))
    header = (
        "cell_id,parent_image_id,cell_number,size_y,size_x,edge_of_img,Label,min_row,min_col,max_row,max_col"
    )
    write_table(root / "cells.csv", header + ",fold", rows)
    return root


@pytest.fixture
def load(tmp_path):
    """Load with a cache of its own."""

    def call(data_dir, config=None, **options):
        place = tmp_path / "cache"
        return load_dataset("hpa_single_cell", config, data_dir=data_dir, cache_dir=place, **options)

    return call


@pytest.fixture
def refuse(load):
    """Load what must fail with one line."""

    def call(data_dir, match, config=None, **options):
        with pytest.raises(CellsError, match=match) as caught:
            load(data_dir, config, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, "png"), (np.uint16, "png"), (np.uint16, "tif")])
def test_fields_keep_every_bit_of_every_channel(tmp_path, load, dtype, suffix):
    splits = load(write_fields(tmp_path / "d", dtype=dtype, suffix=suffix))
    assert splits["train"].column_names == ["image_id", "group", "fold", *COLOURS, "labels"]
    rows = ImageRows(splits["train"])
    for index in range(3):
        row = rows[index]
        image = read_image(row["image"])
        assert image.dtype == dtype and image.shape == (6, 9, 4)
        expected = np.stack([plane(row["image_id"], colour, dtype) for colour in COLOURS], axis=-1)
        assert (image == expected).all()


def test_antibodies_stay_whole_and_labels_are_spread(tmp_path, load):
    splits = load(write_fields(tmp_path / "d"))
    homes = defaultdict(set)
    for split, data in splits.items():
        assert {label for row in data["labels"] for label in row} == {0, 1, 2, 16}
        for name, group in zip(data["image_id"], data["group"]):
            assert group == f"A{int(name[1:]) // 2}"
            homes[group].add(split)
    assert len(homes) == 12 and all(len(found) == 1 for found in homes.values())
    tests = {frozenset(load(tmp_path / "d", split_seed=seed)["test"]["image_id"]) for seed in range(5)}
    assert len(tests) > 1


def test_fields_without_a_table_of_antibodies_are_their_own_groups(tmp_path, load):
    root = write_fields(tmp_path / "d")
    (root / "antibodies.csv").unlink()
    data = load(root, split="all")
    assert data["group"][:] == data["image_id"][:] and len(data) == 24


def test_a_zip_gives_the_same(tmp_path, load):
    root = write_fields(tmp_path / "d")
    archive = zip_all(root, tmp_path / "hpa.zip")
    assert {k: v["image_id"][:] for k, v in load(archive).items()} == {
        k: v["image_id"][:] for k, v in load(root).items()
    }


def test_a_made_test_split_is_kept(tmp_path, load):
    root = write_fields(tmp_path / "d")
    for number in range(3):
        write_image(root / "test", f"t{number}")
    write_table(root / "test.csv", "ID,Label", [(f"t{n}", "18") for n in range(3)])
    splits = load(root)
    assert splits["test"]["image_id"][:] == ["t0", "t1", "t2"] and splits["test"]["labels"][0] == [18]
    assert len(splits["train"]) + len(splits["validation"]) == 24


def test_channels_are_chosen_and_ordered(tmp_path, load):
    root = write_fields(tmp_path / "d")
    (root / "train" / "f0_yellow.png").unlink()
    row = ImageRows(load(root, channels="blue,red", split="all"))[0]
    assert list(row["image"]) == ["blue", "red"] and read_image(row["image"]).shape == (6, 9, 2)


def test_cells_with_their_parent_box_and_fold(tmp_path, load):
    root = write_cells(tmp_path / "d")
    splits = load(root, "cells", fold=1)
    folds = {split: set(data["fold"]) for split, data in splits.items()}
    assert folds == {"train": {0, 3}, "validation": {2}, "test": {1}}
    row = next(row for row in splits["test"] if row["image_id"] == "f5_cell_1")
    assert (row["group"], row["cell_number"], row["height"], row["width"]) == ("f5", 1, 6, 9)
    assert row["at_border"] is True and row["box"] == [20, 10, 29, 16] and row["labels"] == [2, 16]
    inner = load(root, "cells", drop_border=True, split="all")
    assert len(inner) == 12 and not any(inner["at_border"])
    anew = load(root, "cells")
    groups = [set(data["group"]) for data in anew.values()]
    assert len(anew) == 3 and sum(map(len, groups)) == len(set.union(*groups)) == 12


def test_the_table_with_folds_wins_over_its_origin(tmp_path, load, refuse):
    root = write_cells(tmp_path / "d")
    with (root / "cells.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    shutil.copy(root / "cells.csv", root / "folds.csv")
    write_table(root / "cells.csv", ",".join(rows[0][:-1]), [row[:-1] for row in rows[1:]])
    assert set(load(root, "cells", split="all")["fold"]) == {0, 1, 2, 3}
    (root / "folds.csv").unlink()
    refuse(root, "has no fold; make the column with `hf-cells folds", "cells", fold=0)


def test_faults_of_files_are_one_clear_line(tmp_path, refuse, load):
    root = write_fields(tmp_path / "d")
    (root / "train" / "f3_blue.png").rename(root / "away.png")
    refuse(root, "f3 has no blue channel beside it")
    (root / "away.png").rename(root / "train" / "f3_blue.png")
    Image.fromarray(plane("f3", "green", shape=(5, 9))).save(root / "train" / "f3_green.png")
    refuse(root, r"f3_green.png: is 5x9 but .*f3_red.png is 6x9")
    Image.fromarray(plane("f3", "green", np.uint16)).save(root / "train" / "f3_green.png")
    refuse(root, "another bit depth")
    Image.fromarray(plane("f3", "green")).convert("RGB").save(root / "train" / "f3_green.png")
    refuse(root, "in colour")
    (root / "train" / "f3_green.png").write_bytes(b"no image")
    refuse(root, "f3_green.png: cannot be decoded")
    for colour in COLOURS:
        (root / "train" / f"f3_{colour}.png").unlink()
    refuse(root, "1 of 24 IDs have no files .* the first is f3")
    assert len(load(root, split="all", skip_missing=True)) == 23
    write_image(root / "more", "f4")
    refuse(root, "is there already as", skip_missing=True)


def test_faults_of_tables_are_one_clear_line(tmp_path, refuse):
    root = write_fields(tmp_path / "d")
    for label, said in (
        ("19", "'19' of f0"),
        ("Cytosol", "'Cytosol' of f0"),
        ("", "'' of f0"),
        ("1|-2", "'-2' of f0"),
    ):
        write_table(root / "train.csv", "ID,Label", [("f0", label), ("f1", "3")])
        refuse(root, f"label {said} is none of 0 to 18")
    write_table(root / "train.csv", "ID,Label", [("f0", "1"), ("f0", "2")])
    refuse(root, "f0 is listed already")
    write_table(root / "train.csv", "ID,Label,fold", [("f0", "1", "x"), ("f1", "2", "0")])
    refuse(root, "fold of f0 is 'x'")
    write_table(root / "train.csv", "ID,Label,fold", [("f0", "1", "1"), ("f1", "2", "0")])
    refuse(root, "there is no fold 7; choose from 0, 1", fold=7)
    refuse(root, "no CSV with the columns cell_id,parent_image_id,Label found; make it with", "cells")
    refuse(root, "channels='red,pink'", channels="red,pink")
    (root / "train.csv").unlink()
    refuse(root, "no CSV with the columns ID,Label")


def test_a_parent_in_two_folds_is_refused(tmp_path, refuse):
    root = write_cells(tmp_path / "d")
    text = (
        (root / "cells.csv")
        .read_text()
        .replace("f2_cell_2,f2,2,6,9,False,2|16,10,20,16,29,2", "f2_cell_2,f2,2,6,9,False,2|16,10,20,16,29,1")
    )
    (root / "cells.csv").write_text(text)
    refuse(root, "the field f2 is in fold 2 and in 1", "cells", fold=0)


def test_real_fields_load(real_data, load):
    data = load(real_data("hpa_fields.zip"), split="all")
    assert sorted(data["labels"]) == [[0, 1, 2, 7], [6]]
    shapes = {read_image(ImageRows(data)[i]["image"]).shape for i in range(2)}
    assert shapes == {(2048, 2048, 4), (1728, 1728, 4)}

"""DSB 2018: every layout gives the same rows, every fault gives one clear line."""

import os
import shutil
import zipfile
from collections import Counter

import datasets
import numpy as np
import pytest
from dsb_layout import nuclei, write_image, write_solution, write_stage, zip_folder
from hf_cells.dataset_scripts import dsb2018
from hf_cells.dataset_scripts._reading import decode_image
from PIL import Image

from hf_cells.data.loading import load_dataset
from hf_cells.data.splits import check_groups
from hf_cells.errors import CellsError


@pytest.fixture
def load(tmp_path):
    """Load DSB 2018 with a cache of its own."""

    def call(data_dir, config="instance", **options):
        return load_dataset("dsb2018", config, data_dir=data_dir, cache_dir=tmp_path / "cache", **options)

    return call


def ids(splits):
    return {name: sorted(split["image_id"]) for name, split in splits.items()}


def rows(dataset):
    table = dataset.cast_column("image", datasets.Image(decode=False)).sort("image_id")
    return [(row["image_id"], row["image"]["bytes"]) for row in table]


LAYOUTS = ["root", "stage", "zip", "zip in folder", "zip without top", "zip of another name", "nested"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(tmp_path, load, layout):
    root = tmp_path / "data"
    stage = write_stage(root, count=5)
    expected = [(p.stem, p.read_bytes()) for p in sorted(stage.glob("*/images/*.png"))]
    if layout.startswith("zip"):
        top, name = {
            "zip": ("stage1_train/", "x.zip"),
            "zip in folder": ("stage1_train/", "dsb2018_stage1_train.zip"),
            "zip without top": ("", "stage1_train.zip"),
            "zip of another name": ("stage1_train/", "nuclei.zip"),
        }[layout]
        target = zip_folder(stage, root / name, top)
        shutil.rmtree(stage)
        (root / "unrelated.zip").write_bytes(b"not a zip at all")
        data_dir = target if layout == "zip" else root
    elif layout == "nested":
        data_dir = root.rename(tmp_path / "inner").parent
    else:
        data_dir = {"root": root, "stage": stage}[layout]
    data = load(data_dir, split="all")
    assert rows(data) == expected
    assert set(data["modality"]) == {"fluorescence_dark"} and set(data["group"]) == {None}


def test_both_configurations(tmp_path, load):
    write_stage(tmp_path / "data", count=4)
    instance = load(tmp_path / "data", split="all").sort("image_id")
    semantic = load(tmp_path / "data", "semantic", split="all").sort("image_id")
    assert instance.column_names == ["image_id", "group", "modality", "image", "instance_labels"]
    for one, other in zip(instance, semantic):
        labels, mask = np.asarray(one["instance_labels"]), np.asarray(other["semantic_mask"])
        truth = nuclei(labels.shape)
        assert one["image"].mode == "RGBA" and one["image"].size == labels.shape[::-1]
        assert labels.dtype == np.uint16 and mask.dtype == np.uint8
        assert all((labels[object_mask] == n).all() for n, object_mask in enumerate(truth, 1))
        assert (mask == np.any(truth, axis=0)).all()  # nothing is dilated
    raw = instance.cast_column("instance_labels", datasets.Image(decode=False))[0]["instance_labels"]
    assert raw["bytes"].startswith(b"\x89PNG")  # a browser can show it


def test_the_builder_says_what_the_data_are():
    builder = dsb2018.DSB2018
    assert builder.license == "cc0-1.0" and builder.redistributable and "2019" in builder.citation
    assert set(builder.class_colors) == set(builder.class_names)


def test_contest_images_with_masks_are_the_test_split(tmp_path, load):
    root = tmp_path / "data"
    write_stage(root, count=8)
    for image_id in ("a", "b"):
        write_image(root / "stage1_test", image_id)
    found = ids(load(root))
    assert found["test"] == ["a", "b"]
    assert {name: len(split) for name, split in found.items()} == {"train": 7, "validation": 1, "test": 2}


@pytest.mark.parametrize("zipped", [False, True])
def test_contest_images_with_a_solution(tmp_path, load, zipped):
    root = tmp_path / "data"
    for name in ("a", "b"):
        write_image(root / "stage1_test", name, (30, 44), masks=False)
    solution = write_solution(root / "stage1_solution.csv", {"a": (30, 44), "b": (30, 44)})
    if zipped:
        with zipfile.ZipFile(root / "stage1_solution.csv.zip", "w") as archive:
            archive.write(solution, solution.name)
        solution.unlink()
        zip_folder(root / "stage1_test", root / "stage1_test.zip", "")
        shutil.rmtree(root / "stage1_test")
    data = load(root)
    assert ids(data) == {"test": ["a", "b"]}
    labels = np.asarray(data["test"][0]["instance_labels"])
    assert all((labels[mask] == n).all() for n, mask in enumerate(nuclei((30, 44)), 1))
    assert (labels > 0).sum() == np.any(nuclei((30, 44)), axis=0).sum()
    stage = root / ("stage1_test.zip" if zipped else "stage1_test")
    assert ids(load(stage)) == {"test": ["a", "b"]}  # the solution lies beside it


def test_ignored_images_of_stage_2_are_left_out(tmp_path, load):
    root = tmp_path / "data"
    for name in ("a", "b", "c"):
        write_image(root / "stage2_test_final", name, masks=False)
    shapes = dict.fromkeys("abc", (36, 40))
    write_solution(root / "stage2_solution_final.csv", shapes, ignored=("b",))
    assert ids(load(root)) == {"test": ["a", "c"]}


def test_contest_images_without_truth_are_left_out(tmp_path, load):
    root = tmp_path / "data"
    write_stage(root, count=10)
    write_image(root / "stage1_test", "a", masks=False)
    found = ids(load(root))
    assert {name: len(split) for name, split in found.items()} == {"train": 7, "validation": 1, "test": 2}
    assert "a" not in found["test"]


def test_splits_by_modality_and_project_never_overlap(tmp_path, load):
    root = tmp_path / "data"
    stains = ("fluorescence_dark", "purple_on_white", "purple_on_purple", "brightfield_grey")
    for index in range(20):
        shape = (36, 40) if index % 2 else (40, 52)
        write_image(root / "stage1_train", f"i{index:02d}", shape, stains[index % 4])
    table = tmp_path / "projects.csv"
    table.write_text("ImageId,Project\n" + "".join(f"i{i:02d}.png,lab{i % 5}\n" for i in range(20)))
    for seed in range(3):
        for options in ({"split_by": "modality"}, {"split_by": "project", "project_table": str(table)}):
            splits = load(root, split_seed=seed, **options)
            groups = [set(split["group"]) for split in splits.values()]
            assert set(splits) == {"train", "validation", "test"} and sum(map(len, splits.values())) == 20
            assert (
                len(set.union(*groups))
                == sum(map(len, groups))
                == (4 if "project_table" not in options else 5)
            )
    forced = load(root, split_by="modality", test_groups=["purple_on_white-36x40"])
    assert set(forced["test"]["group"]) == {"purple_on_white-36x40"} and len(forced["test"]) == 5
    assert set(load(root, project_table=str(table), split="all")["group"]) == {f"lab{i}" for i in range(5)}


def test_random_split_depends_on_the_seed_only(tmp_path, load):
    root = tmp_path / "data"
    write_stage(root, count=10)
    first = ids(load(root))
    shutil.copytree(root, tmp_path / "copy")
    assert ids(load(tmp_path / "copy")) == first != ids(load(root, split_seed=1))
    assert "test" not in load(root, test_fraction=0.0)


def test_groups_on_both_sides_of_the_contest_are_reported(tmp_path, load):
    root = tmp_path / "data"
    write_stage(root, count=6)
    write_image(root / "stage1_test", "a", (36, 40))
    splits = load(root, split_by="modality")
    assert splits["test"]["group"] == ["fluorescence_dark-36x40"]
    with pytest.raises(CellsError, match="1 groups are in more than one of the splits"):
        check_groups(splits)
    cut = load(root, split_by="modality", test_groups=("fluorescence_dark-36x40",))
    assert "a" not in cut["test"]["image_id"] and len(cut["test"]) == 4
    check_groups(cut)


def test_a_failed_download_says_what_to_do(load, monkeypatch):
    def unreachable(self, url):
        raise ConnectionError(url)

    monkeypatch.setattr(datasets.DownloadManager, "download", unreachable)
    with pytest.raises(CellsError, match=r"stage1_train\.zip: cannot be downloaded; get it yourself"):
        load(None)


def break_png(folder):
    path = next((folder / "images").iterdir())
    path.write_bytes(path.read_bytes()[:-30])


def no_masks(folder):
    shutil.rmtree(folder / "masks")


def no_image(folder):
    shutil.rmtree(folder / "images")


def small_mask(folder):
    Image.new("L", (5, 5), 255).save(folder / "masks" / "m1.png")


def broken_mask(folder):
    (folder / "masks" / "m1.png").write_bytes(b"\x89PNG nonsense")


def second_image(folder):
    Image.new("L", (36, 40)).save(folder / "images" / "other.png")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_png, r"1_t02\.png: cannot be decoded \(.*\); replace the file"),
        (
            no_masks,
            r"1_t02\.png: has no masks, as 1 of 5 images of stage1_train; put its masks into 1_t02/masks",
        ),
        (no_image, r"1_t02/masks/m0\.png: a mask without its image; put"),
        (small_mask, r"1_t02/masks/m1\.png: is 5x5 but its image is 36x40; replace"),
        (broken_mask, r"1_t02/masks/m1\.png: cannot be decoded"),
        (second_image, r"1_t02/images/other\.png: a second image beside 1_t02\.png; keep one"),
    ],
)
def test_a_broken_image_folder_is_one_clear_line(tmp_path, load, harm, message):
    root = tmp_path / "data"
    harm(write_stage(root, count=5) / "1_t02")
    with pytest.raises(CellsError, match=message) as error:
        load(root)
    assert "\n" not in str(error.value)


def test_broken_sources(tmp_path, load):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CellsError, match=r"empty: no images found; expected stage1_train/<id>/images"):
        load(empty)
    with pytest.raises(CellsError, match=r"nowhere: no such file or folder"):
        load(tmp_path / "nowhere")
    whole = zip_folder(write_stage(tmp_path / "data", count=3), empty / "stage1_train.zip", "stage1_train/")
    short = empty / "short.zip"
    short.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(CellsError, match=r"short\.zip: is truncated or not a zip"):
        load(short)
    whole.write_bytes(short.read_bytes())
    with pytest.raises(CellsError, match=r"stage1_train\.zip: is truncated"):
        load(empty)
    whole.unlink()
    with pytest.raises(CellsError, match=r"no images found \(.*short\.zip is truncated or not a zip"):
        load(empty)


def test_a_zip_cannot_write_or_read_outside(tmp_path, load):
    archive = zip_folder(
        write_stage(tmp_path / "data", count=3), tmp_path / "stage1_train.zip", "stage1_train/"
    )
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../../escaped.png", b"x")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CellsError, match=r"member '\.\./\.\./escaped\.png' points outside the archive"):
        load(archive)
    assert set(os.listdir(tmp_path)) - set(before) <= {"cache"}


def test_the_same_stage_twice_is_refused_but_a_folder_goes_before_its_zip(tmp_path, load):
    root = tmp_path / "data"
    stage = write_stage(root, count=3)
    zip_folder(stage, root / "stage1_train.zip", "")
    assert len(load(root, split="all")) == 3
    shutil.copy(root / "stage1_train.zip", root / "dsb2018_stage1_train.zip")
    shutil.rmtree(stage)
    with pytest.raises(CellsError, match=r"is in .*dsb2018_stage1_train\.zip and in .*; keep one"):
        load(root)


def test_bad_solutions_and_options(tmp_path, load):
    root = tmp_path / "data"
    write_image(root / "stage1_test", "a", masks=False)
    with pytest.raises(CellsError, match="neither masks/ nor a solution CSV; put stage1_solution"):
        load(root)
    solution = write_solution(root / "stage1_solution.csv", {"a": (30, 30)})
    with pytest.raises(CellsError, match="a is 30x30 there but 36x40"):
        load(root)
    solution.write_text("ImageId,EncodedPixels\na,1 3\n")
    with pytest.raises(CellsError, match="needs the columns ImageId, EncodedPixels, Height, Width"):
        load(root)
    solution.write_text("ImageId,EncodedPixels,Height,Width,Usage\na,1 3 9,36,40,Public\n")
    with pytest.raises(CellsError, match="EncodedPixels are not pairs"):
        load(root)
    write_stage(root, count=3)
    solution.unlink()
    table = tmp_path / "t.csv"
    table.write_text("image_id,project\n1_t00,P\n")
    for options, message in (
        ({"split_by": "scanner"}, "choose 'random', 'modality' or 'project'"),
        ({"split_by": "project"}, "needs project_table"),
        ({"split_by": "project", "project_table": str(table)}, r"no project for 2 of 3 images.* 1_t01"),
        ({"split_by": "project", "project_table": "no.csv"}, r"no\.csv: no such project table"),
        ({"test_groups": ["a"]}, "test_groups needs split_by"),
        ({"split_by": "modality", "test_groups": ["a"]}, "no images of group 'a'; the groups are fluo"),
        ({"test_fraction": 1.2}, "below 1 together"),
        ({"colour": 3}, "no option 'colour'; choose from: project_table, split_by"),
    ):
        with pytest.raises(CellsError, match=message):
            load(root, **options)
    with pytest.raises(CellsError, match="no configuration 'panoptic'; choose from: semantic, instance"):
        load(root, "panoptic")


def test_two_processes_give_the_same_rows_and_errors(tmp_path, load):
    archive = zip_folder(write_stage(tmp_path / "data", count=6), tmp_path / "one.zip", "stage1_train/")
    assert rows(load(archive, split="all", num_proc=2)) == rows(load(tmp_path / "data", split="all"))
    small_mask(tmp_path / "data" / "stage1_train" / "1_t03")
    with pytest.raises(CellsError, match=r"m1\.png: is 5x5"):
        load(tmp_path / "data", num_proc=2)


def test_changed_data_never_gives_stale_rows(tmp_path, load):
    root = tmp_path / "data"
    write_stage(root, count=6)
    assert len(load(root, split="all")) == 6
    write_image(root / "stage1_train", "new")
    assert "new" in load(root, split="all")["image_id"]
    mask = root / "stage1_train" / "new" / "masks" / "m0.png"
    size, empty = mask.stat().st_size, np.zeros((36, 40), np.uint8)
    empty[30, 30] = 255
    Image.fromarray(empty).save(mask)
    labels = load(root, split="all").filter(lambda row: row["image_id"] == "new")[0]["instance_labels"]
    assert np.asarray(labels)[30, 30] == 1, f"stale rows (the mask was {size} bytes)"
    shutil.rmtree(root / "stage1_train" / "new")
    assert len(load(root, split="all")) == 6


def test_changed_code_or_table_makes_new_rows(tmp_path, load, monkeypatch):
    root = tmp_path / "data"
    write_stage(root, count=4)
    table = tmp_path / "t.csv"
    for project in ("P", "Q"):
        table.write_text(
            "image_id,project\n" + "".join(f"1_t0{i},{project}{project * i}\n" for i in range(4))
        )
        groups = load(root, split="all", project_table=str(table))["group"]
        assert all(group.startswith(project) for group in groups)

    from hf_cells.data import loading

    before = loading.source_fingerprint(dsb2018.DSB2018, root, {})
    assert before == loading.source_fingerprint(dsb2018.DSB2018, root, {})
    changed = tmp_path / "changed.py"
    changed.write_text("# another generator\n")
    monkeypatch.setattr(loading, "script_sources", lambda builder: [changed])
    assert before != loading.source_fingerprint(dsb2018.DSB2018, root, {})


def test_real_images(real_data, tmp_path):
    items = dsb2018.find_items(str(real_data("dsb2018_stage1_train.zip")))["stage1_train"]
    assert len(items) == 664 and sum(len(item.masks) for item in items) == 28_986
    builder = dsb2018.DSB2018(cache_dir=str(tmp_path), config_name="instance")
    some, kinds = items[::7], Counter()
    for item, (image_id, row) in zip(some, builder._generate_examples(some), strict=True):
        labels = decode_image(row["instance_labels"]["bytes"], image_id)
        assert labels.getextrema() == (0, len(item.masks))
        kinds[row["modality"]] += 1
    assert kinds == {  # as seen by eye in a montage of every group
        "fluorescence_dark": 77,
        "brightfield_grey": 4,
        "purple_on_purple": 11,
        "purple_on_white": 3,
    }

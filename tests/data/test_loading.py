"""`load_dataset` beyond the scripts: names, splits, freshness, Parquet."""

import os
import time

import datasets
import numpy as np
import pytest
from cell_folders import SHAPE, label_image, write_folder, write_image, write_mask
from PIL import Image

from hf_cells.data.loading import hash_listing, load_dataset, source_fingerprint
from hf_cells.data.prepare import prepare
from hf_cells.data.registry import builder_class, dataset_names, script_sources
from hf_cells.errors import CellsError


@pytest.fixture
def own(tmp_path):
    return write_folder(tmp_path / "own", [f"p{i % 5}_{i:02d}" for i in range(20)])


@pytest.fixture
def load(tmp_path):
    def call(path, config=None, **options):
        return load_dataset(path, config, cache_dir=tmp_path / "cache", **options)

    return call


def test_the_registry_finds_every_script():
    assert "dsb2018" in dataset_names() and not any(name.startswith("_") for name in dataset_names())
    for name in dataset_names():
        builder = builder_class(name)
        assert issubclass(builder, datasets.GeneratorBasedBuilder)
        for attribute in (
            "license",
            "redistributable",
            "homepage",
            "citation",
            "class_colors",
            "group_pattern",
        ):
            assert hasattr(builder, attribute), f"{name} lacks {attribute}"
        assert {path.name for path in script_sources(builder)} >= {f"{name}.py", "_reading.py"}
    with pytest.raises(CellsError, match=r"no dataset is called 'cats'; choose from: .*dsb2018"):
        builder_class("cats")


def test_scripts_import_only_what_a_genuine_script_may():
    for name in dataset_names():
        for path in script_sources(builder_class(name)):
            text = path.read_text()
            assert "hf_cells" not in text and "scipy" not in text and "torch" not in text, path


def test_splits(own, load):
    splits = load(own)
    assert list(splits) == ["train", "validation", "test"]
    assert load(own, split="test")["image_id"] == splits["test"]["image_id"]
    assert len(load(own, split="all")) == 20
    assert len(load(own, split="train[:50%]")) == len(splits["train"]) // 2
    with pytest.raises(CellsError, match="dev"):
        load(own, split="dev")


@pytest.mark.parametrize("name", ["cats", "./nowhere", "/no/where/at/all", "nowhere/at/all"])
def test_unknown_names(load, name):
    with pytest.raises(CellsError, match=r"no such dataset or folder; choose from .*dsb2018.* org/name"):
        load(name)


def test_a_folder_takes_no_data_dir(own, load):
    with pytest.raises(CellsError, match="takes no data_dir"):
        load(own, data_dir=own)


def test_rows_are_cached_and_never_stale(own, load):
    first = load(own, split="all")
    again = load(own, split="all")
    assert first.cache_files == again.cache_files
    write_image(own / "images", "p0_00", seed=99)  # other pixels
    changed = load(own, split="all")
    pixels = {row["image_id"]: np.asarray(row["image"]) for row in changed}
    before = {row["image_id"]: np.asarray(row["image"]) for row in first}
    assert (pixels["p0_00"] != before["p0_00"]).any() and (pixels["p1_01"] == before["p1_01"]).all()
    for path in (own / "images" / "p0_00.png", own / "masks" / "p0_00.png"):
        path.unlink()
    assert len(load(own, split="all")) == 19
    assert len(load(own, test_fraction=0.5)["test"]) != len(load(own)["test"])


def test_the_fingerprint_sees_time_size_name_and_options(own):
    builder = builder_class("dsb2018")
    prints = [source_fingerprint(builder, own, {}), source_fingerprint(builder, own, {"split_seed": 1})]
    path = own / "images" / "p0_00.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    prints.append(source_fingerprint(builder, own, {}))
    path.rename(path.with_name("other.png"))
    prints.append(source_fingerprint(builder, own, {}))
    (own.parent / "stage1_solution.csv").write_text("x")
    prints.append(source_fingerprint(builder, own, {}))
    assert len(set(prints)) == 5
    (own.parent / "notes.txt").write_text("not data")
    assert source_fingerprint(builder, own, {}) == prints[-1]


def test_listing_many_files_is_cheap(tmp_path):
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for file in range(150):
            (tmp_path / str(folder) / f"{file}.png").touch()
    start = time.perf_counter()
    hash_listing(str(tmp_path))
    assert time.perf_counter() - start < 0.5  # 3,000 files; 30,000 take about half a second


def test_the_fingerprint_of_own_labels_sees_every_module_that_reads_them():
    from hf_cells.data.labelled_folders import LabelledFolder

    imported = {module.__name__.rpartition(".")[2] for module in LabelledFolder.helpers}
    assert imported == {"folders", "label_tables", "labelled_items"}
    before = source_fingerprint(LabelledFolder, None, {})

    class Other(LabelledFolder):
        helpers = LabelledFolder.helpers[:-1]

    assert source_fingerprint(Other, None, {}) != before


def test_options_of_own_folders_are_text_where_they_are_text():
    from hf_cells.cli.arguments import dataset_options

    given = [
        "label_separator=|",
        "label_column=ground truth",
        "groups=^(\\d+)",
        "split_column=",
        "labels=1.csv",
    ]
    assert dataset_options("own", [*given, "split_seed=1", "masks=binary"]) == {
        "label_separator": "|",
        "label_column": "ground truth",
        "groups": "^(\\d+)",
        "split_column": "",
        "labels": "1.csv",
        "split_seed": 1,
        "masks": "binary",
    }


def test_an_option_of_the_other_kind_of_folder_is_refused(own, load, tmp_path):
    with pytest.raises(CellsError, match="no option 'fold'; choose from: groups, masks"):
        load(own, fold=1)
    for name in "ab":
        write_image(tmp_path / "labelled" / name, name)
    with pytest.raises(CellsError, match="no option 'masks'; choose from: group_column, groups"):
        load(tmp_path / "labelled", masks="binary")
    with pytest.raises(CellsError, match="no configuration 'instance'; choose from: classification"):
        load(tmp_path / "labelled", "instance")


def test_parquet_is_read_by_plain_datasets(own, tmp_path, load):
    output = prepare(own, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache", groups=r"^(p\d)_")
    names = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    shards = [f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")]
    assert names == ["README.md", *shards]
    plain = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "plain"))
    ours, source = load(output), load(own, groups=r"^(p\d)_")
    assert list(plain) == list(ours) == list(source)
    for split in source:
        assert plain[split].features == source[split].features
        for one, other in zip(plain[split], source[split], strict=True):
            assert (one["image_id"], one["group"]) == (other["image_id"], other["group"])
            assert (np.asarray(one["instance_labels"]) == label_image()).all()
            assert np.asarray(one["instance_labels"]).dtype == np.uint16
            assert (np.asarray(one["image"]) == np.asarray(other["image"])).all()
    assert len(load(output, split="all")) == 20
    card = (output / "README.md").read_text()
    assert "| train | 12 | 3 |" in card and "`instance_labels`" in card and "Licence: unknown" in card
    assert str(tmp_path) not in card


def test_parquet_in_several_shards(tmp_path):
    root = tmp_path / "own"
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(6):
        Image.fromarray(rng.integers(0, 255, (700, 700), np.uint8)).save(root / "images" / f"{index}.png")
        Image.new("L", (700, 700), 1).save(root / "masks" / f"{index}.png")
    output = prepare(
        root,
        output_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache",
        shard_megabytes=1,
        test_fraction=0.0,
        validation_fraction=0.0,
    )
    assert [path.name for path in sorted((output / "data").iterdir())] == [
        f"train-{index:05d}-of-00003.parquet" for index in range(3)
    ]
    plain = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "plain"), split="train")
    assert sorted(plain["image_id"]) == [str(index) for index in range(6)]


def test_a_failed_prepare_leaves_the_last_good_folder_and_a_new_one_is_seen(own, tmp_path, load, monkeypatch):
    output, cache = tmp_path / "out", tmp_path / "cache"
    prepare(own, output_dir=output, cache_dir=cache)
    assert len(load(output, split="all")) == 20
    write_folder(own, ["p9_99"])
    write_parquet, calls = datasets.Dataset.to_parquet, []

    def full_disk(self, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write_parquet(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(datasets.Dataset, "to_parquet", full_disk)
        with pytest.raises(CellsError, match="No space left"):
            prepare(own, output_dir=output, cache_dir=cache)
    assert len(load(output, split="all")) == 20
    assert list(tmp_path.glob(".out*")) == []
    prepare(own, output_dir=output, cache_dir=cache)
    assert len(load(output, split="all")) == 21


def test_prepare_replaces_what_the_same_call_wrote_only(own, tmp_path):
    output, cache = tmp_path / "out", tmp_path / "cache"
    options = {"groups": "^(p\\d)(?=_)|-->", "split_seed": 1}
    prepare(own, output_dir=output, cache_dir=cache, **options)
    card = (output / "README.md").read_text()
    other = write_folder(tmp_path / "elsewhere" / "own", ["x_1", "x_2", "x_3"])
    remedy = "choose another folder, or delete this one"
    for name, config, given, message in (
        (own, None, options | {"split_seed": 2}, "holds another dataset \\(options .*"),
        (own, "semantic", options, "holds another dataset \\(config None there, semantic now\\)"),
        (other, None, options, "holds another dataset \\(dataset own \\(.*"),
    ):
        with pytest.raises(CellsError, match=f"out: {message}; {remedy}"):
            prepare(name, config, output_dir=output, cache_dir=cache, **given)
    assert (output / "README.md").read_text() == card and str(tmp_path) not in card
    prepare(own, output_dir=output, cache_dir=cache, **options)
    for harmed in (card.partition("<!--")[0], card.replace('"config"', "config")):
        (output / "README.md").write_text(harmed)
        with pytest.raises(
            CellsError, match="holds a dataset already, made with settings that are not known"
        ):
            prepare(own, output_dir=output, cache_dir=cache, **options)


def test_prepare_leaves_other_folders_alone(own, tmp_path):
    with pytest.raises(CellsError, match="exists and holds other files"):
        prepare(own, output_dir=own, cache_dir=tmp_path / "cache")
    assert len(list((own / "images").iterdir())) == 20


def test_a_card_of_a_registered_dataset_names_its_terms(own, tmp_path):
    from hf_cells.data.prepare import render_card

    card = render_card("dsb2018", load_dataset(own, cache_dir=tmp_path / "cache"))
    assert "license: cc0-1.0" in card and "caicedo2019" in card and "Not cleared" not in card


def test_a_hub_name_that_is_not_there_is_one_line(load, monkeypatch):
    def missing(name, *args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist\non the Hub")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(CellsError, match="Dataset 'org/name' doesn't exist on the Hub"):
        load("org/name")


def test_prepare_warns_of_masks_that_are_all_empty(own, tmp_path, caplog):
    for path in (own / "masks").iterdir():
        Image.new("L", SHAPE[::-1]).save(path)
    with caplog.at_level("WARNING"):
        prepare(own, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    assert f"warning: {own}: none of the 20 masks shows an object; check" in caplog.text
    caplog.clear()
    write_mask(own / "masks", "p0_00")
    prepare(own, output_dir=tmp_path / "out", cache_dir=tmp_path / "cache")
    assert "shows an object" not in caplog.text

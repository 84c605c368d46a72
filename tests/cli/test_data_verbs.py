"""`datasets`, `simulate` and `prepare`."""

import csv
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

Cli = Callable[..., Result]


def test_datasets_lists_names_terms_and_homes(cli: Cli) -> None:
    lines = cli("datasets").stdout.splitlines()
    assert lines[0].split() == ["name", "configurations", "licence", "homepage"]
    (dsb,) = [line for line in lines if line.startswith("dsb2018")]
    assert all(
        word in dsb for word in ("semantic, instance", "cc0-1.0", "https://bbbc.broadinstitute.org/BBBC038")
    )


def test_simulate_writes_what_was_asked_for(cli: Cli, tmp_path: Path) -> None:
    options = ["--n_train", 2, "--n-test", 1, "--size", "48x64", "--bit-depth", 16, "--seed", 3]
    result = cli("simulate", "dsb2018", "--output_dir", "sim", *options, "--looks", "fluorescence,confocal")
    looks = [row["look"] for row in csv.DictReader((tmp_path / "sim/simulated.csv").open())]
    assert result.stdout == "3 simulated images are in sim\n" and result.stderr == ""
    assert looks == ["fluorescence", "confocal", "fluorescence"]
    images = [np.asarray(Image.open(path)) for path in (tmp_path / "sim").glob("stage1_*/*/images/*.png")]
    assert [(image.shape, image.max() > 255) for image in images] == [((48, 64), True)] * 3


@pytest.mark.parametrize(
    ("arguments", "count", "files", "matching"),
    [
        ("dsb2018 n_train=2 size=24x32 looks=fluorescence,confocal", 2, "stage1_train/*/images/*.png", 2),
        ("hep2 --n_train 6 --n_test 6 n_validation=6 duplicate_pairs=1", 18, "training/*.png", 6),
        (
            "hep2 --n_train 6 --n_test 0 --seed 2 layout=folders n_validation=null",
            7,
            "dataset/tra/*/*.png",
            6,
        ),
        ("glomeruli --n_train 5 --n-test 1 size_range=[24,32] sclerotic_fraction=0.5", 6, "public/*.png", 6),
    ],
)
def test_simulators_take_settings_as_key_and_value(
    cli: Cli, tmp_path: Path, arguments: str, count: int, files: str, matching: int
) -> None:
    result = cli("simulate", *arguments.split(), "--output_dir", "sim")
    assert result.stdout == f"{count} simulated images are in sim\n" and result.stderr == ""
    assert len(list((tmp_path / "sim").glob(files))) == matching


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hela"], "no simulator for 'hela'; choose from: dsb2018, hep2, glomeruli"),
        (["hep2", "--size", "64"], "the simulator of hep2 has no setting 'size'; it knows: n_train, n_test,"),
        (["glomeruli", "looks=pink"], "no setting 'looks'; it knows: n_train, n_test, seed, size_range,"),
        (["hep2", "layout"], "'layout' is not of the form key=value"),
        (["hep2", "layout=zip"], "unknown layout 'zip'; choose from contest, folders"),
        (["hep2", "n_validation=2.5"], "n_validation=2.5: give a whole number"),
        (["hep2", "n_validation=yes"], "n_validation=yes: give a whole number"),
        (["glomeruli", "sclerotic_fraction=much"], "sclerotic_fraction=much: give a number"),
        (["glomeruli", "size_range=[24"], "size_range=[24: the value is no YAML"),
        (["glomeruli", "size_range=64"], "size_range is 64; give [smallest, largest] side"),
        (["dsb2018", "--size", "big"], "--size big is no size"),
        (["dsb2018", "--size", "1x2x3"], "--size 1x2x3 is no size"),
        (["dsb2018", "--looks", "x-ray"], "unknown look 'x-ray'; choose from"),
        (["dsb2018", "--n_train", "0"], "use n_train of 1 or more"),
        (["dsb2018", "--n_train", "1", "--size", "64"], "cannot write"),
    ],
)
def test_simulate_refuses(
    failing: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    assert message in failing("simulate", *arguments, "--output_dir", "file/sim")


@pytest.mark.parametrize(
    ("arguments", "column", "validation"),
    [
        (["instance", "validation_fraction=0.5"], "instance_labels", 3),
        (["validation_fraction=0.5"], "instance_labels", 3),
        (["semantic"], "semantic_mask", 1),
    ],
)
def test_prepare_writes_parquet_that_datasets_reads(
    cli: Cli, nuclei: Path, tmp_path: Path, arguments: list[str], column: str, validation: int
) -> None:
    result = cli("prepare", "dsb2018", *arguments, "--data-dir", nuclei, "--output-dir", "parquet")
    assert (result.stdout, result.stderr) == ("Parquet files and their card are in parquet\n", "")
    data = datasets.load_dataset(str(tmp_path / "parquet"))
    assert {split: len(rows) for split, rows in data.items()} == {
        "train": 6 - validation,
        "validation": validation,
        "test": 3,
    }
    assert column in data["test"].column_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "nope: no such dataset or folder; choose from"),
        (["dsb2018", "panoptic"], "no configuration 'panoptic'; choose from"),
        (["dsb2018", "instance", "split"], "'split' is not of the form key=value"),
        (["dsb2018", "seed=1"], "no option 'seed'; choose from"),
        (["dsb2018", "split_seed=[1"], "'split_seed=[1': the value is no YAML"),
        (["dsb2018", "split_by=luck"], "split_by='luck': choose"),
        (["dsb2018", "--data_dir", "missing"], "missing: no such file or folder"),
        (["dsb2018", "--data_dir", "empty"], "empty: no images found"),
        (["dsb2018", "--output_dir", "file/parquet"], "cannot write"),
    ],
)
def test_prepare_refuses(
    failing: Callable[..., str], nuclei: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert message in failing("prepare", "--data_dir", nuclei, "--output_dir", "parquet", *arguments)
    assert not (tmp_path / "parquet").exists()

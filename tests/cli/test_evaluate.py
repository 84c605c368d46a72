"""`evaluate`: the numbers are those of the images, and what is said of data, split and training is true."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

Cli = Callable[..., Result]


def read(path: Path) -> tuple[dict, list[dict[str, str]]]:
    table = path.with_name(f"{path.stem}_per_image.csv")
    with table.open(newline="") as file:
        return json.loads(path.read_text()), list(csv.DictReader(file))


def test_evaluate_measures_a_split(cli: Cli, nuclei: Path, instance_model: Path, tmp_path: Path) -> None:
    arguments = [instance_model, "--dataset", "dsb2018", "--data_dir", nuclei, "--output", "out/results.json"]
    result = cli("evaluate", *arguments, "--figures", "out/figures")
    assert result.exit_code == 0 and result.stderr == ""
    line, files = result.stdout.splitlines()
    assert line.startswith("dsb_score ") and line.endswith("(test, 3 images)")
    assert files == "see out/results.json and out/results_per_image.csv, figures in out/figures"

    results, rows = read(tmp_path / "out/results.json")
    with (nuclei / "simulated.csv").open(newline="") as file:
        truth = {row["image_id"]: float(row["objects"]) for row in csv.DictReader(file)}
    assert {row["image_id"] for row in rows} == {path.name for path in (nuclei / "stage1_test").iterdir()}
    assert all(float(row["objects_true"]) == truth[row["image_id"]] for row in rows)
    dice = np.mean([float(row["dice_per_image"]) for row in rows])
    assert results["metrics"]["dice_per_image"]["value"] == pytest.approx(dice) and 0 < dice < 1

    data, split = results["dataset"], results["split"]
    assert (data["name"], data["config"], data["license"]) == ("dsb2018", "instance", "cc0-1.0")
    assert data["simulated"] and len(data["fingerprint"]) == 16
    assert (split["name"], split["leaks"], split["options"], split["limit"]) == ("test", 0, {}, None)
    assert "of 9 images" in split["audit"]
    assert results["evaluation"]["test_time_augmentation"] is False and results["evaluation"]["seconds"] > 0
    assert {path.name for path in (tmp_path / "out/figures").iterdir()} >= {
        "predictions.png",
        "precision_by_iou.png",
    }


def test_a_semantic_model_takes_the_masks(
    cli: Cli, nuclei: Path, semantic_model: Path, tmp_path: Path
) -> None:
    result = cli("evaluate", semantic_model, "--dataset", "dsb2018", "--data-dir", nuclei, "--split", "all")
    assert result.exit_code == 0, result.output
    results, rows = read(tmp_path / "results.json")
    assert results["dataset"]["config"] == "semantic" and len(rows) == 9
    assert results["split"]["leaks"] is None  # nothing is held out from all images


@pytest.mark.parametrize("stage", ["stage1_test", "stage2_test_final"])
def test_a_part_of_test_images_alone(
    cli: Cli, nuclei: Path, instance_model: Path, tmp_path: Path, stage: str
) -> None:
    shutil.copytree(nuclei / "stage1_test", tmp_path / "contest" / stage)
    options = ["--limit", 2, "--test-time-augmentation", "--option", "split_seed=4", "--split", "test"]
    result = cli("evaluate", instance_model, "--dataset", "dsb2018", "--data_dir", "contest", *options)
    assert result.exit_code == 0 and "(test[:2], 2 images)" in result.stdout
    results, rows = read(tmp_path / "results.json")
    assert len(rows) == 2 and not results["dataset"]["simulated"]
    assert results["evaluation"]["test_time_augmentation"] is True
    unchecked = {"leaks": None, "audit": None}
    expected = {"name": "test[:2]", "unit": "image", "groups": 2, "options": {"split_seed": 4}, "limit": 2}
    assert results["split"] == {**expected, **unchecked}


def test_an_own_folder_keeps_its_groups_and_a_leak_is_told(
    cli: Cli, instance_model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for split, stem in [("train", "a1"), ("train", "b1"), ("test", "b2"), ("test", "c1")]:
        for kind, high in (("images", 256), ("masks", 2)):
            path = tmp_path / "cells" / split / kind / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, high, (64, 64), dtype=np.uint8)).save(path)
    # As YAML this expression would be a list; it is text because the option is.
    groups = "groups=[abc]"
    result = cli(
        *("evaluate", instance_model, "--dataset", "cells", "--option", groups),
        *("--option", "validation_fraction=0"),
    )
    assert result.exit_code == 0, result.output
    assert (
        result.stderr.startswith("warning: 1 groups and 0 identical images")
        and result.stderr.count("\n") == 1
    )
    results, rows = read(tmp_path / "results.json")
    assert {row["group"] for row in rows} == {"b", "c"}
    assert (results["split"]["unit"], results["split"]["leaks"]) == ("group", 1)
    assert (results["dataset"]["name"], results["dataset"]["config"]) == ("cells", "instance")


def test_what_is_known_of_the_training_is_kept(
    cli: Cli, nuclei: Path, instance_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(instance_model, "model")
    training = {"recipe": "quickstart", "seed": 7, "seconds": 1234.5}
    for known in (json.dumps({"run": training}), "{"):
        (tmp_path / "model/results.json").write_text(known)
        arguments = ["--dataset", "dsb2018", "--data_dir", nuclei / "stage1_test", "--limit", 1]
        assert cli("evaluate", "model", *arguments).exit_code == 0
        results, _ = read(tmp_path / "results.json")
        expected = training if known != "{" else {"recipe": None, "seed": None, "seconds": None}
        assert expected.items() <= results["run"].items()
        assert results["evaluation"]["seconds"] < 1000
        assert results["dataset"]["simulated"]  # although only a part of the folder was given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--split", "holdout"],
            "no split 'holdout' in this data; choose from: train, validation, test, all",
        ),
        (["--dataset", "nope"], "nope: no such dataset or folder"),
        (["--dataset", "empty"], "empty: holds neither images/ with masks/ nor Parquet files"),
        (["--data_dir", "missing"], "missing: no such file or folder"),
        (["--config", "panoptic"], "no configuration 'panoptic'"),
        (["--option", "split_seed"], "'split_seed' is not of the form key=value"),
        (["--output", "file/results.json"], "cannot write into file"),
        (["--output", "empty"], "empty is a folder; name a file in it"),
        (["--figures", "file"], "cannot write into file"),
        (["--device", "abacus"], "--device abacus: no such device here; use cpu"),
    ],
)
def test_evaluate_refuses(
    failing: Callable[..., str],
    nuclei: Path,
    instance_model: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    usual = {"--dataset": "dsb2018", "--data_dir": str(nuclei)}
    usual |= dict(zip(arguments[::2], arguments[1::2]))
    if usual["--dataset"] != "dsb2018":
        del usual["--data_dir"]
    given = [word for pair in usual.items() for word in pair]
    assert message in failing("evaluate", instance_model, *given)
    assert not (tmp_path / "results.json").exists()


def test_evaluate_needs_a_model(failing: Callable[..., str], nuclei: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = failing("evaluate", "empty", "--dataset", "dsb2018", "--data_dir", nuclei)
    assert message.startswith("empty: holds no config.json")


def test_labelled_images_are_none_to_segment(
    failing: Callable[..., str], instance_model: Path, semantic_model: Path, tmp_path: Path
) -> None:
    from hf_cells.simulate import simulate_hep2

    for name in "AB":
        (tmp_path / "cells" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "cells" / name / "1.png")  # too few to cut a split from
    expected = (
        "segments, and {} holds labelled images; evaluate a classifier on them, or give images with masks"
    )
    for model in (instance_model, semantic_model):
        assert expected.format("cells") in failing("evaluate", model, "--dataset", "cells")
    (tmp_path / "table/images").mkdir(parents=True)
    (tmp_path / "table/labels.csv").write_text("filename,label\n1.png,A\n")
    Image.new("L", (8, 8)).save(tmp_path / "table/images/1.png")
    assert expected.format("table") in failing("evaluate", instance_model, "--dataset", "table")
    sim = simulate_hep2(tmp_path / "hep2", n_train=12, n_validation=6, n_test=6)
    message = failing("evaluate", instance_model, "--dataset", "hep2", "--data_dir", sim)
    assert expected.format("hep2") in message


def test_masks_that_are_all_empty_are_told(cli: Cli, instance_model: Path, tmp_path: Path) -> None:
    for stem in "abcdefghij":
        for kind, value in (("images", ord(stem)), ("masks", 0)):
            (tmp_path / "cells" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 64), value).save(tmp_path / "cells" / kind / f"{stem}.png")
    result = cli("evaluate", instance_model, "--dataset", "cells")
    assert result.exit_code == 0, result.output
    assert "warning: none of the 2 masks shows an object; check that they are the right ones" in result.stderr
    result = cli("audit", "cells")
    assert result.exit_code == 0 and "none of the 10 masks shows an object" in result.stdout

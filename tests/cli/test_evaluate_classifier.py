"""`evaluate` on a classifier: probabilities of every image, leaks and copies told, the split of the training."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from hf_cells.cli.evaluate import _CHEAP_TO_AUDIT
from hf_cells.evaluation.results import WHOLE_SPLIT, WITHOUT_COPIES, read_results
from hf_cells.simulate import simulate_hep2

Cli = Callable[..., Result]
CLASSES = ["Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated contest folder with pixel-identical pairs, some of them in two splits."""
    return simulate_hep2(
        tmp_path_factory.mktemp("cells") / "hep2", n_train=72, n_validation=24, n_test=36, duplicate_pairs=8
    )


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from hf_cells import models

    torch.manual_seed(0)
    config = models.CellClassificationConfig(
        num_channels=1,
        hidden_sizes=[4, 8],
        id2label=dict(enumerate(CLASSES)),
        decision_thresholds={"Golgi": 0.6},
        thresholds_chosen_on="validation",
    )
    processor = models.CellClassificationImageProcessor(size={"height": 32, "width": 32}, num_channels=1)
    folder = tmp_path_factory.mktemp("models") / "classifier"
    return models.save_model_repository(models.CellForImageClassification(config), processor, folder)


def read(path: Path) -> tuple[dict, list[dict[str, str]]]:
    with path.with_name(f"{path.stem}_per_image.csv").open(newline="") as file:
        return read_results(path), list(csv.DictReader(file))


def test_a_classifier_is_measured_on_a_published_split(
    cli: Cli, cells: Path, classifier: Path, tmp_path: Path
) -> None:
    arguments = [
        "--dataset",
        "hep2",
        "--data_dir",
        cells,
        "--output",
        "out/results.json",
        "--figures",
        "out/f",
    ]
    result = cli("evaluate", classifier, *arguments)
    assert result.exit_code == 0, result.output
    line, files = result.stdout.splitlines()
    assert line.startswith("mean_class_accuracy ") and line.endswith("(test, 36 images)")
    assert files == "see out/results.json and out/results_per_image.csv, figures in out/f"

    results, rows = read(tmp_path / "out/results.json")
    assert [row["label"] == row["predicted"] for row in rows].count(True) / 36 == pytest.approx(
        results["metrics"]["accuracy"]["value"]
    )
    assert list(rows[0]) == [
        *("image_id", "group", "seconds", "label", "predicted"),
        *(f"probability_{name}" for name in CLASSES),
    ]
    p = np.array([[float(row[f"probability_{name}"]) for name in CLASSES] for row in rows])
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-5)
    cut = np.array([1, 1, 1, 1, 1, 0.6])
    assert [CLASSES[k] for k in (p / cut).argmax(axis=1)] == [row["predicted"] for row in rows]

    data, split = results["dataset"], results["split"]
    assert (data["name"], data["config"], data["simulated"]) == ("hep2", "published_split", True)
    assert split["unit"] == "group" and split["leaks"] > 0
    assert split["audit"].startswith("published split, known to leak (random by cell")
    assert result.stderr == f"warning: {split['audit']}: the numbers are too high\n"
    assert results["decision"]["thresholds"] == {"Golgi": 0.6}
    assert (tmp_path / "out/f/confusion_matrix.png").is_file()
    assert (tmp_path / "out/f/class_balance.png").is_file()


def test_copies_of_other_splits_are_counted_apart(
    cli: Cli, cells: Path, classifier: Path, tmp_path: Path
) -> None:
    from PIL import Image

    from hf_cells.data.audit import pixel_hash

    hashes = {
        split: [pixel_hash(Image.open(path)) for path in (cells / split).glob("*.png")]
        for split in ("training", "validation", "test")
    }
    elsewhere = {*hashes["training"], *hashes["validation"]}
    copies = sum(digest in elsewhere for digest in hashes["test"])
    assert copies  # or the test shows nothing
    assert cli("evaluate", classifier, "--dataset", "hep2", "--data_dir", cells).exit_code == 0
    strata = read(tmp_path / "results.json")[0]["strata"]
    assert strata[WHOLE_SPLIT]["accuracy"]["n"] == 36
    assert strata[WITHOUT_COPIES]["accuracy"]["n"] == 36 - copies


def test_a_model_is_measured_on_the_split_that_it_was_trained_for(
    cli: Cli, cells: Path, classifier: Path, tmp_path: Path
) -> None:
    """Another fold's test images are this fold's training images: its number would be worth nothing."""
    options = ["--option", "fold=3", "--config", "block_split"]
    arguments = ["evaluate", classifier, "--dataset", "hep2", "--data_dir", cells]
    assert cli(*arguments, *options).exit_code == 0
    first, rows = read(tmp_path / "results.json")
    assert first["split"]["options"] == {"fold": 3}
    assert {row["group"].partition("-")[2] for row in rows} <= {"12", "13", "14", "15"}

    model = tmp_path / "model"
    model.mkdir()
    for path in classifier.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    first["split"]["options"]["test_from"] = None  # not set
    (model / "results.json").write_text(json.dumps(first))
    arguments[1] = model
    result = cli(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("split as for the training: block_split, fold=3\n")
    again, _ = read(tmp_path / "results.json")
    assert again["dataset"]["fingerprint"] == first["dataset"]["fingerprint"]
    assert (again["dataset"]["config"], again["split"]["options"]) == ("block_split", {"fold": 3})

    # What is asked for wins.
    assert cli(*arguments, "--config", "block_split").exit_code == 0
    other, _ = read(tmp_path / "results.json")
    assert (other["split"]["options"], other["dataset"]["config"]) == ({}, "block_split")
    assert other["dataset"]["fingerprint"] != first["dataset"]["fingerprint"]


def test_large_data_are_checked_for_groups_only(
    cli: Cli, cells: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _CHEAP_TO_AUDIT > 100e6  # the 10,876 cells of the contest are 65 MB
    monkeypatch.setattr("hf_cells.cli.evaluate._CHEAP_TO_AUDIT", 10)
    assert cli("evaluate", classifier, "--dataset", "hep2", "--data_dir", cells).exit_code == 0
    results, _ = read(tmp_path / "results.json")
    assert results["split"]["audit"].endswith("groups are in more than one split; pixels not compared")
    assert results["split"]["leaks"] > 0 and "strata" not in results


def test_a_dataset_of_other_classes_is_refused(
    failing: Callable[..., str], nuclei: Path, classifier: Path, tmp_path: Path
) -> None:
    message = failing("evaluate", classifier, "--dataset", "dsb2018", "--data_dir", nuclei)
    assert message == (
        f"{classifier} is a classifier, and dsb2018 holds images with masks; evaluate a segmentation model on "
        "them, or give labelled images"
    )
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind).mkdir(parents=True)
        (tmp_path / "own" / kind / "a.png").write_bytes(next(nuclei.rglob("*.png")).read_bytes())
    assert "own holds images with masks" in failing("evaluate", classifier, "--dataset", "own")
    assert not (tmp_path / "results.json").exists()

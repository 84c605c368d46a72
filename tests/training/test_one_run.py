"""A recipe that is trained twice: validation chooses in the first training, and is learned from in the second."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_cells import write_cells, write_classifier_recipe
from transformers import AutoConfig, AutoImageProcessor

from hf_cells.errors import CellsError
from hf_cells.training import display
from hf_cells.training.main import main
from hf_cells.training.one_run import train_recipe
from hf_cells.training.recipe import load_recipe

TWICE = ["training.refit=true", "training.ema_decay=0.5", "evaluation.decision=balanced"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("twice")
    return write_classifier_recipe(folder / "tiny.yaml", write_cells(folder / "data"))


def train(recipe: Path, run: Path, *overrides: str) -> dict:
    main(["--recipe", str(recipe), "--output_dir", str(run), *TWICE, *overrides])
    return json.loads((run / "results.json").read_text())


def columns(run: Path) -> list[str]:
    with (run / "history.csv").open() as handle:
        return next(csv.reader(handle))


def test_the_second_training_learns_from_validation_and_keeps_what_it_chose(cells, tmp_path, capsys):
    twice = train(cells, tmp_path / "twice")
    first = json.loads((tmp_path / "twice" / "selection" / "results.json").read_text())
    once = train(cells, tmp_path / "once", "training.refit=false")
    assert (first["split"]["name"], twice["split"]["name"]) == ("validation", "test")
    validation = first["metrics"]["accuracy"]["n"]
    assert first["run"]["train_images"] == once["run"]["train_images"]
    assert twice["run"]["train_images"] == once["run"]["train_images"] + validation
    assert any("validation" in name for name in columns(tmp_path / "twice" / "selection"))
    assert not any("validation" in name for name in columns(tmp_path / "twice"))

    # The first training is the one that there is without `refit`; the second has other weights, and its choices.
    models = {name: tmp_path / name / "model" for name in ("once", "twice")}
    models["first"] = tmp_path / "twice" / "selection" / "model"
    weights = {name: load_file(folder / "model.safetensors") for name, folder in models.items()}
    assert all(torch.equal(weights["once"][key], value) for key, value in weights["first"].items())
    assert not all(torch.equal(weights["twice"][key], value) for key, value in weights["first"].items())
    configs = {name: AutoConfig.from_pretrained(folder) for name, folder in models.items()}
    for name in ("calibration_temperature", "decision_thresholds", "thresholds_chosen_on"):
        assert getattr(configs["twice"], name) == getattr(configs["first"], name), name
    temperature = configs["first"].calibration_temperature
    assert temperature != 1 and configs["first"].decision_thresholds
    average = load_file(
        sorted((tmp_path / "twice" / "checkpoints").glob("step-*"))[-1] / "average.safetensors"
    )
    folded = average["head.classifier.weight"] / temperature
    torch.testing.assert_close(weights["twice"]["head.classifier.weight"], folded)
    card = (models["twice"] / "README.md").read_text()
    assert "trained anew on training and validation images together" in card
    assert "trained anew" not in (models["first"] / "README.md").read_text()
    assert (models["twice"] / "figures" / "curves_of_the_first_training.png").exists()


@pytest.mark.parametrize("stopped_at", [5, 13])
def test_a_run_that_was_stopped_goes_on_where_it_was(cells, tmp_path, monkeypatch, capsys, stopped_at):
    """In the first training, and in the second; the time of both is told."""
    whole = train(cells, tmp_path / "whole")
    shown, count = display.Display.step, [0]

    def step(self, *arguments):
        shown(self, *arguments)
        count[0] += 1
        if count[0] == stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(display.Display, "step", step)
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        train(cells, run)
    assert ended.value.code == 143
    assert f"continue with --resume {run}\n" in capsys.readouterr().err
    first = run / "selection" / "results.json"
    in_second = stopped_at > whole["run"]["epochs"] * 4
    assert first.exists() == in_second
    if in_second:
        measured = json.loads(first.read_text())
        measured["run"]["seconds"] = 1000.0
        first.write_text(json.dumps(measured))
    with pytest.raises(SystemExit, match="1"):
        train(cells, run)
    assert f"holds a run already; continue it with --resume {run}" in capsys.readouterr().err
    main(["--resume", str(run)])
    resumed = json.loads((run / "results.json").read_text())
    assert resumed["metrics"] == whole["metrics"]
    assert (resumed["run"]["seconds"] >= 1000) == in_second
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (run, tmp_path / "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_decoding_of_instances_is_kept(recipe, tmp_path):
    train(recipe, tmp_path / "run", "training.epochs=1", "evaluation.decision=")
    first = AutoImageProcessor.from_pretrained(tmp_path / "run" / "selection" / "model")
    second = AutoImageProcessor.from_pretrained(tmp_path / "run" / "model")
    assert first.thresholds_chosen_on == second.thresholds_chosen_on == "validation"
    assert first.decision_thresholds == second.decision_thresholds


def test_a_study_ranks_runs_by_their_first_training(cells, tmp_path, capsys):
    main(["--recipe", str(cells), "--output_dir", str(tmp_path), *TWICE, "study={training.epochs: [1, 2]}"])
    study = json.loads((tmp_path / "study.json").read_text())
    for row in study["runs"]:
        first = json.loads((tmp_path / row["name"] / "selection" / "results.json").read_text())
        with (tmp_path / row["name"] / "selection" / "history.csv").open() as handle:
            scores = [float(line["validation_mean_class_accuracy"]) for line in csv.DictReader(handle)]
        assert row["validation"] == max(scores)
        assert row["test"] and row["test"] != {k: v["value"] for k, v in first["metrics"].items()}


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("training.patience=3", "does not go with this training.patience.* or training.refit=false"),
        ("training.schedule={name: plateau}", "does not go with this training.schedule"),
        ("data.options.validation_fraction=0", "has no validation split to choose by; make one"),
    ],
)
def test_what_refit_does_not_go_with(cells, tmp_path, slip, message):
    settings = load_recipe(cells, [*TWICE, slip])
    settings["output_dir"] = str(tmp_path / "run")
    with pytest.raises(CellsError, match=message):
        train_recipe(settings, None)

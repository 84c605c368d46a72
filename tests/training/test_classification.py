"""Training of classifiers: from class folders to a calibrated model, by one process or two, stopped or not."""

import csv
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight
from tiny_cells import TINY_CLASSIFIER, write_cells
from training_runs import Run, assert_same_run, history, train_here

import hf_cells
from hf_cells.data.samples import ImageRows
from hf_cells.errors import CellsError
from hf_cells.training import loop, setup
from hf_cells.training.checkpoints import list_checkpoints, read_checkpoint
from hf_cells.training.classification import ClassificationTask
from hf_cells.training.finish import finish
from hf_cells.training.recipe import load_recipe

HARD = {  # dropout, mixes, averages and accumulation: all that has a state
    "model": {"type": "cell_classification", "config": {"hidden_sizes": [4, 4], "head_dropout": 0.3}},
    "augmentation": {"rotation": 20, "noise": 0.05, "cutmix": 1.0, "mosaic": 0.2, "mix_probability": 0.5},
    "training": {
        **TINY_CLASSIFIER["training"],
        "epochs": 3,
        "samples_per_epoch": 24,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.9,
        "schedule": {"name": "cosine", "warmup": 2},
    },
    "evaluation": {"metric": "loss", "n_resamples": 20},
}


@pytest.fixture(scope="session")
def cells(tmp_path_factory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells") / "data")


def write(path: Path, data: Path, **changes) -> Path:
    # The classes differ in brightness, which percentiles would take away.
    processor = {"scaling": "dtype", "image_mean": [0.5], "image_std": [0.1]}
    recipe = {
        **TINY_CLASSIFIER,
        "data": {"name": str(data), **TINY_CLASSIFIER["data"]},
        "processor": {**TINY_CLASSIFIER["processor"], **processor},
        **changes,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture
def prepare(cells, tmp_path):
    """Make the loop's setup from the tiny recipe and overrides."""

    def make(*overrides):
        recipe = load_recipe(write(tmp_path / "tiny.yaml", cells), overrides)
        recipe["output_dir"] = str(tmp_path / "run")
        return setup.prepare(recipe, None)

    return make


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as handle:
        return list(csv.DictReader(handle))


# ---------------------------------------------------------------- a whole training


@pytest.fixture(scope="module")
def trained(cells, cache, tmp_path_factory):
    """A run with calibration and thresholds; returns its folder and what the finish returned."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = load_recipe(
        write(folder / "tiny.yaml", cells), ["training.epochs=6", "evaluation.decision=balanced", "seed=1"]
    )
    recipe["output_dir"] = str(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "1")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        made, splits = setup.prepare(recipe, None)
        state = loop.train(made)
        best = load_file(folder / "run" / "checkpoints" / "best.safetensors")
        results = finish(made, splits, state)
    return folder / "run", splits, results, best


def test_a_classifier_learns(trained):
    run, _, _, _ = trained
    rows = rows_of(run)
    assert len(rows) == 6
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    for name in ("train_accuracy", "validation_accuracy", "validation_mean_class_accuracy"):
        assert all(0 <= float(row[name]) <= 1 for row in rows), name
    assert all(float(row["validation_loss"]) > 0 for row in rows)
    assert float(rows[-1]["train_accuracy"]) > 0.8
    assert max(float(row["validation_mean_class_accuracy"]) for row in rows) > 0.8


def test_the_saved_model_is_calibrated_and_decides(trained):
    run, splits, _, best = trained
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "dark", "1": "light"}
    temperature = config["calibration_temperature"]
    assert temperature != 1 and 0.1 <= temperature <= 10
    assert config["thresholds_chosen_on"] == "validation"
    assert set(config["decision_thresholds"]) == {"dark", "light"}
    weights = load_file(run / "model" / "model.safetensors")
    for name, value in best.items():
        scale = temperature if name.startswith("head.classifier.") else 1
        torch.testing.assert_close(weights[name] * scale, value, atol=1e-6, rtol=1e-5)
    pipe = hf_cells.pipeline(run / "model", device="cpu")
    rows = ImageRows(splits["test"])
    found = pipe([rows[i]["image"] for i in range(len(rows))])
    right = 0
    for entries, row in zip(found, (rows[i] for i in range(len(rows)))):
        chosen = [entry["label"] for entry in entries if entry["predicted"]]
        right += chosen == [splits["test"].features["label"].int2str(row["label"])]
    assert right / len(rows) > 0.8


def test_the_temperature_is_the_best_of_the_validation_split(trained):
    """Scaling the saved logits by anything else makes the likelihood worse."""
    run, splits, _, _ = trained
    pipe = hf_cells.pipeline(run / "model", device="cpu")
    rows = ImageRows(splits["validation"])
    truths = torch.tensor([rows[i]["label"] for i in range(len(rows))])
    logits = torch.from_numpy(pipe.probabilities([rows[i]["image"] for i in range(len(rows))])).log()
    right = (logits.argmax(1) == truths).float()
    if right.mean() < 1:

        def loss(factor):
            return torch.nn.functional.cross_entropy(logits * factor, truths).item()

        assert loss(1.0) <= min(loss(0.8), loss(1.25)) + 1e-6
    else:
        assert 0.5 < logits.exp().amax(1).mean() < 1


def test_results_are_those_of_the_test_split(trained):
    run, splits, results, _ = trained
    saved = json.loads((run / "results.json").read_text())
    assert saved["metrics"]["accuracy"]["value"] == results["metrics"]["accuracy"]["value"] > 0.8
    assert saved["split"]["name"] == "test" and saved["metrics"]["accuracy"]["n"] == len(splits["test"])
    assert saved["decision"]["chosen_on"] == "validation"


def test_tuning_can_be_left_out(prepare):
    made, _ = prepare("evaluation.calibrate=false")
    model = made.model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert made.task.tune(made, model) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.config.decision_thresholds is None and model.config.calibration_temperature == 1
    made.recipe["evaluation"] |= {"decision": "recall", "recall": 1.0, "positive": "light"}
    said = made.task.tune(made, model)
    assert said.startswith("chosen on validation: thresholds {")
    rows = [made.validation[i] for i in range(len(made.validation))]
    with torch.no_grad():
        logits = torch.cat([model(made.processor(row["image"])["pixel_values"]).logits for row in rows])
    truths = torch.tensor([row["label"] for row in rows])
    assert (model.decide(logits)[truths == 1] == 1).all()


# ---------------------------------------------------------------- what the recipe asks for


def splits_of(labels, names=("a", "b", "c"), several=False) -> datasets.DatasetDict:
    label = datasets.ClassLabel(names=list(names))
    features = datasets.Features({"labels": datasets.List(label)} if several else {"label": label})
    column = "labels" if several else "label"
    return datasets.DatasetDict(train=datasets.Dataset.from_dict({column: labels}, features))


def config_of(splits, *overrides):
    return ClassificationTask().config(load_recipe("cells_classification", overrides), splits)


def test_balanced_weights_are_those_of_scikit_learn():
    labels = [0] * 5 + [1] * 12 + [2]
    given = config_of(splits_of(labels), "training.class_weights=balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(given["class_weights"], expected)
    assert given["id2label"] == {0: "a", 1: "b", 2: "c"}
    assert given["problem_type"] == "single_label_classification"


def test_weights_of_several_labels_and_weights_by_hand():
    several = splits_of([[0, 1], [1], [], [1, 0], [1]], names=("a", "b", "never"), several=True)
    given = config_of(several, "training.class_weights=balanced")
    np.testing.assert_allclose(given["class_weights"], [3 / 2, 3 / 4, 1])
    assert given["problem_type"] == "multi_label_classification"
    assert config_of(several, "training.class_weights=[1, 2, 0.5]")["class_weights"] == [1, 2, 0.5]
    assert "class_weights" not in config_of(several)


def test_class_weights_reach_the_loss(prepare):
    made, _ = prepare("training.class_weights=[1.0, 5.0]")
    assert made.model.config.class_weights == [1.0, 5.0]
    pixels, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    model = made.model.eval()
    output = model(pixels, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits, labels, torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(output.loss, expected)


def test_rare_classes_are_drawn_more_often_on_request(cells, tmp_path):
    data = shutil.copytree(cells, tmp_path / "few")
    for path in sorted((data / "light").iterdir())[8:]:
        path.unlink()
    recipe = load_recipe(
        write(tmp_path / "tiny.yaml", data),
        ["data.balance=label", "data.balance_power=1", "training.samples_per_epoch=400"],
    )
    recipe["output_dir"] = str(tmp_path / "run")
    made, splits = setup.prepare(recipe, None)
    labels = np.array(splits["train"]["label"])
    assert (labels == 1).mean() < 0.35
    drawn = labels[made.batches.order.rows(0, 400)]
    assert (drawn == 1).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("freeze", ["backbone", "1"])
def test_frozen_layers_stay_through_a_training(prepare, freeze):
    made, _ = prepare(f"training.freeze={freeze}", "model.config.residual=true", "training.ema_decay=0.9")
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    loop.train(made)
    still = ("backbone.",) if freeze == "backbone" else ("backbone.stages.0.",)
    moved = []
    for name, value in made.model.state_dict().items():
        if name.startswith(still):
            assert torch.equal(value, before[name]), name
        else:
            moved.append(not torch.equal(value, before[name]))
    assert all(moved)
    saved = read_checkpoint(list_checkpoints(made.run_dir / "checkpoints")[-1])
    learning = sum(len(group["params"]) for group in saved["optimizer"]["optimizer"]["param_groups"])
    assert learning == sum(parameter.requires_grad for parameter in made.model.parameters())


# ---------------------------------------------------------------- resuming


@pytest.fixture(scope="module")
def hard(cells, cache, tmp_path_factory):
    """A recipe with everything that has a state, and a run of it that nothing stopped."""
    folder = tmp_path_factory.mktemp("hard")
    recipe = write(folder / "hard.yaml", cells, **HARD)
    Run(folder / "log", train_here, recipe, folder / "run", cache).check()
    return recipe, folder / "run"


def test_a_resumed_classifier_ends_with_the_same_bits(hard, cache, tmp_path):
    """Stopped in the middle of the first and of the second epoch; an epoch's accuracy is that of all its batches."""
    recipe, whole = hard
    rows = history(whole)
    assert [row["step"] for row in rows] == ["6", "12", "18"]
    assert len({row["train_accuracy"] for row in rows}) > 1
    run = tmp_path / "run"
    Run(tmp_path / "1", train_here, recipe, run, cache, signal_at=3).check(143)
    (first,) = list_checkpoints(run / "checkpoints")
    state = read_checkpoint(first)["state"]
    assert (state["step"], state["step_in_epoch"]) == (4, 4)
    assert state["accuracy_sums"] == [state["accuracy_sum"]] and state["accuracy_sum"] >= 0
    Run(tmp_path / "2", train_here, recipe, run, cache, ["training.workers=1"], signal_at=9).check(143)
    Run(tmp_path / "3", train_here, recipe, run, cache).check()
    assert_same_run(whole, run)


# ---------------------------------------------------------------- data that does not fit


def check(splits, *overrides):
    ClassificationTask().check_truth(load_recipe("cells_classification", overrides), splits)


def test_data_without_what_a_classifier_needs():
    check(splits_of([0, 1, 2]))
    check(splits_of([[0], []], several=True))
    with pytest.raises(CellsError, match="has one class only; a classifier needs two"):
        check(splits_of([1, 1]))
    with pytest.raises(CellsError, match="has no image of b; choose another split_seed or fold"):
        check(splits_of([0, 2]))
    with pytest.raises(CellsError, match="takes model.config.test_time_views=8"):
        check(splits_of([0, 1, 2]), "evaluation.test_time_augmentation=true")
    with pytest.raises(CellsError, match="data.simulated_extra is for models that find nuclei"):
        ClassificationTask().extra_rows(load_recipe("cells_classification", ["data.simulated_extra=8"]))
    unlabelled = datasets.DatasetDict(train=datasets.Dataset.from_dict({"image_id": ["a"]}))
    with pytest.raises(CellsError, match="cell_classification learns from label, which .* does not have"):
        check(unlabelled)


def test_images_of_several_sizes_are_one_clear_line(cells, tmp_path):
    data = shutil.copytree(cells, tmp_path / "sizes")
    for number, path in enumerate(sorted((data / "dark").iterdir())):
        if number % 2:
            Image.open(path).resize((20, 24)).save(path)
    recipe = load_recipe(write(tmp_path / "tiny.yaml", data), ["processor.size=", "training.batch_size=24"])
    recipe["output_dir"] = str(tmp_path / "run")
    words = r"images are of several sizes \(24x20 and 32x32\).*processor\.size="
    with pytest.raises(CellsError, match=words):
        setup.prepare(recipe, None)

"""Several trainings in one command: seeds, studies, restarts."""

import csv
import json
import os
import signal
import statistics

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from tiny_cells import write_cells, write_classifier_recipe
from training_runs import main_here, pair

from hf_cells.errors import CellsError
from hf_cells.evaluation import read_results
from hf_cells.evaluation.comparison_figures import pareto_front
from hf_cells.hub.card import check_card
from hf_cells.training import loop
from hf_cells.training.main import main, make_parser, run
from hf_cells.training.recipe import DEFAULTS, load_recipe
from hf_cells.training.repeat import flat_metrics, headlines, report_study, spread
from hf_cells.training.variants import Variant, common_recipe, differing_keys, study_variants


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The recipe of a classifier that trains in a second."""
    folder = tmp_path_factory.mktemp("cells")
    return write_classifier_recipe(folder / "tiny.yaml", write_cells(folder / "data"))


@pytest.fixture
def train(tiny, tmp_path):
    """Run the command line of training in this process; returns the folder."""

    def run_here(*arguments):
        run(
            make_parser().parse_args(
                ["--recipe", str(tiny), "--output_dir", str(tmp_path / "out"), *arguments]
            )
        )
        return tmp_path / "out"

    return run_here


@pytest.fixture
def validations(monkeypatch):
    """Count validations, one an epoch; `act` may do something in the n-th."""
    validate = loop.validate

    def counted(*arguments, **settings):
        calls.append(1)
        if calls.act == len(calls):
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments, **settings)

    class Calls(list):
        act = 0

    calls = Calls()
    monkeypatch.setattr(loop, "validate", counted)
    return calls


def test_seeds_that_are_interrupted_continued_and_joined_by_more(train, validations, tmp_path, capsys):
    validations.act = 3  # the first epoch of the second run
    with pytest.raises(SystemExit) as caught:
        train("--seeds", "2")
    assert caught.value.code == 143
    assert f"the same command with --output_dir {tmp_path / 'out'} continues" in capsys.readouterr().out
    folder = tmp_path / "out"
    first = (folder / "seed-0" / "results.json").read_bytes()
    assert not (folder / "seed-1" / "results.json").exists() and not (folder / "seeds.json").exists()

    validations.act = 0
    validations.clear()
    train("--seeds", "2")
    assert len(validations) == 1  # what was missing of the second run
    assert "run 1 of 2: seed-0 is finished" in capsys.readouterr().out
    validations.clear()
    train("--seeds", "3")
    assert len(validations) == 2
    said = capsys.readouterr().out
    assert "mean ± sd" in said and "every run has the same split of the data" in said

    runs = [folder / f"seed-{seed}" for seed in range(3)]
    assert (runs[0] / "results.json").read_bytes() == first
    results = [read_results(path / "results.json") for path in runs]
    report = json.loads((folder / "seeds.json").read_text())
    assert report["seeds"] == [0, 1, 2] == [one["run"]["seed"] for one in results]
    assert report["split"] == "test" and report["recipe"] == "tiny"
    assert len({one["dataset"]["fingerprint"] for one in results}) == 1  # the same test images
    names = {name for one in results for name, _ in flat_metrics(one)}
    assert report["metrics"].keys() == names and "per_class/dark/recall" in names
    log_loss = [one["metrics"]["log_loss"]["value"] for one in results]
    assert len(set(log_loss)) == 3  # the training seed did vary
    entry = report["metrics"]["log_loss"]
    assert entry["values"] == log_loss
    assert entry["mean"] == pytest.approx(statistics.mean(log_loss))
    assert entry["standard_deviation"] == pytest.approx(statistics.stdev(log_loss))
    assert (entry["min"], entry["max"]) == (min(log_loss), max(log_loss))
    with (folder / "seeds.csv").open(newline="") as handle:
        rows = {row["metric"]: row for row in csv.DictReader(handle)}
    assert float(rows["log_loss"]["mean"]) == pytest.approx(entry["mean"])
    assert [float(rows["log_loss"][f"seed-{seed}"]) for seed in range(3)] == log_loss
    with Image.open(folder / "seeds.png") as figure:
        assert figure.size[0] == 1350
    for path in runs:  # whole run folders
        assert check_card(path / "model") == []
        assert load_recipe(path / "recipe.yaml")["study"] is None
    with pytest.raises(CellsError, match=r"was begun with another recipe \(training.epochs differ\)"):
        train("--seeds", "3", "training.epochs=3")


def test_a_study_with_a_variant_that_fails(train, tmp_path, capsys):
    """Precision and accumulation are states of the process in accelerate: every run must have its own."""
    study = "study={training.precision: [fp32, bf16], training.gradient_accumulation_steps: [1, 3]}"
    threads = torch.get_num_threads()
    folder = train(study, "evaluation.metric=loss", "training.epochs=1")
    assert torch.get_num_threads() == threads
    assert AcceleratorState._shared_state == {}
    report = json.loads((folder / "study.json").read_text())
    assert {row["name"] for row in report["runs"]} == {
        f"precision-{p}_gradient_accumulation_steps-{n}" for p in ("fp32", "bf16") for n in (1, 3)
    }
    for row in report["runs"]:
        results = read_results(folder / row["name"] / "results.json")
        assert results["run"]["precision"] == f"{row['settings']['training.precision']} contiguous"
        assert row["test"]["log_loss"] == results["metrics"]["log_loss"]["value"]
        with (folder / row["name"] / "history.csv").open(newline="") as handle:
            (epoch,) = csv.DictReader(handle)
        assert row["validation"] == float(epoch["validation_loss"])
        batches = 4 if row["settings"]["training.gradient_accumulation_steps"] == 1 else 6
        assert int(epoch["step"]) == batches  # rounded up to whole accumulated batches
    losses = [row["validation"] for row in report["runs"]]
    assert losses == sorted(losses) and len(set(losses)) == 4 and report["best"] == report["runs"][0]["name"]
    assert (folder / "study.png").exists()
    capsys.readouterr()

    with pytest.raises(CellsError, match="1 of 2 runs failed; kernel_size-4: .* must be odd"):
        train(
            "--output_dir",
            str(tmp_path / "second"),
            "study={model.config.kernel_size: [4, 3]}",
            "training.epochs=1",
        )
    report = json.loads((tmp_path / "second" / "study.json").read_text())
    assert report["best"] == "kernel_size-3" and "must be odd" in report["runs"][1]["failed"]
    with (tmp_path / "second" / "study.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["rank"] for row in rows] == ["1", ""]
    said = capsys.readouterr().out
    assert "kernel_size-4 failed: " in said and "validation mean_class_accuracy" in said


def test_test_numbers_never_rank(tmp_path):
    """The better a variant is on the test split, the worse it is on validation here; None is last."""
    variants = [Variant(name, {"training.epochs": n}) for n, name in enumerate("abc", 1)]
    for number, variant in enumerate(variants):
        run_dir = tmp_path / variant.name
        run_dir.mkdir()
        recipe = {**DEFAULTS, "evaluation": {**DEFAULTS["evaluation"], "metric": "accuracy"}}
        (run_dir / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        scores = ["", ""] if number == 2 else [0.5 + 0.1 * number, 0.4]
        rows = "".join(f"{epoch},{score}\n" for epoch, score in enumerate(scores, 1))
        (run_dir / "history.csv").write_text("epoch,validation_accuracy\n" + rows)
        results = {
            "dataset": {"name": "x", "config": None, "fingerprint": "0", "license": None},
            "split": {"name": "test", "unit": "image", "groups": 1, "leaks": 0, "audit": ""},
            "metrics": {"accuracy": {"value": 0.9 - 0.1 * number, "ci": None, "n": 1}},
            "decision": {"thresholds": {}, "temperature": 1.0, "chosen_on": "default"},
            "run": {"recipe": "x", "seed": 0, "seconds": 3.0, "hardware": "", "versions": {}},
        }
        (run_dir / "results.json").write_text(json.dumps(results))
    report = report_study(tmp_path, variants, {})
    assert [row["name"] for row in report["runs"]] == ["b", "a", "c"]
    assert [row["validation"] for row in report["runs"]] == [0.6, 0.5, None]
    assert [row["best_epoch"] for row in report["runs"]] == [1, 1, None]
    assert [row["test"]["accuracy"] for row in report["runs"]] == pytest.approx([0.8, 0.9, 0.7])


def test_seeds_in_two_processes(tiny, cache, tmp_path):
    arguments = [
        "--recipe",
        str(tiny),
        "--output_dir",
        str(tmp_path / "out"),
        "--seeds",
        "2",
        "training.epochs=1",
    ]
    texts = [one.check() for one in pair(tmp_path, "two", main_here, cache, *arguments)]
    assert "everything is in" in texts[0] and "run " not in texts[1]
    report = json.loads((tmp_path / "out" / "seeds.json").read_text())
    assert report["seeds"] == [0, 1]
    assert read_results(tmp_path / "out" / "seed-1" / "results.json")["run"]["processes"] == 2


def test_names_of_variants():
    sizes = [{"height": side, "width": side} for side in (128, 512)]
    study = {"processor.square": ["white", "zero"], "processor.size": sizes}
    variants = study_variants(study)
    assert [v.name for v in variants] == [
        f"square-{s}_size-{n}" for s in ("white", "zero") for n in (128, 512)
    ]
    assert load_recipe("glomeruli_cnn_128", variants[-1].overrides)["processor"]["size"] == sizes[1]
    of_study = load_recipe("glomeruli_padding_study")["study"]
    assert len({v.name for v in study_variants(of_study)}) == 9
    alike = study_variants({"a.lr": [1e-5, None], "b.lr": [[], [1, 2]], "c": ["x/../y", "x ../y"]})
    assert alike[0].name == "a.lr-1e-05_b.lr-none_c-x-..-y"
    assert len({v.name for v in alike}) == 8 and all("/" not in v.name for v in alike)
    long = study_variants({"key": ["a" * 300, "a" * 300 + "b"]})
    assert len({v.name for v in long}) == 2 and all(len(v.name) < 120 for v in long)


def test_overrides_reach_the_recipe_as_they_are():
    settings = {
        "training.optimizer": {"name": "sgd", "momentum": 0.9},
        "training.optimizer.lr": 1e-05,
        "model.config": {"hidden_act": "mish", "downsample": None},
        "data.config": "true",
        "training.patience": None,
        "evaluation.tune": False,
    }
    made = load_recipe("cells_classification", Variant("x", settings).overrides)
    assert made["training"]["optimizer"] == {"name": "sgd", "momentum": 0.9, "lr": 1e-05}
    assert made["model"]["config"]["hidden_act"] == "mish" and made["model"]["config"]["downsample"] is None
    assert made["data"]["config"] == "true" and made["evaluation"]["tune"] is False


def test_another_training_seed_has_the_same_simulated_data():
    recipe = load_recipe("quickstart", ["seed=3"])
    assert common_recipe(recipe)["data"]["simulate"]["seed"] == 3
    assert recipe["data"]["simulate"].get("seed") is None
    own = load_recipe("quickstart", ["seed=3", "data.simulate.seed=8"])
    assert common_recipe(own)["data"]["simulate"]["seed"] == 8


def test_differing_keys():
    one = {"a": 1, "b": {"c": [1], "d": None}}
    assert differing_keys(one, {"a": 1, "b": {"c": [1], "d": None}}) == []
    assert differing_keys(one, {"a": 2, "b": {"c": [1, 2]}, "e": 0}) == ["a", "b.c", "e"]


def test_spread_and_headlines():
    assert spread([1.0, None, 3.0]) == {"mean": 2.0, "standard_deviation": 2**0.5, "min": 1.0, "max": 3.0}
    assert spread([2.0])["standard_deviation"] is None
    assert spread([None]) == {"mean": None, "standard_deviation": None, "min": None, "max": None}
    assert headlines(list("abcdefgh"), "h") == list("habcde")
    assert headlines(["a"], "loss") == ["a"]


def test_pareto_front():
    points = [
        {"name": name, "seconds": seconds, "score": score}
        for name, seconds, score in [
            ("a", 1, 0.5),
            ("b", 1, 0.6),
            ("c", 2, 0.6),
            ("d", 3, 0.9),
            ("e", 4, 0.8),
        ]
    ]
    assert [point["name"] for point in pareto_front(points)] == ["b", "d"]
    assert [point["name"] for point in pareto_front(points, lower_is_better=True)] == ["a"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seeds", "0"], "--seeds 0: it must be 1 or more"),
        (["--seeds", "2", "study={training.epochs: [1, 2]}"], "add seed: [0, 1, …] to it"),
        (["study={training.epochs: 3}"], "study must map keys to lists"),
        (["study=[1]"], "study must map keys to lists"),
        (["study={training.epochz: [1]}"], "unknown key training.epochz"),
        (["study={evaluation.metric: [loss, accuracy]}"], "a study compares its variants by one metric"),
        (
            ["--seeds", "2", "data.options.validation_fraction=0", "evaluation.test=false"],
            "has no validation split",
        ),
        (["study={seed: [0]}", "data.options.validation_fraction=0"], "has no validation split"),
        (["--seeds", "2", "training.batch_size=0"], "training.batch_size is 0"),
    ],
)
def test_mistakes_are_one_line(tiny, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(["--recipe", str(tiny), "--output_dir", str(tmp_path / "out"), *arguments])
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_places_of_other_runs(tiny, tmp_path, capsys):
    single = tmp_path / "single"
    single.mkdir()
    (single / "recipe.yaml").write_text(tiny.read_text())
    for arguments, message in (
        (["--resume", str(single), "--seeds", "2"], "--resume continues a single run"),
        (
            ["--recipe", str(tiny), "--output_dir", str(single), "--seeds", "2"],
            "is the folder of a single run",
        ),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err

"""The search: what trials see, what they draw, how it goes on, and what wins."""

import csv
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
import yaml
from PIL import Image
from tiny_cells import write_cells, write_classifier_recipe

from hf_cells.data.image_samples import ImageSamples
from hf_cells.data.loading import load_dataset
from hf_cells.data.samples import EpochBatches, EpochOrder
from hf_cells.errors import CellsError
from hf_cells.evaluation import read_results
from hf_cells.models import CellClassificationConfig, CellForImageClassification
from hf_cells.training import loop, search
from hf_cells.training.classification import ClassificationTask
from hf_cells.training.loop import State
from hf_cells.training.optimisers import make_optimizer
from hf_cells.training.recipe import load_recipe, save_recipe
from hf_cells.training.search_space import check_space, default_space, read_space, suggest
from hf_cells.training.variants import Variant

SPACE = {
    "model.config.hidden_act": ["relu", "mish"],
    "size": {"small": {"model.config.hidden_sizes": [4]}, "large": {"model.config.hidden_sizes": [8, 8]}},
    "training.optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True},
}
METRIC = "validation_mean_class_accuracy"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The recipe of a classifier that trains in a second."""
    folder = tmp_path_factory.mktemp("cells")
    return write_classifier_recipe(folder / "tiny.yaml", write_cells(folder / "data"))


@pytest.fixture
def look(tiny, tmp_path):
    """Search in a folder, by default without the last run; returns the folder."""

    def go(trials, *overrides, folder="out", **settings):
        recipe = {**load_recipe(tiny, overrides), "output_dir": str(tmp_path / folder)}
        wishes = {"space": SPACE, "share": 0.5, "epochs": 2, "final": False, **settings}
        best = search.search(recipe, trials=trials, **wishes)
        assert best == tmp_path / folder / "best.yaml"
        return tmp_path / folder

    return go


@pytest.fixture
def scripted(monkeypatch):
    """Replace training: trial n has the scores of `script[n]`, an epoch each, or raises what is there."""
    script = []

    def train(setup):
        scores, state = script[int(setup.run_dir.name)], State()
        if isinstance(scores, Exception):
            raise scores
        for score in scores:
            state.epoch, state.seconds = state.epoch + 1, state.seconds + 1.0
            if state.best_score is None or score > state.best_score:
                state.best_score, state.best_epoch = score, state.epoch
            setup.after_epoch(state, {METRIC: score})
        return state

    def prepare(recipe, resume):
        order = EpochOrder(4, 4, None, 0)
        model = torch.nn.Linear(1, 1)
        made = SimpleNamespace(recipe=recipe, model=model, batches=EpochBatches(order, 2), after_epoch=None)
        made.run_dir = search.Path(recipe["output_dir"])
        return made, {}

    monkeypatch.setattr(search, "train", train)
    monkeypatch.setattr(search, "prepare", prepare)
    monkeypatch.setattr(search, "learn_from", lambda setup, kept: None)
    return script


def table(folder):
    with (folder / "trials.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def without_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_search_continued_is_the_search_in_one_go_and_its_winner_is_trained(look, monkeypatch, capsys):
    """Every number but the clock's is the same; the last run has the epochs and the images of the recipe."""
    rows_drawn, rows_validated = set(), set()
    prepared, validate, train = ImageSamples._prepared, ClassificationTask.validate, search.train

    def train_from_here(setup):
        rows_drawn.clear()  # speed is measured before, with any batch
        result = train(setup)
        rows_of_trials.append(set(rows_drawn))
        return result

    def watched(self, index):
        rows_drawn.add(self.rows[index]["image_id"])
        return prepared(self, index)

    def watched_too(self, model, processor, rows, accelerator):
        rows_validated.update(row["image_id"] for row in map(rows.__getitem__, range(len(rows))))
        return validate(self, model, processor, rows, accelerator)

    with monkeypatch.context() as patch:
        rows_of_trials = []
        patch.setattr(search, "train", train_from_here)
        patch.setattr(ImageSamples, "_prepared", watched)
        patch.setattr(ClassificationTask, "validate", watched_too)
        once = look(4, folder="once")
    recipe = load_recipe(once / "base.yaml")
    data = load_dataset(recipe["data"]["name"], **recipe["data"]["options"])
    ids = {split: set(rows["image_id"]) for split, rows in data.items()}
    assert rows_validated == ids["validation"]
    assert all(rows == rows_of_trials[0] for rows in rows_of_trials[1:])
    assert rows_drawn < ids["train"] and 0.4 < len(rows_drawn) / len(ids["train"]) < 0.6
    assert not list(once.rglob("results.json"))  # nothing was evaluated
    assert not list(once.rglob("*.safetensors"))

    look(2)
    again = look(4, final=True)
    assert without_clock(table(again)) == without_clock(table(once))
    rows = table(again)
    assert [row["trial"] for row in rows] == list("0123")
    assert rows[0]["training.optimizer.lr"] == "" and rows[0]["state"] == "complete"  # the recipe as it is
    assert all(1e-3 <= float(row["training.optimizer.lr"]) <= 0.1 for row in rows[1:])
    assert len({row["training.optimizer.lr"] for row in rows[1:]}) == 3
    with Image.open(again / "search.png") as figure:
        assert figure.size[0] == 1350

    best = load_recipe(again / "best.yaml")
    scores = [float(row[METRIC]) for row in rows if row["state"] == "complete"]
    (final,) = again.glob("final-trial-*")
    winner = rows[int(final.name.rpartition("-")[2])]
    assert float(winner[METRIC]) == max(scores)
    if winner["training.optimizer.lr"]:
        assert best["training"]["optimizer"]["lr"] == float(winner["training.optimizer.lr"])
    assert best["training"]["epochs"] == 2 and best["name"] == "tiny_search" and best["output_dir"] is None
    results = read_results(final / "results.json")
    assert results["split"]["name"] == "test" and results["run"]["train_images"] == len(ids["train"])
    trained = load_recipe(final / "recipe.yaml")
    assert trained["model"]["config"] | best["model"]["config"] == trained["model"]["config"]
    assert trained["training"]["optimizer"] == best["training"]["optimizer"]
    before = (final / "results.json").stat().st_mtime_ns
    look(4, final=True)
    assert (final / "results.json").stat().st_mtime_ns == before
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(CellsError, match=r"begun with other settings \(share differ\)"):
        look(4, share=0.4)
    with pytest.raises(CellsError, match=r"begun with another recipe \(training.batch_size differ\)"):
        look(4, "training.batch_size=4")


@pytest.mark.parametrize(
    "validation, states",
    [(1, ["interrupted", "complete", "complete"]), (3, ["complete", "interrupted", "complete"])],
)
def test_a_search_that_is_killed_in_a_trial_goes_on(look, monkeypatch, capsys, validation, states):
    validate, calls = loop.validate, []

    def signalled(*arguments, **settings):
        calls.append(1)
        if len(calls) == validation:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", signalled)
        with pytest.raises(SystemExit) as caught:
            look(2)
    assert caught.value.code == 143
    assert "the same command continues the search" in capsys.readouterr().out
    folder = look(2)
    assert [row["state"] for row in table(folder)] == states
    rates = [row["training.optimizer.lr"] for row in table(folder) if row["state"] == "complete"]
    assert rates[0] == "" and rates[1] != ""  # the recipe as it is comes first
    assert not list(folder.rglob("*.safetensors"))


def test_trials_that_fail_and_trials_that_are_stopped(look, scripted, capsys):
    scripted[:] = [
        [0.5, 0.6, 0.7],
        CellsError("the loss is no longer a number"),
        [0.5, 0.6, 0.8],
        torch.OutOfMemoryError("CUDA out of memory"),
        [0.5, 0.6, 0.9],
        [0.5, 0.6, 0.6],
        [0.55, 0.1, 0.99],  # below the median at the second epoch: it never shows its third
        [0.1, 0.7, 0.75],  # below the median at the first, which is too early to judge
    ]
    folder = look(8, epochs=3)
    rows = table(folder)
    states = "complete failed complete failed complete complete pruned complete"
    assert [row["state"] for row in rows] == states.split()
    assert rows[1]["error"] == "the loss is no longer a number"
    assert rows[3]["error"] == "OutOfMemoryError: CUDA out of memory"
    assert [row[METRIC] for row in rows] == ["0.7", "", "0.8", "", "0.9", "0.6", "0.55", "0.75"]
    assert [row["epochs"] for row in rows] == ["3", "", "3", "", "3", "3", "2", "3"]
    said = capsys.readouterr().out
    assert "the winner is trial 4" in said and "Traceback" not in said
    assert "trial 6: mean_class_accuracy 0.5500 in 2.0 s, stopped after 2 epochs" in said
    settings = yaml.safe_load((folder / "best.yaml").read_text())
    assert settings["training"]["optimizer"]["lr"] == pytest.approx(float(rows[4]["training.optimizer.lr"]))


def test_when_every_trial_fails(look, scripted):
    scripted[:] = [CellsError("no such backbone")] * 3
    with pytest.raises(CellsError, match="no trial of 3 was completed; the last: no such backbone"):
        look(3)


def test_no_time_for_another_trial(look, scripted):
    scripted[:] = [[0.5, 0.6]] * 3
    with pytest.raises(CellsError, match="the time was over before the first"):
        look(3, timeout_minutes=0)


def test_a_share_of_the_training_split_keeps_groups_whole_and_classes_balanced(tiny):
    recipe = load_recipe(tiny)
    train = load_dataset(recipe["data"]["name"], **recipe["data"]["options"])["train"]
    kept = search.training_share(train, 0.5, 0)
    assert kept.dtype == bool and len(kept) == len(train)
    sides = [{group for group, k in zip(train["group"], kept) if k == side} for side in (True, False)]
    assert not sides[0] & sides[1]
    counts = np.bincount(np.array(train["label"])[kept])
    assert abs(counts[0] - counts[1]) <= 2 and 0.4 < kept.mean() < 0.6
    assert (search.training_share(train, 0.5, 0) == kept).all()
    assert (search.training_share(train, 0.5, 1) != kept).any()
    assert search.training_share(train, 1.0, 0).all()


@pytest.mark.parametrize("weights", [None, np.array([4.0, 1, 1, 4, 1, 1, 2, 2])])
def test_rows_that_are_not_kept_are_never_drawn(weights):
    """Six rows of the data and two simulated ones, which keep their share of the samples."""
    order = EpochOrder(8, 400, weights, seed=3)
    before = np.bincount(order.rows(0, 400), minlength=8)
    setup = SimpleNamespace(batches=SimpleNamespace(order=order))
    kept = np.array([True, False, True, False, True, False])
    search.learn_from(setup, kept)
    drawn = np.bincount(order.rows(0, 400), minlength=8)
    assert (drawn[:6][~kept] == 0).all() and (drawn[:6][kept] > 0).all()
    assert abs(drawn[6:] - before[6:]).max() <= 1
    kept_weights = np.ones(6)[kept] if weights is None else weights[:6][kept]
    expected = drawn[:6].sum() * kept_weights / kept_weights.sum()
    assert abs(drawn[:6][kept] - expected).max() <= 1


@pytest.mark.parametrize("name", ["cells_classification", "glomeruli_cnn_128", "glomeruli_baseline_01"])
def test_every_draw_from_the_default_space_is_a_model_that_learns(name, tmp_path):
    recipe = load_recipe(name)
    space = default_space(recipe)
    save_recipe(recipe, tmp_path / "base.yaml")
    check_space(space, tmp_path / "base.yaml")
    assert {"topology", "head", "optimiser", "model.config.kernel_size"} <= space.keys()
    study, seen = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)), set()
    for _ in range(12):
        settings = suggest(study.ask(), space)
        made = load_recipe(tmp_path / "base.yaml", Variant("x", settings).overrides)
        settings_of_model = {"image_size": 32, "id2label": {0: "a", 1: "b"}, **made["model"]["config"]}
        config = CellClassificationConfig(**settings_of_model)
        if config.head_type == "svm":
            assert config.loss_name == "hinge"
        model = CellForImageClassification(config)
        loss = model(torch.rand(2, 3, 32, 32), torch.tensor([0, 1])).loss
        loss.backward()
        assert loss.isfinite()
        optimiser = make_optimizer(model, made["training"]["optimizer"])
        assert 1e-4 <= optimiser.param_groups[0]["lr"] <= 0.3
        seen |= {config.loss_name, config.head_type, config.hidden_act, type(optimiser).__name__}
    assert {"focal", "hinge", "linear", "mlp", "svm", "mish", "SGD", "AdamW"} <= seen


def test_default_spaces_of_other_recipes():
    ready = default_space(load_recipe("glomeruli_resnet18_tuned"))
    assert "topology" not in ready and "head" in ready
    assert ready["optimiser"]["adam"]["training.optimizer.lr"]["high"] == pytest.approx(1e-3)
    assert default_space(load_recipe("dsb2018_instance")).keys() == {"optimiser"}
    cycle = load_recipe("dsb2018_instance", ["training.schedule={name: one_cycle, max_lr: 0.01}"])
    assert default_space(cycle) == {}
    several = default_space(load_recipe("cells_classification"), several_labels=True)
    assert several["model.config.loss_name"][0] == "bce"


def test_what_a_trial_draws():
    space = {
        "a.list": [[1, 2], None, {"name": "x"}],
        "a.whole": {"low": 2, "high": 5},
        "a.number": {"low": 0.1, "high": 10.0, "log": True},
        "kind": {"one": {"a.rate": {"low": 1.0, "high": 2.0}, "a.fixed": {"low": 3}}, "none": {}},
        "a.fixed": [7],
    }
    fixed = {"a.list": '{"name": "x"}', "a.whole": 3, "a.number": 0.5, "kind": "one"}
    trial = optuna.trial.FixedTrial({**fixed, "kind.one.rate": 1.5, "a.fixed": "7"})
    drawn = {"a.list": {"name": "x"}, "a.whole": 3, "a.number": 0.5, "a.rate": 1.5, "a.fixed": 7}
    assert suggest(trial, space) == drawn  # the later entry wins
    assert json.dumps(suggest(optuna.trial.FixedTrial({**fixed, "kind": "none", "a.fixed": "7"}), space))


@pytest.mark.parametrize(
    "text, message",
    [
        ("training.epochz: [1]", "unknown key training.epochz"),
        ("training.epochs: 3", "training.epochs must be a list of values, a range"),
        ("training.epochs: []", "must be a list of values"),
        ("training.epochs: {low: 3, high: 2}", "training.epochs must be {low: number, high: larger number"),
        ("training.epochs: {low: 1, high: x}", "must be {low: number"),
        ("training.optimizer.lr: {low: 0, high: 1e-2, log: true}", "low must be above 0"),
        ("kind: {one: {training.batchsize: 3}}", "unknown key training.batchsize"),
        ("kind: {one: {training.epochs: {low: 2, high: 1}}}", "kind: training.epochs must be"),
        ("- 1", "it has none"),
        ("a: [", "not valid YAML"),
    ],
)
def test_spaces_that_make_no_sense(tiny, tmp_path, text, message):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(CellsError, match=message) as caught:
        check_space(read_space(tmp_path / "space.yaml"), tiny)
    assert "\n" not in str(caught.value)


def test_a_space_with_numbers_as_people_write_them(tiny, tmp_path):
    (tmp_path / "space.yaml").write_text("training.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}")
    space = read_space(tmp_path / "space.yaml")
    assert space["training.optimizer.lr"] == {"low": 1e-4, "high": 1e-2, "log": True}
    check_space(space, tiny)


@pytest.mark.parametrize(
    "settings, overrides, message",
    [
        ({"share": 0.0}, [], "--share 0.0 above 0 and at most 1"),
        ({}, ["model.type=cell_unet"], "model.type='cell_unet' is unknown"),
        ({}, ["data.options.validation_fraction=0"], "has no validation split"),
        ({"space": None}, ["evaluation.metric=loss"], "cannot judge between losses"),
        ({"space": {}}, [], "nothing to search for in tiny"),
    ],
)
def test_what_a_search_refuses(look, settings, overrides, message):
    with pytest.raises(CellsError, match=message):
        look(2, *overrides, **settings)

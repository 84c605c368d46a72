"""The loop: when it validates, stops, keeps, and refuses to go on."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_runs import assert_same_tensors, forget_processes

from hf_cells.data.augmentation import Augmentation
from hf_cells.errors import CellsError
from hf_cells.training import loop, setup
from hf_cells.training.checkpoints import list_checkpoints, read_checkpoint
from hf_cells.training.recipe import load_recipe


@pytest.fixture
def prepare(recipe, tmp_path):
    """Make the loop's setup from the tiny recipe and overrides; resumes when the run folder has a recipe."""

    def make(*overrides):
        run = tmp_path / "run"
        resume = run if (run / "recipe.yaml").exists() else None
        settings = load_recipe(run / "recipe.yaml" if resume else recipe, overrides)
        settings["output_dir"] = str(run)
        return setup.prepare(settings, resume)[0]

    return make


def rows_of(run):
    with (run / "history.csv").open() as handle:
        return list(csv.DictReader(handle))


def script(monkeypatch, losses):
    """Let validation give these losses, one after the other."""
    left = list(losses)

    def validate(*arguments, **settings):
        return {"loss": left.pop(0), "dsb_score": 0.5}

    monkeypatch.setattr(loop, "validate", validate)


def test_the_best_weights_are_the_best_of_the_history(prepare, monkeypatch):
    made = prepare("training.epochs=5", "training.ema_decay=", "training.keep_checkpoints=5")
    script(monkeypatch, [3.0, 1.0, 2.0, 0.5, 4.0])
    state = loop.train(made)
    rows = rows_of(made.run_dir)
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    assert state.best_epoch == int(best["epoch"]) == 4
    assert state.best_score == float(best["validation_loss"]) == 0.5
    checkpoints = list_checkpoints(made.run_dir / "checkpoints")
    assert len(checkpoints) == 5
    of_best = load_file(checkpoints[3] / "model.safetensors")
    saved = load_file(made.run_dir / "checkpoints" / "best.safetensors")
    for name, value in made.model.state_dict().items():  # the model is left with the best weights
        assert torch.equal(value, saved[name]) and torch.equal(value, of_best[name])
    last = load_file(checkpoints[4] / "model.safetensors")
    assert not torch.equal(last["unet.head.weight"], of_best["unet.head.weight"])


def test_a_real_run_improves_and_validates_the_average(prepare):
    made = prepare("training.epochs=4", "training.validate_every=3", "training.keep_checkpoints=9")
    state = loop.train(made)
    rows = rows_of(made.run_dir)
    assert [row["epoch"] for row in rows if row["validation_loss"]] == ["3", "4"]  # the last epoch always
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert (state.epoch, state.step, state.finished) == (4, 24, False)
    of_best = read_checkpoint(list_checkpoints(made.run_dir / "checkpoints")[state.best_epoch - 1])
    best = load_file(made.run_dir / "checkpoints" / "best.safetensors")
    average = of_best["average"]
    assert int(average.pop("_step")) == 3 * state.best_epoch  # one an update: 6 batches, 2 accumulated
    assert_same_tensors(best, average)
    assert not torch.equal(average["unet.head.weight"], of_best["weights"]["unet.head.weight"])


def test_metric_where_more_is_better(prepare, monkeypatch):
    made = prepare("evaluation.metric=dsb_score", "training.patience=1")
    scores = [0.2, 0.4, 0.4]
    monkeypatch.setattr(loop, "validate", lambda *a, **k: {"loss": 1.0, "dsb_score": scores.pop(0)})
    state = loop.train(made)
    assert (state.best_score, state.best_epoch) == (0.4, 2)
    assert state.finished and state.bad_validations == 1


def test_patience(prepare, monkeypatch):
    made = prepare("training.epochs=9", "training.patience=2")
    script(monkeypatch, [2.0, 1.0, 1.5, 0.9, 1.0, 0.95, 0.1])
    state = loop.train(made)
    assert state.epoch == 6 and state.best_epoch == 4 and state.finished
    assert len(rows_of(made.run_dir)) == 6
    saved = list_checkpoints(made.run_dir / "checkpoints")[-1]
    assert json.loads((saved / "state.json").read_text())["bad_validations"] == 2
    resumed = loop.train(prepare())  # stays stopped
    assert resumed.epoch == 6 and len(rows_of(made.run_dir)) == 6


def test_plateau_is_given_the_mean_validation_loss(prepare, monkeypatch):
    made = prepare(
        *["training.epochs=5", "training.schedule={name: plateau, factor: 0.5, patience: 0}"],
        "training.optimizer.lr=0.01",
    )
    script(monkeypatch, [1.0, 1.0, 0.9, 0.95, 0.8])
    loop.train(made)
    rates = [float(row["learning_rate"]) for row in rows_of(made.run_dir)]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])  # each row before its own validation


@pytest.mark.parametrize("epochs, accumulation, batches", [(3, 2, 6), (2, 5, 10)])
def test_the_schedule_ends_with_the_last_update(prepare, epochs, accumulation, batches):
    """Twelve samples in batches of two; five accumulated batches make ten of six."""
    made = prepare(
        *["training.schedule={name: cosine, warmup: 1, floor: 0.0}", f"training.epochs={epochs}"],
        *[f"training.gradient_accumulation_steps={accumulation}", "training.max_steps="],
    )
    assert made.batches.steps == batches
    loop.train(made)
    rows = rows_of(made.run_dir)
    assert rows[-1]["step"] == str(epochs * batches)
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-12)
    assert float(rows[0]["learning_rate"]) > 0.001


def test_accumulated_batches_make_the_update_of_one_large_batch(prepare, monkeypatch):
    """Two batches of two against one of four, without dropout and batch norm: the same weights."""
    results = []
    for number, (batch, accumulation) in enumerate([(2, 2), (4, 1)]):
        made = prepare(
            *[f"training.batch_size={batch}", f"training.gradient_accumulation_steps={accumulation}"],
            *["model.config.norm=group", "model.config.dropout=0", "training.clip_grad_norm=0", "seed=3"],
            "training.optimizer={name: sgd, lr: 0.1}",
        )
        loop.train(made)
        last = list_checkpoints(made.run_dir / "checkpoints")[-1]
        results.append(load_file(last / "model.safetensors"))
        made.run_dir.rename(made.run_dir.with_name(f"done-{number}"))
        forget_processes()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], atol=2e-4, rtol=2e-3)


def test_max_steps_and_the_latest_checkpoints(prepare):
    made = prepare("training.epochs=9", "training.max_steps=14", "training.keep_checkpoints=1")
    state = loop.train(made)
    assert (state.step, state.finished) == (14, True)
    rows = rows_of(made.run_dir)
    assert [row["step"] for row in rows] == ["6", "12", "14"]
    assert rows[-1]["validation_loss"]
    assert [path.name for path in list_checkpoints(made.run_dir / "checkpoints")] == ["step-00000014"]


def test_more_steps_and_more_patience_on_resume(prepare, monkeypatch):
    """What ended a run is asked anew: the settings of today decide."""
    assert loop.train(prepare("training.epochs=9", "training.max_steps=8")).step == 8
    assert loop.train(prepare()).step == 8
    script(monkeypatch, [1.0, 2.0, 2.0, 2.0])
    state = loop.train(prepare("training.max_steps=", "training.patience=1"))
    assert state.finished and state.bad_validations == 1
    again = loop.train(prepare("training.patience=2"))
    assert again.epoch == state.epoch + 1 and again.bad_validations == 2


def test_checkpoints_every_few_epochs_and_the_last(prepare):
    made = prepare("training.epochs=5", "training.checkpoint_every=2", "training.keep_checkpoints=9")
    loop.train(made)
    names = [path.name for path in list_checkpoints(made.run_dir / "checkpoints")]
    assert names == ["step-00000012", "step-00000024", "step-00000030"]
    state = json.loads((made.run_dir / "checkpoints" / names[0] / "state.json").read_text())
    assert state["epoch"] == 2 and state["batch_size"] == 2 and state["learning_rate"] > 0
    assert state["image_mean"] is None
    assert [row["epoch"] for row in state["history"]] == [1, 2]


def test_a_rate_that_explodes(prepare):
    """One line that names the step and the remedy; what was saved before still loads, and the remedy works."""
    loop.train(prepare("training.epochs=1"))
    with pytest.raises(CellsError, match="no longer a number at step ") as caught:
        loop.train(prepare("training.epochs=9", "training.optimizer.lr=1e30"))
    message = str(caught.value)
    assert "\n" not in message
    assert "lower training.optimizer.lr or set training.precision=fp32" in message
    run = prepare().run_dir
    assert f"resume from {run}/checkpoints/step-00000006 with --resume {run}" in message
    saved = read_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    assert all(value.isfinite().all() for value in saved["weights"].values())
    state = loop.train(prepare("training.epochs=2", "training.optimizer.lr=1e-3"))
    assert state.epoch == 2 and np.isfinite(state.history[-1]["train_loss"])
    assert state.history[-1]["learning_rate"] <= 1e-3


def test_a_poisoned_batch(prepare, monkeypatch):
    """The eighth batch has a NaN: the update that it spoils is in no checkpoint."""
    made = prepare()
    call, seen = Augmentation.__call__, []

    def poisoned(self, window, labels, draw):
        image, truth = call(self, window, labels, draw)
        seen.append(1)
        return (image * float("nan") if len(seen) == 15 else image), truth  # batches of two

    monkeypatch.setattr(Augmentation, "__call__", poisoned)
    with pytest.raises(CellsError, match=r"the loss is no longer a number at step 8 \(learning rate "):
        loop.train(made)
    assert [path.name for path in list_checkpoints(made.run_dir / "checkpoints")] == ["step-00000006"]


def test_a_broken_update_that_no_loss_has_shown(prepare, monkeypatch):
    """The last update of the first epoch makes the weights infinite: no checkpoint, no best weights."""
    made = prepare()
    step, done = loop._step, []

    def spoil(*arguments):
        loss = step(*arguments)
        done.append(1)
        if len(done) == 6:
            with torch.no_grad():
                made.model.unet.head.weight.fill_(float("inf"))
        return loss

    monkeypatch.setattr(loop, "_step", spoil)
    with pytest.raises(
        CellsError, match="the model is no longer a number at step 6 .*no checkpoint was saved yet"
    ):
        loop.train(made)
    assert not (made.run_dir / "checkpoints").exists()


def test_without_validation_images_the_average_is_kept(prepare):
    made = prepare("training.epochs=2")
    made.validation = None
    state = loop.train(made)
    assert state.best_score is None
    last = read_checkpoint(list_checkpoints(made.run_dir / "checkpoints")[-1])
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, last["average"][name])


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_signal_during_validation(prepare, monkeypatch, epoch):
    """The epoch is kept, the process leaves; after the last epoch, too, before the evaluation begins."""
    made, validate, calls = prepare(), loop.validate, []

    def signalled(*arguments, **settings):
        calls.append(1)
        if len(calls) == epoch:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(*arguments, **settings)

    monkeypatch.setattr(loop, "validate", signalled)
    with pytest.raises(SystemExit) as caught:
        loop.train(made)
    assert caught.value.code == 143
    assert list_checkpoints(made.run_dir / "checkpoints")[-1].name == f"step-{6 * epoch:08d}"
    assert len(rows_of(made.run_dir)) == epoch
    again = prepare()
    assert loop.train(again).epoch == 3
    best = load_file(again.run_dir / "checkpoints" / "best.safetensors")
    assert_same_tensors(dict(again.model.state_dict()), best)


def test_a_score_that_is_undefined_is_never_the_best(prepare, monkeypatch):
    made = prepare("evaluation.metric=aji")
    scores = [{"loss": 1.0}, {"loss": 1.0, "aji": 0.1}, {"loss": 1.0}]
    monkeypatch.setattr(loop, "validate", lambda *a, **k: scores.pop(0))
    state = loop.train(made)
    assert (state.best_score, state.best_epoch, state.bad_validations) == (0.1, 2, 1)


@pytest.mark.parametrize(
    "override, message",
    [
        ("model.config.hidden_sizes=[8, 16]", "does not fit the recipe .*size mismatch"),
        ("training.schedule.name=constant", "the schedule is constant, it was cosine"),
        ("training.optimizer.name=sgd", "the optimiser is sgd, it was adamw"),
    ],
)
def test_a_checkpoint_of_another_recipe(prepare, override, message):
    loop.train(prepare("training.epochs=1"))
    made = prepare("training.epochs=2", override)
    with pytest.raises(CellsError, match=message) as caught:
        loop.train(made)
    assert "\n" not in str(caught.value)


def test_an_average_that_begins_on_resume(prepare):
    loop.train(prepare("training.epochs=1", "training.ema_decay="))
    made = prepare("training.epochs=2", "training.ema_decay=0.5")
    loop.train(made)
    last = read_checkpoint(list_checkpoints(made.run_dir / "checkpoints")[-1])
    assert int(last["average"]["_step"]) == 3

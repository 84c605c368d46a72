"""Search for better settings of a recipe: short trainings on a part of the data, then the winner on all of it.

    <folder>/study.db       every trial; the same command continues the search
    <folder>/trials.csv     the same as a table
    <folder>/search.png     score against training time
    <folder>/best.yaml      a recipe that trains the winner
    <folder>/final-trial-N  its run on all data

Trials learn from a share of the training split, groups whole, and are judged on the validation split. The test split is
scored once, by the run of the winner.
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import PartialState

from ..dataset_scripts._stratify import assign_stratified_splits
from ..errors import CellsError
from .loop import Setup, State, train
from .one_run import forget_run, threads_kept
from .recipe import load_recipe
from .search_report import drawn, finished, outcome, report, write_trials
from .search_space import Space, check_space, default_space, suggest
from .setup import load_splits, prepare
from .task import task_names, task_of
from .validation import LOWER_IS_BETTER
from .variants import (
    FAILURES,
    Variant,
    common_recipe,
    differing_keys,
    open_folder,
    reason_of,
    train_variants,
    write_plan,
)

try:
    import optuna
    from optuna.trial import TrialState
except ImportError as error:
    raise CellsError("hf-cells search needs optuna: pip install 'hf-cells[search]'") from error

_RANDOM_TRIALS = 8  # before the sampler learns from them
_COMPARED = 4  # complete trials before one is stopped for being below their median


def search(
    recipe: dict[str, Any],
    *,
    space: Space | None = None,
    trials: int = 20,
    share: float = 0.25,
    epochs: int = 5,
    timeout_minutes: float | None = None,
    final: bool = True,
) -> Path:
    """Search, or continue a search in the recipe's `output_dir`, and train the winner.

    The first trial is the recipe as it is. Later ones are drawn by a tree-structured Parzen estimator (Bergstra et al.
    2011) and stopped at an epoch where their best score is below the median of the trials before them (Golovin et al.
    2017). A trial that fails is noted, and the search goes on. What a trial draws depends on the seed, its number and
    the trials before it.

    Args:
        recipe: Resolved.
        space: As in `search_space`; None takes `default_space`.
        trials: Finished trials in all, those of an earlier call included.
        share: Of the training split that the trials learn from.
        epochs: Of a trial.
        timeout_minutes: Begin no trial after this time.
        final: Train the winner on all data with the epochs of the recipe.

    Returns:
        The path of best.yaml.

    Raises:
        CellsError: Bad settings, a folder with another search, no validation split, or every trial failed.
    """
    if trials < 1 or epochs < 1 or not 0 < share <= 1:
        raise CellsError(
            f"--trials {trials} and --epochs {epochs} must be 1 or more, and --share {share} above 0 and at most 1"
        )
    run = _open(recipe, space, share, epochs)
    run.go_on(trials, math.inf if timeout_minutes is None else time.monotonic() + 60 * timeout_minutes)
    winner = report(run.study, run.base, run.folder)
    if final:
        train_variants(run.base, [winner], run.folder)
    return run.folder / "best.yaml"


def _open(recipe: dict[str, Any], space: Space | None, share: float, epochs: int) -> "Search":
    """Read the data, and open or begin the study."""
    task = task_of(recipe["model"]["type"])
    if task is None:
        raise CellsError(
            f"model.type={recipe['model']['type']!r} is unknown; choose from: {', '.join(task_names())}"
        )
    folder = open_folder(recipe)
    if PartialState().num_processes > 1:
        raise CellsError("a search runs in one process; start it without a launcher")
    base = common_recipe(recipe)
    base["data"]["config"] = base["data"]["config"] or task.splits_need
    splits, _ = load_splits(base, task, folder, PartialState())
    if "validation" not in splits:
        raise CellsError(
            f"{base['data']['name']} has no validation split, on which the trials are judged; make one"
        )
    several = "labels" in splits["train"].column_names
    metric = base["evaluation"]["metric"] or ("mean_average_precision" if several else task.default_metric)
    base["evaluation"]["metric"] = metric
    write_plan(base, [], folder)
    space = default_space(base, several) if space is None else space
    if not space:
        raise CellsError(
            f"nothing to search for in {base['name']}, whose schedule sets the rates; give a --space"
        )
    check_space(space, folder / "base.yaml")
    if metric == "loss" and any(word in json.dumps(space) for word in ("loss_name", "head_type")):
        raise CellsError(
            "evaluation.metric=loss cannot judge between losses; set another, such as evaluation.metric=accuracy"
        )
    kept = training_share(splits["train"], share, base["seed"])
    print(f"trials learn from {kept.sum()} of {len(kept)} training images", flush=True)
    study = _open_study(folder / "study.db", metric, {"share": share, "epochs": epochs, "space": space})
    return Search(folder, base, space, metric, epochs, kept, study)


def _open_study(path: Path, metric: str, asked: dict[str, Any]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it prints a traceback for a trial that fails
    study = optuna.create_study(
        storage=f"sqlite:///{path.resolve()}",
        study_name="search",
        direction="minimize" if metric in LOWER_IS_BETTER else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_COMPARED, n_warmup_steps=2),
        load_if_exists=True,
    )
    asked = json.loads(json.dumps(asked))
    if changed := differing_keys(study.user_attrs.get("asked", asked), asked):
        raise CellsError(
            f"{path} was begun with other settings ({', '.join(changed[:3])} differ); "
            "give the same to continue it, or choose another --output_dir"
        )
    study.set_user_attr("asked", asked)
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # of a search that was ended in the middle
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def training_share(train: datasets.Dataset, share: float, seed: int) -> np.ndarray:
    """Choose rows to learn from: `(N,)` bool; groups stay whole and every class keeps its share."""
    if share >= 1:
        return np.ones(len(train), bool)
    ids = train["image_id"]
    known = train["group"] if "group" in train.column_names else [None] * len(ids)
    groups = [f"image {i}" if group is None else f"group {group}" for i, group in zip(ids, known)]
    classes: Sequence[list[str]] = [[]] * len(ids)
    if "label" in train.column_names:
        classes = [[str(label)] for label in train["label"]]
    elif "labels" in train.column_names:
        classes = [[str(label) for label in labels] for labels in train["labels"]]
    sides = assign_stratified_splits(groups, classes, {"rest": 1 - share}, seed)
    return np.array([side == "train" for side in sides])


def learn_from(setup: Setup, kept: np.ndarray) -> None:
    """Draw training samples from the rows that are kept; simulated rows after them keep their share."""
    if kept.all():
        return
    order, real = setup.batches.order, len(kept)
    weights = np.full(order.length, 1 / order.length) if order.weights is None else order.weights.copy()
    before = weights[:real].sum()
    weights[:real] *= kept
    weights[:real] *= before / weights[:real].sum()
    order.weights = weights


@dataclass
class Search:
    """A search in progress.

    Attributes:
        folder: Where everything is.
        base: The recipe that the trials change.
        space: What they change.
        metric: By which they are judged, on validation.
        epochs: Of a trial.
        kept: Training rows that the trials learn from, (N,) bool.
        study: Of optuna, on disk.
    """

    folder: Path
    base: dict[str, Any]
    space: Space
    metric: str
    epochs: int
    kept: np.ndarray
    study: optuna.Study

    def go_on(self, trials: int, until: float) -> None:
        """Run trials until there are so many, or the time is over."""
        self._drop_checkpoints()  # of a trial that was interrupted
        while (done := len(finished(self.study))) < trials and time.monotonic() < until:
            # A sampler of its own for every trial, so that a search that is continued draws what it would have drawn.
            number = len(self.study.get_trials(deepcopy=False))
            seed = int(np.random.SeedSequence([self.base["seed"], number]).generate_state(1)[0])
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
            print(f"trial {number} ({done + 1} of {trials})", end="", flush=True)
            try:
                self.study.optimize(self.run_trial, n_trials=1, catch=FAILURES)
            except SystemExit:
                print("the same command continues the search", flush=True)
                raise
            finally:
                forget_run()
                write_trials(self.study, self.metric, self.folder / "trials.csv")
            self._drop_checkpoints()
            print(f"trial {number}: {outcome(self.study.trials[-1], self.metric)}", flush=True)

    def run_trial(self, trial: optuna.Trial) -> float:
        """Train with the settings of a trial; returns its best validation score."""
        settings = suggest(trial, self.space) if finished(self.study) else {}
        trial.set_user_attr("settings", settings)
        print(f": {drawn(trial)}", flush=True)
        run_dir = self.folder / "trials" / f"{trial.number:03d}"
        try:
            with threads_kept():
                setup, _ = prepare(self._recipe(settings, run_dir), None)
                self._keep_speed(setup)
                learn_from(setup, self.kept)
                trial.set_user_attr("parameters", sum(p.numel() for p in setup.model.parameters()))
                setup.after_epoch = lambda state, row: self._judge(trial, state, row)
                state = train(setup)
            if state.best_score is None:
                raise CellsError(f"{self.metric} was undefined on validation in every epoch")
            return state.best_score
        except FAILURES as error:
            trial.set_user_attr("error", reason_of(error))
            raise

    def _recipe(self, settings: dict[str, Any], run_dir: Path) -> dict[str, Any]:
        recipe = load_recipe(self.folder / "base.yaml", Variant("trial", settings).overrides)
        recipe["output_dir"] = str(run_dir)
        if (self.folder / "simulated").exists():
            recipe["data"]["data_dir"] = str(self.folder / "simulated")
        wished = recipe["training"]["samples_per_epoch"] or len(self.kept)
        recipe["training"] |= {
            "epochs": self.epochs,
            "samples_per_epoch": max(1, round(wished * self.kept.mean())),
            "validate_every": 1,
            "checkpoint_every": self.epochs,
            "keep_checkpoints": 1,
            "refit": False,
            "patience": None,
            "max_steps": None,
            "trackers": [],
            **self.study.user_attrs.get("speed", {}),
        }
        return recipe

    def _drop_checkpoints(self) -> None:
        for checkpoints in self.folder.glob("trials/*/checkpoints"):
            shutil.rmtree(checkpoints, ignore_errors=True)

    def _keep_speed(self, setup: Setup) -> None:
        """What `auto` chose for the first trial holds for all, so that their times can be compared."""
        chosen = {key: setup.recipe["training"][key] for key in ("precision", "memory_format")}
        self.study.set_user_attr("speed", self.study.user_attrs.get("speed", chosen))

    def _judge(self, trial: optuna.Trial, state: State, row: dict[str, float]) -> None:
        score = row.get(f"validation_{self.metric}", math.nan)
        for name, value in (
            ("score", state.best_score),
            ("best_epoch", state.best_epoch),
            ("epochs", state.epoch),
            ("seconds", round(state.seconds, 2)),
        ):
            trial.set_user_attr(name, value)
        if math.isfinite(score):
            trial.report(score, state.epoch)
            if state.epoch < self.epochs and trial.should_prune():
                raise optuna.TrialPruned

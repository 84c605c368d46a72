"""What a search has found: trials.csv, search.png, best.yaml and a printed table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CellsError
from ..evaluation.comparison_figures import plot_score_against_time
from .recipe import load_recipe, save_recipe
from .repeat import print_table, write_csv
from .validation import LOWER_IS_BETTER
from .variants import Variant, readable

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_MEASURED = ("best_epoch", "epochs", "seconds", "parameters")
_SHOWN = 8  # trials in the printed table


def state_of(trial: "FrozenTrial") -> str:
    """Return complete, pruned, failed, interrupted (ended from outside) or running."""
    state = trial.state.name.lower()
    return {"fail": "failed" if "error" in trial.user_attrs else "interrupted"}.get(state, state)


def finished(study: "optuna.Study") -> "list[FrozenTrial]":
    """Return the trials that count: one that was interrupted does not."""
    over = ("complete", "pruned", "failed")
    return [trial for trial in study.get_trials(deepcopy=False) if state_of(trial) in over]


def outcome(trial: "FrozenTrial", metric: str) -> str:
    """Say in a line what became of a trial."""
    known, state = trial.user_attrs, state_of(trial)
    if state in ("failed", "interrupted"):
        return f"{state}: {known.get('error', 'ended from outside')}"
    text = f"{metric} {known['score']:.4f} in {known['seconds']:.1f} s"
    return text if state == "complete" else f"{text}, stopped after {known['epochs']} epochs"


def write_trials(study: "optuna.Study", metric: str, path: Path) -> None:
    """Write a row per trial: state, best validation score, time, size, what was drawn, and the error."""
    rows = [
        {
            "trial": trial.number,
            "state": state_of(trial),
            f"validation_{metric}": trial.user_attrs.get("score"),
            **{name: trial.user_attrs.get(name) for name in _MEASURED},
            **trial.params,
            "error": trial.user_attrs.get("error"),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    write_csv(path, rows)


def report(study: "optuna.Study", base: dict[str, Any], folder: Path) -> Variant:
    """Draw search.png, print the best trials, write best.yaml, and return the winner.

    Raises:
        CellsError: No trial was completed.
    """
    metric, over = base["evaluation"]["metric"], finished(study)
    lower = metric in LOWER_IS_BETTER
    complete = [trial for trial in over if state_of(trial) == "complete"]
    if not complete:
        reason = over[-1].user_attrs.get("error") if over else "the time was over before the first"
        raise CellsError(f"no trial of {len(over)} was completed; the last: {reason}")
    complete.sort(key=lambda trial: trial.user_attrs["score"] * (1 if lower else -1))  # of equals, the first
    points = [
        {
            "name": f"trial {trial.number}",
            "seconds": trial.user_attrs["seconds"],
            "score": trial.user_attrs["score"],
            "complete": state_of(trial) == "complete",
        }
        for trial in over
        if state_of(trial) != "failed" and trial.user_attrs.get("score") is not None
    ]
    plot_score_against_time(points, metric, folder / "search.png", lower_is_better=lower)
    lines = [
        [
            str(trial.number),
            f"{trial.user_attrs['score']:.4f}",
            f"{trial.user_attrs['seconds']:.1f}",
            f"{trial.user_attrs['parameters']:,}",
            drawn(trial),
        ]
        for trial in complete[:_SHOWN]
    ]
    columns = ["trial", f"validation {metric}", "seconds", "parameters", "settings"]
    print_table(columns, lines, f"{base['name']}, the best of {len(over)} trials")
    best = complete[0]
    named = {"name": f"{base['name']}_search", "description": f"found by a search from {base['name']}"}
    winner = Variant(f"final-trial-{best.number}", {**named, **best.user_attrs["settings"]})
    save_recipe(load_recipe(folder / "base.yaml", winner.overrides), folder / "best.yaml")
    print(f"the winner is trial {best.number}; its recipe is {folder / 'best.yaml'}", flush=True)
    return winner


def drawn(trial: "optuna.Trial | FrozenTrial") -> str:
    """Return what a trial drew, in a line."""
    values = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in trial.params.items())
    return values or "the recipe as it is"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else readable(value)

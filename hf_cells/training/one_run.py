"""One recipe from its data to the measured model with its card.

With `training.refit` it is trained twice. Where specimens are few, those kept out for validation are missed; so a first
training, in `<run>/selection`, chooses temperature and thresholds on them, and the second learns from them too. Nothing
is chosen in the second, and it is the only one that is measured on the test split.

    <run>/selection/    the first: checkpoints, history, model, results on validation
    <run>/              the second
"""

import copy
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from ..errors import CellsError
from .checkpoints import list_checkpoints
from .finish import SELECTION, finish
from .launch import check_launch
from .loop import Setup, train
from .recipe import load_recipe, save_recipe
from .setup import make_run_dir, prepare


def train_recipe(
    recipe: dict[str, Any], resume: Path | None, *, needs_validation: bool = False, compared: bool = False
) -> tuple[Setup, dict[str, Any] | None]:
    """Train, save and measure.

    Args:
        recipe: Resolved.
        resume: Run folder to continue, or None.
        needs_validation: Refuse data without a validation split.
        compared: Refuse data on which nothing could be measured: neither validation nor test.

    Returns:
        The setup of the training, and on the main process its results, where there was something to measure.

    Raises:
        CellsError: As of `prepare`, `train` and `finish`; or the recipe or its data do not go with `refit`.
    """
    if recipe["training"]["refit"]:
        recipe, resume = _select(recipe, resume)
    setup, splits = prepare(recipe, resume)
    validated, tested = setup.validation is not None, recipe["evaluation"]["test"] and "test" in splits
    chosen = validated or recipe["training"]["refit"]
    if (needs_validation and not chosen) or (compared and not validated and not tested):
        raise CellsError(
            f"{recipe['data']['name']} has no validation split, by which runs are compared; "
            "make one (data.options.validation_fraction=0.1, or a folder validation/)"
        )
    return setup, finish(setup, splits, train(setup))


def can_resume(run_dir: Path) -> bool:
    """Say whether a folder holds a training that was begun, the first or the second."""
    return any(list_checkpoints(folder / "checkpoints") for folder in (run_dir, run_dir / SELECTION))


def _select(recipe: dict[str, Any], resume: Path | None) -> tuple[dict[str, Any], Path | None]:
    """Do the first training, or what is left of it; return the recipe and the folder to resume of the second."""
    _check_refit(recipe["training"])
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    check_launch(state.num_processes)
    run_dir = resume or make_run_dir(recipe, state)
    recipe, folder = {**recipe, "output_dir": str(run_dir)}, run_dir / SELECTION
    if resume is None and list_checkpoints(folder / "checkpoints"):
        raise CellsError(
            f"{run_dir} holds a run already; continue it with --resume {run_dir}, or choose another output_dir"
        )
    state.wait_for_everyone()  # everyone has looked before anyone writes
    if state.is_main_process:
        save_recipe({**recipe, "output_dir": None}, run_dir / "recipe.yaml")
    done = [(folder / "model" / "README.md").exists(), bool(list_checkpoints(folder / "checkpoints"))]
    broadcast_object_list(done)  # the main process may be writing already
    finished, begun = done
    if not finished:
        with threads_kept():
            setup, splits = prepare(_first_recipe(recipe, folder, begun), folder if begun else None)
            setup.part_of = run_dir
            if setup.validation is None:
                raise CellsError(
                    f"training.refit=true: {recipe['data']['name']} has no validation split to choose by; "
                    "make one (data.options.validation_fraction=0.1), or set training.refit=false"
                )
            finish(setup, splits, train(setup))
        if state.is_main_process and (folder / "simulated").exists():
            (folder / "simulated").replace(run_dir / "simulated")  # the second needs them too
        state.wait_for_everyone()
        forget_run()
    return recipe, run_dir if list_checkpoints(run_dir / "checkpoints") else None


def _check_refit(settings: dict[str, Any]) -> None:
    """The second training has no validation split, so nothing may depend on one."""
    wrong = {
        "patience": settings["patience"] is not None,
        "schedule": settings["schedule"]["name"] == "plateau",
    }
    for name in (name for name in wrong if wrong[name]):
        raise CellsError(
            f"training.refit=true does not go with this training.{name}: the second training has no validation "
            f"split to go by; choose another {name}, or training.refit=false"
        )


def _first_recipe(recipe: dict[str, Any], folder: Path, begun: bool) -> dict[str, Any]:
    first = copy.deepcopy(recipe) | {"output_dir": str(folder)}
    first["training"]["refit"] = first["evaluation"]["test"] = False
    if begun:  # what `auto` chose holds for all of it
        before = load_recipe(folder / "recipe.yaml")["training"]
        for key in ("precision", "memory_format"):
            if first["training"][key] == "auto":
                first["training"][key] = before[key]
    return first


@contextmanager
def threads_kept() -> Iterator[None]:
    """Leave the number of threads as it was: a recipe that says nothing of it must not inherit that of another."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def forget_run() -> None:
    """Free the memory of a run, and make accelerate forget its precision and accumulation.

    The processes of a launch stay together. Accelerate keeps one state a process and has no public way to end it.
    """
    AcceleratorState._reset_state()
    GradientState._reset_state()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

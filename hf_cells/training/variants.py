"""Trainings that differ in a few settings: each a complete run in a folder of its own, below one folder.

    <folder>/base.yaml        the recipe that all of them change
    <folder>/variants.json    what each of them changes, as on the command line
    <folder>/<name>/          run folders

Given again, the same command keeps the runs that are finished and continues the one that is not.
"""

import copy
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from ..errors import CellsError
from ..evaluation import metrics_line
from ..files import atomic_write
from .launch import check_launch
from .one_run import can_resume, forget_run, threads_kept, train_recipe
from .recipe import load_recipe, save_recipe

# What one training may die of without ending the others: it diverges, does not fit into memory, makes no sense.
FAILURES = (CellsError, RuntimeError, MemoryError)
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Variant:
    """One training of several.

    Attributes:
        name: Of its run folder.
        settings: What it changes in the recipe: `{"processor.square": "white", …}`.
    """

    name: str
    settings: Mapping[str, Any]

    @property
    def overrides(self) -> list[str]:
        """The settings as `key=value`, as the command line and `load_recipe` take them (JSON is YAML)."""
        return [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]


def seed_variants(first: int, count: int) -> list[Variant]:
    """Return the same recipe with `count` seeds from `first` on."""
    return [Variant(f"seed-{seed}", {"seed": seed}) for seed in range(first, first + count)]


def study_variants(study: Any) -> list[Variant]:
    """Return every combination of the values of a study, `{"key.sub": [values], …}`.

    Raises:
        CellsError: It is no mapping of keys to lists.
    """
    if not isinstance(study, dict) or not all(isinstance(v, list) and v for v in study.values()):
        raise CellsError("study must map keys to lists of values, such as {processor.square: [white, zero]}")
    variants: dict[str, Variant] = {}
    for values in itertools.product(*study.values()):
        settings = dict(zip(study, values))
        name = "_".join(f"{short}-{readable(settings[key])}" for key, short in short_keys(study).items())
        name = re.sub(r"[^\w.+-]+", "-", name)[:_LONGEST_NAME].strip("-.")
        if name in variants:
            name += f"-{len(variants) + 1}"
        variants[name] = Variant(name, settings)
    return list(variants.values())


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted key, or all of it where two end alike."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: short if list(last.values()).count(short) == 1 else key for key, short in last.items()}


def readable(value: Any) -> str:
    """Return a value as a short text: `128` for a square of that size, `16-32` for a list."""
    if isinstance(value, dict):
        values = list(value.values())
        alike = len(values) > 1 and all(v == values[0] for v in values)  # the two sides of a square
        return readable(values[:1] if alike else values)
    if isinstance(value, list):
        return "-".join(readable(v) for v in value) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def common_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return what all variants of a recipe start from: another training seed must not mean other simulated data."""
    base = copy.deepcopy({**recipe, "study": None, "output_dir": None})
    if base["data"]["simulate"] and base["data"]["data_dir"] is None:
        base["data"]["simulate"] = {"seed": recipe["seed"], **base["data"]["simulate"]}
    return base


def open_folder(recipe: dict[str, Any]) -> Path:
    """Make the folder of several runs, the same on all processes."""
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    check_launch(state.num_processes)
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    chosen = [str(recipe["output_dir"] or Path("runs") / recipe["name"] / stamp)]
    broadcast_object_list(chosen)
    folder = Path(chosen[0])
    if (folder / "recipe.yaml").exists():
        raise CellsError(f"{folder} is the folder of a single run; choose another --output_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CellsError(f"cannot make {folder}: {error.strerror}; choose another --output_dir") from error
    return folder


def write_plan(base: dict[str, Any], variants: Sequence[Variant], folder: Path) -> None:
    """Write what is going to be trained; variants may join what is there, but none may change.

    Raises:
        CellsError: The folder holds runs of another recipe, or a setting of a variant is wrong.
    """
    path, known = folder / "base.yaml", folder / "variants.json"
    state = PartialState()
    if state.is_main_process:
        planned = {variant.name: variant.overrides for variant in variants}
        if path.exists() and known.exists():
            changed = differing_keys(load_recipe(path), base)
            before = json.loads(known.read_text())
            changed += [name for name in planned if before.get(name, planned[name]) != planned[name]]
            if changed:
                raise CellsError(
                    f"{folder} was begun with another recipe ({', '.join(changed[:3])} differ); "
                    "give the same settings to continue it, or choose another --output_dir"
                )
            planned = before | planned
        save_recipe(base, path)
        with atomic_write(known) as temporary:
            temporary.write_text(json.dumps(planned, indent=1) + "\n")
    state.wait_for_everyone()
    for variant in variants:
        load_recipe(path, variant.overrides)


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys whose values differ between two recipes."""
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


def train_variants(
    base: dict[str, Any], variants: Sequence[Variant], folder: Path, *, needs_validation: bool = False
) -> dict[str, str]:
    """Train and evaluate every variant, one after the other; several processes share each training.

    Args:
        base: The recipe that they change (`common_recipe`).
        variants: What to train.
        folder: Where to (`open_folder`).
        needs_validation: Refuse data without a validation split.

    Returns:
        Why a variant has no results, by its name; the others have them.

    Raises:
        CellsError: No variant could be trained; or one failed, with several processes.
    """
    write_plan(base, variants, folder)
    state, failed = PartialState(), dict[str, str]()
    for number, variant in enumerate(variants, 1):
        run_dir = folder / variant.name
        finished = [(run_dir / "results.json").exists() and (run_dir / "model" / "README.md").exists()]
        broadcast_object_list(finished)  # the main process may still have been writing the last run
        what = f"run {number} of {len(variants)}: {variant.name}"
        _say(state, f"{what} is finished" if finished[0] else f"{what} ({', '.join(variant.overrides)})")
        if finished[0]:
            continue
        try:
            results = _train_one(
                load_recipe(folder / "base.yaml", variant.overrides), run_dir, needs_validation
            )
            if results:
                print(metrics_line(results), flush=True)
        except FAILURES as error:
            if state.num_processes > 1:  # the others may not know of it
                raise
            failed[variant.name] = reason_of(error)
            _say(state, f"{variant.name} failed: {failed[variant.name]}")
        except SystemExit:
            _say(state, f"the same command with --output_dir {folder} continues with the rest")
            raise
        finally:
            forget_run()
    if len(failed) == len(variants):
        raise CellsError(next(iter(failed.values())))
    return failed


def _train_one(recipe: dict[str, Any], run_dir: Path, needs_validation: bool) -> dict[str, Any] | None:
    resume = run_dir if can_resume(run_dir) else None
    if resume:
        recipe = load_recipe(run_dir / "recipe.yaml")  # with what `auto` chose
    with threads_kept():
        given = {**recipe, "output_dir": str(run_dir)}
        return train_recipe(given, resume, needs_validation=needs_validation, compared=True)[1]


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CellsError) else f"{type(error).__name__}: {text[:300]}"


def _say(state: PartialState, text: str) -> None:
    if state.is_main_process:
        print(text, flush=True)

"""The commands on a card, in the words of the command line that is installed with it."""

import json
import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ..data.registry import dataset_names

# The options of `hf-cells simulate` that every simulator has, or takes by this name.
_SIMULATE_OPTIONS = ("n_train", "n_test", "seed", "size", "looks", "bit_depth", "workers")


def reproduction(results: Mapping[str, Any], recipe: Mapping[str, Any], repo_id: str) -> list[str]:
    """The commands that make the numbers again: simulate where it was simulated, train, evaluate.

    DIR stands for the folder of the raw data, recipe.yaml for that file of the repository.

    Args:
        results: The content of `results.json`, with the sections `dataset`, `split` and `run`.
        recipe: The resolved recipe; empty when it is not known.
        repo_id: `owner/name` on the Hub.
    """
    dataset, split, run = results["dataset"], results["split"], results["run"]
    made = (recipe.get("data") or {}).get("simulate") if dataset.get("simulated") else None
    commands = []
    if made:
        settings = {"seed": recipe.get("seed", 0), **made, "output_dir": "DIR"}
        # What is no option of the verb is a setting of this simulator.
        own = [f"{key}={_text(key, value)}" for key, value in made.items() if key not in _SIMULATE_OPTIONS]
        flags = {key: value for key, value in settings.items() if key not in made or key in _SIMULATE_OPTIONS}
        words = [f"hf-cells simulate {dataset['name']}{_flags(flags)}", *map(shlex.quote, own)]
        commands.append(" ".join(words))

    packaged = (resources.files("hf_cells.recipes") / f"{run.get('recipe')}.yaml").is_file()
    settings = {
        "recipe": run["recipe"] if packaged and not run.get("recipe_changed") else "recipe.yaml",
        "data_dir": None if made else "DIR",
        "seed": run.get("seed"),
    }
    commands.append(f"accelerate launch -m hf_cells.training{_flags(settings)}")

    named = dataset["name"] in dataset_names()  # otherwise it is somebody's own folder
    averaged = {**(recipe.get("evaluation") or {}), **(results.get("evaluation") or {})}
    options = [f"{name}={value}" for name, value in (split.get("options") or {}).items() if value is not None]
    settings = {
        "dataset": dataset["name"] if named else "DIR",
        "data_dir": "DIR" if named else None,
        "option": options,
        "split": (split.get("name") or "test").partition("[")[0],
        "limit": split.get("limit"),
        "test_time_augmentation": averaged.get("test_time_augmentation") or None,
        "output": "results.json",
    }
    commands.append(f"hf-cells evaluate {repo_id}{_flags(settings)}")
    return commands


def _text(name: str, value: Any) -> str | None:
    """The value of a simulator's setting as one types it."""
    if name == "size":
        return "mixed" if value is None else "x".join(map(str, value))
    if name == "looks":
        return ",".join(value) if value else None
    return value if isinstance(value, str) else json.dumps(value)  # JSON is YAML


def _flags(settings: Mapping[str, Any]) -> str:
    """Settings as options of a command line; None is left out, True needs no value."""
    words = []
    for name, value in settings.items():
        if name in ("size", "looks"):
            value = _text(name, value)
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words.append(f" --{name}" + ("" if one is True else f" {shlex.quote(str(one))}"))
    return "".join(words)

"""Recipes: one YAML per experiment, command-line overrides, and a resolved copy that reproduces the run."""

import copy
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ..errors import CellsError
from ..files import atomic_write

# Every key a recipe may have, with its default and what it means. A recipe states what differs.
DEFAULTS: dict[str, Any] = {
    "name": "unnamed",
    "extends": None,  # another recipe, by name, that this one changes
    "description": "",
    "seed": 0,
    "study": None,  # {key.sub: [values], …}: train every combination and compare them
    "output_dir": None,  # None: runs/<name>/<time>
    "data": {
        "name": "dsb2018",  # registry name, or the path of an own folder or Parquet folder
        "config": None,  # configuration of the dataset; None: the one that has the model's truth, or its default
        "data_dir": None,  # where the raw files are; None downloads, or simulates where `simulate` says so
        "options": {},  # options of the dataset configuration: split_by, split_seed, …
        "simulate": None,  # {n_train: 96, …}: write and use simulated files when data_dir is None
        "simulated_extra": 0,  # simulated images added to the training split, never to validation or test
        "simulated_share": 0.2,  # of the training samples, when there are simulated images
        "balance": None,  # column whose rare values are drawn more often (count^-balance_power)
        "balance_power": 0.5,
    },
    "model": {"type": "cell_unet_instance", "config": {}, "pretrained_backbone": None, "init_from": None},
    "processor": {},  # arguments of the image processor; image_mean and image_std: train measures them
    "augmentation": {},  # ranges of `hf_cells.data.augmentation.Augmentation`
    "training": {
        "epochs": 30,
        "samples_per_epoch": None,  # None: the size of the training split
        "batch_size": 16,  # per process
        "gradient_accumulation_steps": 1,
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "schedule": {"name": "cosine"},
        "clip_grad_norm": 2.0,  # 0: off
        "layer_decay": None,  # 0.75: each layer of a classifier learns at 0.75 of the rate of the one above it
        "freeze": None,  # backbone, or how many of a classifier's first layers do not learn
        # Weight of each class in the loss: a list; balanced for a classifier; frequency or root_frequency for
        # label maps (one over the class's share of the training pixels, or over its square root).
        "class_weights": None,
        "ema_decay": None,  # 0.995: validate and save the moving average of the weights
        "precision": "auto",  # auto | fp32 | bf16 | fp16
        "memory_format": "auto",  # auto | contiguous | channels_last
        "workers": 1,
        "threads": None,  # None: all cores when there is one process on CPU
        "validate_every": 1,  # epochs
        # Then train once more, on training and validation together; temperature and thresholds stay those that
        # validation chose in the first training.
        "refit": False,
        "patience": None,  # validations without a better score before stopping; None: never
        "keep_checkpoints": 2,
        "checkpoint_every": 1,  # epochs; also on SIGTERM
        "log_every": 10,  # steps
        "max_steps": None,
        "trackers": ["tensorboard"],
    },
    "evaluation": {
        # What "best" means; None: dsb_score, dice_per_image or mean_class_accuracy, by the kind of model.
        "metric": None,
        "merge_classes": None,  # {group: [classes], …}: also score label maps with these classes taken as one
        "tune": True,  # choose thresholds and temperature on the validation split
        "calibrate": True,  # classifiers: fit the temperature
        "decision": None,  # classifiers: thresholds by the rule balanced, cost or recall; None: the best score wins
        "costs": None,  # for cost: a row for each true class, a column for each decision
        "recall": 0.95,  # for recall: what the class `positive` must reach
        "positive": None,
        "test": True,  # touch the test split, once, at the end
        "test_time_augmentation": False,
        "n_resamples": 1000,
    },
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes `1e-3` for text; people mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)

FREE = {"study", "data.options", "data.simulate", "model.config", "processor", "augmentation"}
FREE |= {"training.optimizer", "training.schedule", "evaluation.merge_classes"}
COUNTS = {"epochs", "batch_size", "gradient_accumulation_steps", "validate_every"}
COUNTS |= {"checkpoint_every", "keep_checkpoints", "log_every"}


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("hf_cells.recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_recipe(source: str | os.PathLike[str], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read a recipe by name or path, fill in defaults, apply `key.sub=value` overrides.

    Raises:
        CellsError: No such recipe, bad YAML, an unknown key, or an override that is no `key=value`.
    """
    try:
        recipe = _inherited(source, ())
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise CellsError(f"override {override!r} is not of the form key.sub=value")
            nested: Any = yaml.load(value, _Loader) if value else None
            for part in reversed(key.strip().split(".")):
                nested = {part: nested}
            recipe = _merge(recipe, nested, "", f"override {override!r}", DEFAULTS)
    except yaml.YAMLError as error:
        raise CellsError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from error
    return recipe


def _inherited(source: str | os.PathLike[str], below: tuple[str, ...]) -> dict[str, Any]:
    """Read a recipe over the one that it extends, down to the defaults."""
    given = yaml.load(_read(source), _Loader) or {}
    base = DEFAULTS
    if isinstance(given, dict) and (parent := given.get("extends")):
        if parent in below:
            raise CellsError(f"{source}: extends {parent}, which extends it in turn; mend one of them")
        base = {**_inherited(parent, (*below, str(source))), "extends": None}
    return {**_merge(base, given, "", str(source), DEFAULTS), "extends": None}


# What a run or its command line fills in, and no override says.
_FILLED_IN = {"study", "description", "output_dir", "data.name", "data.data_dir", "data.config"}
_FILLED_IN |= {"evaluation.metric", "training.threads", "model.config.num_labels"}


def is_changed(recipe: dict[str, Any]) -> bool:
    """Whether a resolved recipe says anything other than the package's recipe of its name; False without one."""
    return recipe["name"] in recipe_names() and _differs(load_recipe(recipe["name"]), recipe, "")


def _differs(packaged: dict[str, Any], given: dict[str, Any], prefix: str) -> bool:
    for key in {**packaged, **given}:
        theirs, ours = packaged.get(key), given.get(key)
        if f"{prefix}{key}" in _FILLED_IN or theirs in ("auto", "train"):
            continue
        if isinstance(theirs, dict) and isinstance(ours, dict):
            if _differs(theirs, ours, f"{prefix}{key}."):
                return True
        elif theirs != ours:
            return True
    return False


def save_recipe(recipe: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the resolved recipe; `load_recipe` of it gives the same dictionary."""
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(recipe, sort_keys=False))


def _read(source: str | os.PathLike[str]) -> str:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise CellsError(f"{path}: no such recipe file")
        return path.read_text()
    if str(source) not in recipe_names():
        raise CellsError(
            f"no recipe {str(source)!r}; choose from: {', '.join(recipe_names())}, or give a .yaml file"
        )
    return (resources.files("hf_cells.recipes") / f"{source}.yaml").read_text()


def _merge(
    base: dict[str, Any], given: Any, prefix: str, where: str, defaults: dict[str, Any]
) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise CellsError(f"{where}: {prefix or 'the recipe'} must be a mapping of keys to values")
    merged = copy.deepcopy(base)
    for key, value in given.items():
        path = f"{prefix}{key}"
        if prefix.rstrip(".") not in FREE and key not in base:
            raise CellsError(f"{where}: unknown key {path}; known here: {', '.join(map(str, base))}")
        if path in FREE and isinstance(value, dict) and isinstance(base.get(key), dict):
            # A new optimiser or schedule brings its own arguments: do not mix them with those of another.
            same = "name" not in value or value["name"] == base[key].get("name")
            merged[key] = {**(base[key] if same else {}), **value}
        elif isinstance(base.get(key), dict) and path not in FREE:
            merged[key] = _merge(base[key], value, f"{path}.", where, defaults[key])
        else:
            _check_kind(path, value, defaults.get(key), where)
            merged[key] = value
    return merged


def _check_kind(path: str, value: Any, default: Any, where: str) -> None:
    """Refuse text for a number and the like; a default of None tells nothing."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    kind = type(default)
    if kind not in words and kind is not dict:
        return
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (kind is not bool and isinstance(value, bool)):
        raise CellsError(
            f"{where}: {path} is {value!r}; it must be {words.get(kind, 'a mapping of keys to values')}"
        )
    if path.removeprefix("training.") in COUNTS and value < 1:
        raise CellsError(f"{where}: {path} is {value}; it must be 1 or more")

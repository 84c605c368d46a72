"""What a search may change in a recipe: values, ranges, and bundles of settings that go together.

    model.config.hidden_act: [relu, mish]                            one of these values
    training.clip_grad_norm: {low: 0.5, high: 4.0, log: true}        a number in a range (whole, if both ends are)
    optimiser:                                                       one of these bundles, under any name
      adam: {training.optimizer: {name: adam}, training.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}
      sgd: {training.optimizer: {name: sgd, momentum: 0.9}, training.optimizer.lr: {low: 1.0e-3, high: 0.3, log: true}}

Of two entries that set the same key, the later one wins.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import CellsError
from .recipe import _Loader, load_recipe
from .variants import Variant

if TYPE_CHECKING:
    import optuna

Space = dict[str, Any]

# Filters of the stages, convolutions or blocks in each, residual.
_TOPOLOGIES: dict[str, tuple[list[int], int, bool]] = {
    "plain_3": ([32, 64, 128], 1, False),
    "plain_4": ([32, 64, 128, 256], 1, False),
    "plain_3_deep": ([32, 64, 128], 2, False),
    "residual_3": ([32, 64, 128], 1, True),
    "residual_4": ([32, 64, 128, 256], 1, True),
    "residual_4_narrow": ([16, 32, 64, 128], 1, True),
    "residual_4_deep": ([32, 64, 128, 256], 2, True),
}
_HEADS: dict[str, dict[str, Any]] = {
    "linear": {"head_type": "linear", "head_hidden_sizes": [], "head_dropout": 0.2},
    "mlp": {"head_type": "mlp", "head_hidden_sizes": [128], "head_dropout": 0.2},
    "svm": {"head_type": "svm", "head_hidden_sizes": [], "head_dropout": 0.0, "loss_name": "hinge"},
}


def default_space(recipe: dict[str, Any], several_labels: bool = False) -> Space:
    """Return topology, kernel size, activation, loss and head of a classifier, and the optimiser of any model.

    Args:
        recipe: What is given there narrows the space: a ready backbone has a topology, a ready model a head as well.
        several_labels: Whether an image may have more than one.
    """
    model, space = recipe["model"], Space()
    if model["type"] == "cell_classification":
        if not model["init_from"]:
            if not model["config"].get("backbone"):
                space |= _networks(model["config"])
            space["head"] = {name: _in("model.config", head) for name, head in _HEADS.items()}
        first = "bce" if several_labels else "cross_entropy"
        losses = {"model.config.loss_name": [first, "focal", "smooth_l1", "hinge"]}
        space = {**losses, **space}  # the head comes later: an SVM brings its loss
    if not {"max_lr", "values"} & recipe["training"]["schedule"].keys():  # these would overrule the rate
        space["optimiser"] = _optimisers(ready=bool(model["pretrained_backbone"] or model["init_from"]))
    return space


def _networks(config: dict[str, Any]) -> Space:
    topologies = {
        name: _in(
            "model.config", {"hidden_sizes": sizes, "depths": depth, "residual": residual, "downsample": None}
        )
        for name, (sizes, depth, residual) in _TOPOLOGIES.items()
    }
    own = {"of_the_recipe": dict[str, Any]()} if config.get("hidden_sizes") else {}
    return {
        "topology": {**own, **topologies},
        "model.config.kernel_size": [3, 5, 7],
        "model.config.hidden_act": ["relu", "mish", "leaky_relu", "gelu"],
    }


def _optimisers(ready: bool) -> Space:
    """Log-uniform rates; ready weights want a tenth of what new ones want."""
    scale = 0.1 if ready else 1.0

    def bundle(optimiser: dict[str, Any], rates: tuple[float, float], decays: tuple[float, float]) -> Space:
        low, high = (rate * scale for rate in rates)
        return {
            "training.optimizer": optimiser,
            "training.optimizer.lr": {"low": low, "high": high, "log": True},
            "training.optimizer.weight_decay": {"low": decays[0], "high": decays[1], "log": True},
        }

    return {
        "adam": bundle({"name": "adam"}, (1e-4, 1e-2), (1e-6, 1e-3)),
        "adamw": bundle({"name": "adamw"}, (1e-4, 1e-2), (1e-4, 0.3)),
        "muon": bundle({"name": "muon", "nesterov": True}, (1e-3, 2e-2), (1e-4, 0.3)),
        "sgd": bundle({"name": "sgd", "momentum": 0.9, "nesterov": True}, (1e-3, 0.3), (1e-6, 1e-2)),
    }


def _in(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for key, value in settings.items()}


def read_space(path: str | os.PathLike[str]) -> Space:
    """Read a space from a YAML file.

    Raises:
        CellsError: It cannot be read, or is no mapping.
    """
    try:
        space = yaml.load(Path(path).read_text("utf-8"), _Loader)
    except OSError as error:
        raise CellsError(f"cannot read {path}: {error.strerror}; check --space") from error
    except yaml.YAMLError as error:
        raise CellsError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(space, dict) or not space:
        raise CellsError(f"{path}: a space maps keys to lists of values, ranges or bundles; it has none")
    return space


def check_space(space: Space, base: Path) -> None:
    """Try every value on a recipe's file.

    Raises:
        CellsError: An entry is of no known kind, or sets what no recipe has.
    """
    for name, entry in space.items():
        for settings in _each(name, entry):
            for key, value in settings.items():
                if _is_range(value):
                    _check_range(f"{name}: {key}" if key != name else key, value)
                    settings[key] = value["low"]
            load_recipe(base, Variant(name, settings).overrides)


def _each(name: str, entry: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of every choice of an entry; ranges stay ranges."""
    if _is_range(entry):
        yield {name: entry}
    elif isinstance(entry, list) and entry:
        yield from ({name: value} for value in entry)
    elif isinstance(entry, dict) and entry and all(isinstance(bundle, dict) for bundle in entry.values()):
        yield from (dict(bundle) for bundle in entry.values())
    else:
        raise CellsError(
            f"search space: {name} must be a list of values, a range {{low: …, high: …}}, or named bundles of settings"
        )


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and {"low", "high"} <= value.keys()


def _check_range(name: str, value: dict[str, Any]) -> None:
    low, high = value["low"], value["high"]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
    if not numbers or low >= high or not value.keys() <= {"low", "high", "log"}:
        raise CellsError(
            f"search space: {name} must be {{low: number, high: larger number, log: true or false}}"
        )
    if value.get("log") and low <= 0:
        raise CellsError(f"search space: {name} is on a log scale, so low must be above 0, not {low}")


def suggest(trial: "optuna.Trial", space: Space) -> dict[str, Any]:
    """Draw the settings of a trial: `{"key.sub": value, …}`."""
    settings: dict[str, Any] = {}
    for name, entry in space.items():
        if _is_range(entry):
            settings[name] = _number(trial, name, entry)
        elif isinstance(entry, list):
            labels = {_label(value): value for value in entry}
            settings[name] = labels[trial.suggest_categorical(name, list(labels))]
        else:
            choice = trial.suggest_categorical(name, list(entry))
            for key, value in entry[choice].items():
                short = f"{name}.{choice}.{key.rpartition('.')[2]}"
                settings[key] = _number(trial, short, value) if _is_range(value) else value
    return settings


def _number(trial: "optuna.Trial", name: str, entry: dict[str, Any]) -> float:
    low, high, log = entry["low"], entry["high"], bool(entry.get("log"))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

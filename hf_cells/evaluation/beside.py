"""What the same kind of model scores on other splits of the same data, put beside its own numbers.

A published split that leaks and a grouped one that does not are two answers to two questions; a card that shows only
the first flatters. `results.json` gets a section `beside`, one entry for each configuration of the dataset.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CellsError
from .results import HEADLINES, read_results, write_results

_METRICS = 3


def put_beside(model_dir: str | os.PathLike[str], runs: Iterable[str | os.PathLike[str]]) -> None:
    """Write the section `beside` of a model's results.json from other runs, in place of what it was.

    Args:
        model_dir: Folder of the model with its results.json.
        runs: Run or model folders, or folders of several runs (folds, seeds, a study).

    Raises:
        CellsError: A folder has no results, or they are of another dataset or of the very split of the model.
    """
    own = Path(model_dir) / "results.json"
    results = read_results(own)
    results["beside"] = summarise_beside(results, [read_results(path) for path in _results_of(runs)])
    write_results(own, results)


def summarise_beside(results: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise other results by configuration of the dataset.

    Returns:
        Per configuration `{"config", "split", "data" (their title, where it is not the model's own), "unit", "leaks",
        "recipes", "runs", "metrics": {name: {"values", "mean", "standard_deviation" (of a sample; None of one run),
        "difference" (mean minus the model's own value)}}}`.

    Raises:
        CellsError: Results are of another dataset, or of the very split of `results`. Other folds are other splits.
    """
    name, own = results["dataset"]["name"], _split_of(results)
    groups: dict[tuple[Any, Any, Any], list[Mapping[str, Any]]] = defaultdict(list)
    for other in others:
        data = None if _title(other) == _title(results) else _title(other)
        place = other["dataset"]["config"], other["split"]["name"], data
        if other["dataset"]["name"] != name:
            raise CellsError(
                f"a run is of {other['dataset']['name']}, the model of {name}; give runs of {name}"
            )
        if _split_of(other) == own:
            raise CellsError(
                f"a run is of {place[0]}, {place[1]}, as the model itself; give runs of another configuration or fold"
            )
        groups[place].append(other)
    return [_summary(results, *place, members) for place, members in groups.items()]


def _split_of(results: Mapping[str, Any]) -> tuple[Any, ...]:
    split = results["split"]
    return _title(results), results["dataset"]["config"], split["name"], split.get("options") or {}


def _title(results: Mapping[str, Any]) -> str:
    """Tells simulated images from the real ones that they imitate."""
    return str(results["dataset"].get("title") or results["dataset"]["name"])


def _summary(
    results: Mapping[str, Any], config: Any, split: Any, data: str | None, members: list[Mapping[str, Any]]
) -> dict[str, Any]:
    known = [set(member["metrics"]) for member in (results, *members)]
    names = [metric for metric in HEADLINES if all(metric in one for one in known)][:_METRICS]
    return {
        "config": config,
        "split": split,
        "data": data,
        "unit": members[0]["split"]["unit"],
        "leaks": members[0]["split"]["leaks"],
        "recipes": sorted({str(member["run"]["recipe"]) for member in members}),
        "runs": len(members),
        "metrics": {metric: _spread(results, members, metric) for metric in names},
    }


def _spread(results: Mapping[str, Any], members: list[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    values = [member["metrics"][metric]["value"] for member in members]
    measured = [value for value in values if value is not None]
    own = results["metrics"][metric]["value"]
    mean = float(np.mean(measured)) if measured else None
    return {
        "values": values,
        "mean": mean,
        "standard_deviation": float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        "difference": mean - own if mean is not None and own is not None else None,
    }


def _results_of(folders: Iterable[str | os.PathLike[str]]) -> list[Path]:
    found = []
    for folder in map(Path, folders):
        here = folder / "results.json"
        below = sorted(folder.glob("*/results.json")) if not here.exists() else [here]
        if not below:
            raise CellsError(
                f"{folder}: has no results.json, nor has a folder in it; give folders of finished runs"
            )
        found += below
    return found

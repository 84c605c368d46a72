"""One recipe with several seeds, or every combination of a study's values, compared in a table and a figure.

seeds.json, seeds.csv, seeds.png     every metric of the runs' results.json: values, mean, spread
study.json, study.csv, study.png     variants by their best validation score, test numbers beside it
"""

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from ..errors import CellsError
from ..evaluation import read_results
from ..evaluation.comparison_figures import plot_spread, plot_study
from ..files import atomic_write
from .finish import SELECTION
from .recipe import load_recipe
from .task import task_of
from .validation import LOWER_IS_BETTER, is_better
from .variants import (
    Variant,
    common_recipe,
    open_folder,
    readable,
    seed_variants,
    short_keys,
    study_variants,
    train_variants,
)

_HEADLINES = 6  # metrics in a printed table


def repeat(recipe: dict[str, Any], seeds: int | None = None) -> Path:
    """Train a recipe with several seeds, or the variants of its study; finished runs are kept.

    Args:
        recipe: Resolved; with a `study`, or without one and `seeds`.
        seeds: How many; from the recipe's own seed on. The split of the data stays as it is.

    Returns:
        The folder with the runs and their comparison.

    Raises:
        CellsError: The recipe cannot be varied like this, nothing could be trained, or a run failed (the comparison
            of the others is written before).
    """
    if seeds is not None and recipe["study"]:
        raise CellsError("the recipe has a study; add seed: [0, 1, …] to it instead of --seeds")
    if seeds is not None and seeds < 1:
        raise CellsError(f"--seeds {seeds}: it must be 1 or more")
    base = common_recipe(recipe)
    if seeds is not None:
        variants = seed_variants(recipe["seed"], seeds)
        base["seed"] = 0  # so that more seeds may follow, from another first one
    else:
        variants = study_variants(recipe["study"])
        _check_one_metric(base, variants)
    folder = open_folder(recipe)
    failed = train_variants(base, variants, folder, needs_validation=seeds is None)
    state = PartialState()
    if state.is_main_process:
        if seeds is not None:
            report_seeds(folder, [v.name for v in variants if v.name not in failed])
        else:
            report_study(folder, variants, failed)
        print(f"everything is in {folder}")
    state.destroy_process_group()
    if failed:
        name, reason = next(iter(failed.items()))
        raise CellsError(f"{len(failed)} of {len(variants)} runs failed; {name}: {reason}")
    return folder


def _check_one_metric(base: dict[str, Any], variants: Sequence[Variant]) -> None:
    metrics = set()
    for variant in variants:
        task = task_of(variant.settings.get("model.type", base["model"]["type"]))
        wish = variant.settings.get("evaluation.metric", base["evaluation"]["metric"])
        metrics.add(wish or (task.default_metric if task else None))
    if len(metrics) > 1:
        raise CellsError(
            "a study compares its variants by one metric; set evaluation.metric, and not in the study"
        )


def report_seeds(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Write seeds.json, seeds.csv and seeds.png from the results of run folders, and print the headlines.

    The standard deviation is that of a sample (n - 1); it and the others leave out values that are undefined.
    """
    results = [read_results(folder / name / "results.json") for name in names]
    recipe = load_recipe(folder / names[0] / "recipe.yaml")
    flat = [dict(flat_metrics(one)) for one in results]
    metrics: dict[str, dict[str, Any]] = {
        name: {"values": [one.get(name) for one in flat], **spread(one.get(name) for one in flat)}
        for name in dict.fromkeys(name for one in flat for name in one)
    }
    split = results[0]["split"]["name"]
    report = {
        "recipe": recipe["name"],
        "runs": list(names),
        "seeds": [one["run"]["seed"] for one in results],
        "split": split,
        "data_options": recipe["data"]["options"],
        "training_seconds": [one["run"]["seconds"] for one in results],
        "metrics": metrics,
    }
    write_json(folder / "seeds.json", report)
    columns = ["mean", "standard_deviation", "min", "max"]
    rows = [
        {"metric": metric, **{c: entry[c] for c in columns}, **dict(zip(names, entry["values"]))}
        for metric, entry in metrics.items()
    ]
    write_csv(folder / "seeds.csv", rows)
    shown = headlines(results[0]["metrics"], recipe["evaluation"]["metric"])
    drawn = [name for name in shown if name not in LOWER_IS_BETTER] or shown  # errors are on another scale
    plot_spread({name: metrics[name]["values"] for name in drawn}, folder / "seeds.png", split=split)
    lines = [
        [name, _plus_minus(metrics[name]), _number(metrics[name]["min"]), _number(metrics[name]["max"])]
        for name in shown
    ]
    title = f"{recipe['name']}, {len(names)} seeds, {split} split"
    print_table(["metric", "mean ± sd", "min", "max"], lines, title)
    print("the training seed varies; every run has the same split of the data")
    return report


def report_study(folder: Path, variants: Sequence[Variant], failed: Mapping[str, str]) -> dict[str, Any]:
    """Write study.json, study.csv and study.png, and print the variants, the best on validation first."""
    done = [variant for variant in variants if variant.name not in failed]
    recipe = load_recipe(folder / done[0].name / "recipe.yaml")
    metric, varied = recipe["evaluation"]["metric"], list(variants[0].settings)
    rows = [{"name": v.name, "settings": dict(v.settings), **summary(folder / v.name, metric)} for v in done]
    rows.sort(key=lambda row: _rank(row["validation"], metric))
    lost = [
        {"name": v.name, "settings": dict(v.settings), "failed": failed[v.name]}
        for v in variants
        if v.name in failed
    ]
    report = {
        "recipe": recipe["name"],
        "metric": metric,
        "ranked_on": "validation",
        "same_data": not any(key.startswith("data.") for key in varied),
        "best": rows[0]["name"],
        "runs": [*rows, *lost],
    }
    write_json(folder / "study.json", report)
    table = [_study_row(row, metric, place) for place, row in enumerate(rows, 1)]
    write_csv(folder / "study.csv", [*table, *(_study_row(row, metric, None) for row in lost)])
    plot_study(rows, metric, folder / "study.png")
    tested = headlines(rows[0]["test"], metric)[:1]
    names = [f"validation {metric}", *(f"test {name}" for name in tested), "training s"]
    lines = [
        [
            *(readable(row["settings"][key]) for key in varied),
            _number(row["validation"]),
            *(_number(row["test"].get(name)) for name in tested),
            f"{row['training_seconds']:.0f}",
        ]
        for row in rows
    ]
    columns = [*short_keys(varied).values(), *names]
    print_table(columns, lines, f"{recipe['name']}, {len(rows)} variants, the best on validation first")
    if not report["same_data"]:
        print(
            "the data differ between the variants, and so may their validation images: the order says little"
        )
    return report


def summary(run_dir: Path, metric: str) -> dict[str, Any]:
    """Return what a finished run scored and took: the best validation score of history.csv, and the test beside it.

    Of a run that was trained twice, the history is that of the first training: the second has no validation.
    """
    first = run_dir / SELECTION / "history.csv"
    with (first if first.exists() else run_dir / "history.csv").open(newline="") as handle:
        history = list(csv.DictReader(handle))
    best, best_epoch = None, None
    for row in history:
        score = float(row.get(f"validation_{metric}") or math.nan)
        if is_better(score, best, metric):
            best, best_epoch = score, int(row["epoch"])
    results = read_results(run_dir / "results.json")
    on_test = results["split"]["name"] == "test"
    return {
        "validation": best,
        "best_epoch": best_epoch,
        "epochs": len(history),
        "training_seconds": results["run"]["seconds"],
        "parameters": results["run"].get("parameters"),
        "test": {name: entry["value"] for name, entry in results["metrics"].items()} if on_test else {},
    }


def _study_row(row: Mapping[str, Any], metric: str, place: int | None) -> dict[str, Any]:
    names = ("best_epoch", "epochs", "training_seconds", "parameters")
    return {
        "rank": place,
        "name": row["name"],
        **_texts(row["settings"]),
        f"validation_{metric}": row.get("validation"),
        **{name: row.get(name) for name in names},
        **{f"test_{name}": value for name, value in row.get("test", {}).items()},
        "failed": row.get("failed"),
    }


def _texts(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}


def _rank(score: float | None, metric: str) -> float:
    if score is None:
        return math.inf
    return score if metric in LOWER_IS_BETTER else -score


def flat_metrics(results: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Yield every metric of a results.json: `accuracy`, `per_class/Golgi/recall`, `strata/fluorescence/pq`."""
    for name, entry in results["metrics"].items():
        yield name, entry["value"]
    for entry in results["metrics"].values():
        for label, values in (entry.get("per_class") or {}).items():
            for key, value in values.items() if isinstance(values, dict) else [("", values)]:
                yield f"per_class/{label}/{key}".rstrip("/"), value
    for stratum, table in results.get("strata", {}).items():
        for name, entry in table.items():
            yield f"strata/{stratum}/{name}", entry["value"]


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Return mean, sample standard deviation (None of fewer than two), min and max of the values that are there."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "standard_deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "min": min(known, default=None),
        "max": max(known, default=None),
    }


def headlines(metrics: Iterable[str], chosen: str | None) -> list[str]:
    """Return the metrics that people look at first: the recipe's own, then the first of the results."""
    names = list(metrics)
    first = [chosen] if chosen in names else []
    return [*first, *(name for name in names if name != chosen)][:_HEADLINES]


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table, atomically; its columns are the keys of all rows, and None is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> None:
    """Print a table; in a pipe every row keeps its line, however long."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 300, markup=False, highlight=False).print(table)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _plus_minus(entry: Mapping[str, Any]) -> str:
    if entry["standard_deviation"] is None:
        return _number(entry["mean"])
    return f"{entry['mean']:.4f} ± {entry['standard_deviation']:.4f}"

"""The Hub's file of evaluation results, `.eval_results/*.yaml`, from `results.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from ..evaluation.results import HEADLINES
from ..files import atomic_write
from .tables import finite_values, metric_cells

EVAL_RESULTS = ".eval_results/hf-cells.yaml"


def eval_results_yaml(results: Mapping[str, Any]) -> str:
    """Return the headline metrics in the Hub's format (https://huggingface.co/docs/hub/eval-results).

    The task is `<configuration>/<split>/<metric>`; interval, n and the unit of the split stand in the notes.
    """
    dataset, split = results["dataset"], results["split"]
    values = finite_values(results["metrics"])
    entries = []
    for name in (name for name in HEADLINES if name in values):
        _, interval, n = metric_cells(results["metrics"][name])
        notes = [f"95 % interval {interval}"] if interval != "–" else []
        notes += [f"n = {n}"] if n != "–" else []
        notes += [f"split by {split['unit']}"] if split.get("unit") else []
        task = "/".join(str(part) for part in (dataset.get("config"), split.get("name"), name) if part)
        entries.append(EvalResultEntry(dataset["name"], task, values[name], notes="; ".join(notes) or None))
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def write_eval_results(model_dir: str | Path, results: Mapping[str, Any]) -> Path:
    """Write the file into a model folder."""
    path = Path(model_dir) / EVAL_RESULTS
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(eval_results_yaml(results), "utf-8")
    return path

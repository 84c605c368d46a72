"""`results.json`: the only source of a number in a model card."""

import functools
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CellsError
from ..files import atomic_write

# What each section must hold. More may stand there; a value may be null where it is not known.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "dataset": ("name", "config", "fingerprint", "license"),
    "split": ("name", "unit", "groups", "leaks", "audit"),
    "metrics": (),
    "decision": ("thresholds", "temperature", "chosen_on"),
    "run": ("recipe", "seed", "seconds", "hardware", "versions"),
}

# What a reader looks for first, and the order in which one of them becomes the headline.
HEADLINES = (
    "dsb_score",
    "pq",
    "ap50_image_mean",
    "mean_class_accuracy",
    "accuracy",
    "mean_average_precision",
    "pointing_game",
    "macro_f1",
    "f1_macro",
    "mean_iou",
    "mean_iou_merged",
    "dice_per_image",
    "soft_dice",
    "ap50_pooled",
    "pixel_accuracy",
)

# Strata that are no parts of a split beside each other.
WHOLE_SPLIT, WITHOUT_COPIES = "whole split", "without copies of other splits"

_LIBRARIES = (
    "hf-cells",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "datasets",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
)


def write_results(path: str | os.PathLike[str], results: Mapping[str, Any]) -> None:
    """Write `results` as JSON, atomically. Numbers that are not finite become null.

    Raises:
        CellsError: When the results break the contract or the file cannot be written.
    """
    plain = _plain(results)
    _validate(plain, Path(path))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a `results.json`.

    Raises:
        CellsError: When the file is not there, is not JSON, or breaks the contract.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CellsError(
            f"cannot read {path}: {error.strerror}; write one with `hf-cells evaluate`"
        ) from error
    except ValueError as error:
        raise CellsError(f"{path} is not JSON ({error}); write it again with `hf-cells evaluate`") from error
    _validate(results, path)
    return results


def metrics_line(results: Mapping[str, Any], limit: int = 4) -> str:
    """One line for people: `dsb_score 0.612 [0.58, 0.64] · pq 0.550 [0.52, 0.58] (test, 133 images)`."""
    metrics = results["metrics"]
    names = [name for name in HEADLINES if name in metrics] or list(metrics)
    parts = [_metric_text(name, metrics[name]) for name in names[:limit]]
    count = max((entry["n"] for entry in metrics.values()), default=0)
    images = "image" if count == 1 else "images"
    return f"{' · '.join(parts) or 'no metrics'} ({results['split']['name']}, {count} {images})"


def describe_hardware() -> str:
    """CPU model and usable cores, then the GPUs: `AMD EPYC 9V74 (2 cores); NVIDIA H200`; no host, no user."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{_cpu_model()} ({cores} core{'s' if cores > 1 else ''})"]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        parts += [
            f"{names.count(name)} x {name}" if names.count(name) > 1 else name
            for name in dict.fromkeys(names)
        ]
    elif torch.backends.mps.is_available():
        parts.append("Apple GPU")
    return "; ".join(parts)


def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that can move a number."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _metric_text(name: str, entry: Mapping[str, Any]) -> str:
    value, interval = entry["value"], entry["ci"]
    if value is None or not math.isfinite(value):
        return f"{name} n/a"
    text = f"{name} {value:.3f}"
    return text if interval is None else f"{text} [{interval[0]:.2f}, {interval[1]:.2f}]"


@functools.cache
def _cpu_model() -> str:
    """The processor's name, where the system tells it."""
    try:
        if platform.system() == "Linux":
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                if line.startswith("model name"):
                    return " ".join(line.partition(":")[2].split())
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


def _plain(value: Any) -> Any:
    """Plain JSON values: numpy numbers and arrays unpacked, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _validate(results: Any, path: Path) -> None:
    """Raise a CellsError that names the file and the first place that breaks the contract."""

    def require(condition: bool, problem: str) -> None:
        if not condition:
            raise CellsError(f"{path}: {problem}; evaluate again with `hf-cells evaluate`")

    require(isinstance(results, dict), "the results are not a JSON object")
    for section, fields in _SECTIONS.items():
        require(isinstance(results.get(section), dict), f"section {section!r} is missing")
        for field in fields:
            require(field in results[section], f"{section}.{field} is missing")
    require(isinstance(results["dataset"]["name"], str), "dataset.name is not a string")
    require(isinstance(results["split"]["name"], str), "split.name is not a string")
    require(isinstance(results["decision"]["thresholds"], dict | list), "decision.thresholds is not a table")
    require(isinstance(results["run"]["versions"], dict), "run.versions is not a table")

    for name, entry in results["metrics"].items():
        place = f"metrics.{name}"
        _validate_number(entry, place, require)
        require("ci" in entry, f"{place}.ci is missing (null where there is none)")
    require(isinstance(results.get("strata", {}), dict), "strata is not a table")
    for stratum, metrics in results.get("strata", {}).items():
        require(isinstance(metrics, dict), f"strata.{stratum} is not a table")
        for name, entry in metrics.items():
            _validate_number(entry, f"strata.{stratum}.{name}", require)


def _validate_number(entry: Any, place: str, require: Any) -> None:
    """`{"value": number or null, "n": count, "ci": [low, high] or null}`; `ci` is checked where it stands."""
    require(isinstance(entry, dict), f"{place} is not a table with value, ci and n")
    require("value" in entry, f"{place}.value is missing")
    require(entry["value"] is None or _is_number(entry["value"]), f"{place}.value is not a number")
    count = entry.get("n")
    require(
        isinstance(count, int) and not isinstance(count, bool) and count >= 0, f"{place}.n is not a count"
    )
    interval = entry.get("ci")
    if interval is not None:
        pair = isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))
        require(pair and interval[0] <= interval[1], f"{place}.ci is not [low, high]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Measure a segmentation pipeline on one split: every image, every metric, with intervals."""

import hashlib
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.samples import ImageRows
from ..errors import CellsError
from ..models.image_reading import read_image
from ..progress import track
from .bootstrap import bootstrap_intervals, scalar_keys
from .results import describe_hardware, library_versions
from .scoring import Scoring, Statistics, choose_scoring

# Totals of this very split: there is nothing to estimate, so no interval.
_TOTALS = frozenset({"objects_true", "objects_pred"})


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_segmentation` measured.

    Attributes:
        results: The contents of `results.json`.
        rows: Per image, in the order of the split: image_id, group, modality, seconds, metrics {name: value}.
        statistics: Per image, in the same order: what `score_instances` or `score_semantic` returned.
        headline: The metric by which images are ranked.
    """

    results: dict[str, Any]
    rows: list[dict[str, Any]]
    statistics: list[Statistics]
    headline: str

    def ranking(self) -> list[int]:
        """Positions of the images in the split, worst first; images without a score are left out."""
        scores = [row["metrics"][self.headline] for row in self.rows]
        return [int(index) for index in np.argsort(scores, kind="stable") if np.isfinite(scores[index])]

    def worst(self, count: int = 5) -> list[dict[str, Any]]:
        """The rows with the lowest score, lowest first."""
        return [self.rows[index] for index in self.ranking()[:count]]

    def best(self, count: int = 5) -> list[dict[str, Any]]:
        """The rows with the highest score, highest first."""
        return [self.rows[index] for index in self.ranking()[::-1][:count]]


def evaluate_segmentation(
    pipe: Any,
    dataset: Any,
    *,
    split_name: str,
    progress: bool = True,
    n_resamples: int = 1000,
    seed: int = 0,
    context: Mapping[str, Mapping[str, Any]] | None = None,
) -> Evaluation:
    """Predict every image of a split, score it, and collect the numbers of `results.json`.

    Instance outputs are scored with `score_instances`, semantic outputs with `score_semantic` (against
    `semantic_mask`, or against the foreground of `instance_labels` when the model has two classes). Intervals
    are 95 % bootstrap intervals over groups where the `group` column knows them, else over images. The
    dataset's fingerprint is a hash of the pixels and truths that were evaluated.

    Args:
        pipe: The `cell-segmentation` pipeline: a callable from an (H, W[, C]) array to `instance_labels` or
            `semantic_mask`, with `pipe.model.config`.
        dataset: A `datasets.Dataset` with `image_id`, `image`, `instance_labels` or `semantic_mask`, and
            where known `group` and `modality`.
        split_name: What the results call the split.
        progress: Show a bar on a terminal.
        n_resamples: Bootstrap resamples.
        seed: Of the bootstrap.
        context: What cannot be measured here, per section of the results, laid over what was measured:
            `{"split": {"unit": "specimen", "leaks": 0, "audit": "…"}, "run": {"recipe": "…", "seed": 1}}`.

    Raises:
        CellsError: When the split is empty, a column is missing, or an image cannot be read, predicted or
            scored (it is named: a split of which images fell out has no number).
    """
    begun = time.perf_counter()
    scored = _score_images(pipe, dataset, split_name, progress)
    scoring, rows, statistics = scored.scoring, scored.rows, scored.statistics
    results: dict[str, Any] = {
        "dataset": {**_dataset_section(dataset), "fingerprint": scored.fingerprint},
        "split": {"name": split_name, **_units([row["group"] for row in rows]), "leaks": None, "audit": None},
        "metrics": _measure(scoring, rows, statistics, n_resamples, seed),
        "decision": _decision(pipe),
    }
    if "modality" in dataset.column_names:
        results["strata"] = {}
        for modality, _ in Counter(row["modality"] for row in rows).most_common():
            members = [index for index, row in enumerate(rows) if row["modality"] == modality]
            chosen = [rows[index] for index in members], [statistics[index] for index in members]
            results["strata"][modality] = _measure(scoring, *chosen, n_resamples, seed)
    results["run"] = {
        "recipe": None,
        "seed": None,
        "seconds": round(time.perf_counter() - begun, 3),
        "hardware": describe_hardware(),
        "versions": library_versions(),
    }
    for section, known in (context or {}).items():
        results[section] = {**results.get(section, {}), **known}
    return Evaluation(results, rows, statistics, scoring.headline)


@dataclass(frozen=True)
class _Scored:
    scoring: Scoring
    rows: list[dict[str, Any]]
    statistics: list[Statistics]
    fingerprint: str


def _score_images(pipe: Any, dataset: Any, split_name: str, progress: bool) -> _Scored:
    """Predict and score every image, one at a time."""
    identities = _identities(dataset, split_name)
    images = ImageRows(dataset)
    indices = range(len(images))
    scoring: Scoring | None = None
    content = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    statistics: list[Statistics] = []
    for index in track(indices, f"evaluating {split_name}") if progress else indices:
        identity = identities[index]
        with _naming(identity["image_id"], split_name):
            row = images[index]
            image = read_image(row["image"])
            started = time.perf_counter()
            prediction = pipe(image)
            seconds = time.perf_counter() - started
        # What the model returns is known only now; a mismatch with the split is no fault of this image.
        scoring = scoring or choose_scoring(prediction, dataset.column_names, pipe.model.config)
        with _naming(identity["image_id"], split_name):
            truth = scoring.truth(row)
            statistics.append(scoring.score(truth, np.asarray(prediction[scoring.output])))
        content.update(f"{identity['image_id']} {image.shape} {image.dtype} {truth.dtype}".encode())
        content.update(image.tobytes())
        content.update(truth.tobytes())
        values = scoring.aggregate(statistics[-1:])
        scores = {key: values[key] for key in scalar_keys(values)}
        rows.append({**identity, "seconds": seconds, "metrics": scores})
    assert scoring is not None  # _identities refuses an empty split
    return _Scored(scoring, rows, statistics, content.hexdigest()[:16])


@contextmanager
def _naming(image_id: str, split_name: str) -> Iterator[None]:
    """Any failure inside becomes an error that names the image."""
    try:
        yield
    except Exception as error:
        cause = str(error) if isinstance(error, CellsError) else f"{type(error).__name__}: {error}"
        raise CellsError(
            f"image {image_id!r} of split {split_name!r} cannot be evaluated ({cause}); "
            "mend the image or its truth: none is left out of a score"
        ) from error


def _measure(
    scoring: Scoring,
    rows: Sequence[Mapping[str, Any]],
    statistics: Sequence[Statistics],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Metrics of a set of images in the form of `results.json`."""
    values = scoring.aggregate(statistics)
    keys = scalar_keys(values)
    intervals = bootstrap_intervals(
        statistics,
        scoring.aggregate,
        groups=[row["group"] for row in rows],
        n_resamples=n_resamples,
        seed=seed,
        keys=[key for key in keys if key not in _TOTALS],
    )
    entries: dict[str, Any] = {
        key: {"value": values[key], "ci": intervals.get(key), "n": len(statistics)} for key in keys
    }
    if "per_class" in values:
        entries["mean_iou"]["per_class"] = values["per_class"]
    return entries


def _identities(dataset: Any, split_name: str) -> list[dict[str, Any]]:
    """image_id, group and modality of every image, read without decoding one."""
    columns = dataset.column_names
    missing = [name for name in ("image_id", "image") if name not in columns]
    if missing:
        raise CellsError(
            f"split {split_name!r} has no column {missing[0]!r} (it has {', '.join(columns)}); "
            "load it with hf_cells.load_dataset"
        )
    if len(dataset) == 0:
        raise CellsError(f"split {split_name!r} has no images; choose another split")
    known = [name for name in ("image_id", "group", "modality") if name in columns]
    return [
        {
            "image_id": str(row["image_id"]),
            "group": row.get("group"),
            "modality": row.get("modality") or "unknown",
        }
        for row in dataset.select_columns(known).to_list()
    ]


def _units(groups: Sequence[Hashable | None]) -> dict[str, Any]:
    """The unit of resampling and how many there are; an image without a group is one of its own."""
    known = set(groups) - {None}
    return {"unit": "group" if known else "image", "groups": len(known) + list(groups).count(None)}


def _dataset_section(dataset: Any) -> dict[str, Any]:
    info = dataset.info
    return {
        "name": info.dataset_name or info.builder_name or "unnamed",
        "config": info.config_name,
        "license": info.license or None,
    }


def _decision(pipe: Any) -> dict[str, Any]:
    """Thresholds and temperature that travel with the model: chosen on validation, or the defaults.

    The decoding of instances belongs to the image processor, the thresholds of classes to the configuration.
    """
    config, processor = pipe.model.config, getattr(pipe, "image_processor", None)
    decoding = getattr(processor, "decision_thresholds", None) or {}
    classes = getattr(config, "decision_thresholds", None) or {}
    temperature = float(getattr(config, "calibration_temperature", None) or 1.0)
    chosen_on = getattr(processor, "thresholds_chosen_on", "default")
    return {
        "thresholds": {**decoding, **classes},
        "temperature": temperature,
        "chosen_on": "validation" if classes or temperature != 1.0 else chosen_on,
    }

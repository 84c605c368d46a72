"""Measure a segmentation pipeline on one split: every image, every metric, with intervals."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.samples import ImageRows
from ..models.image_reading import read_image
from ..progress import track
from .bootstrap import bootstrap_intervals, scalar_keys
from .rare_classes import mean_without, rare_classes
from .scoring import Scoring, Statistics, choose_scoring
from .sections import (
    add_context,
    dataset_section,
    decision_section,
    naming_image,
    read_identities,
    run_section,
    split_section,
)

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
    `semantic_mask`, or against the foreground of `instance_labels` when the model has two classes); of more than
    two classes also with `score_semantic_objects` (against `cell_labels` where the split has them), and with the
    classes of each group in the model's `class_groups` taken as one. Intervals
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
        "dataset": dataset_section(dataset, scored.fingerprint),
        "split": split_section(split_name, [row["group"] for row in rows]),
        "metrics": _measure(scoring, rows, statistics, n_resamples, seed),
        "decision": decision_section(pipe),
    }
    if per_object := results["metrics"].get("object_f1_50", {}).get("per_class"):
        rare = results["rare_classes"] = rare_classes(dataset, per_object)
        common = mean_without(results["metrics"]["mean_iou"]["per_class"], rare, "iou")
        results["metrics"]["mean_iou_without_rare"] = {"value": common, "ci": None, "n": len(rows)}
    if "modality" in dataset.column_names:
        results["strata"] = {}
        for modality, _ in Counter(row["modality"] for row in rows).most_common():
            members = [index for index, row in enumerate(rows) if row["modality"] == modality]
            chosen = [rows[index] for index in members], [statistics[index] for index in members]
            results["strata"][modality] = _measure(scoring, *chosen, n_resamples, seed)
    results["run"] = run_section(begun)
    add_context(results, context)
    return Evaluation(results, rows, statistics, scoring.headline)


@dataclass(frozen=True)
class _Scored:
    scoring: Scoring
    rows: list[dict[str, Any]]
    statistics: list[Statistics]
    fingerprint: str


def _score_images(pipe: Any, dataset: Any, split_name: str, progress: bool) -> _Scored:
    """Predict and score every image, one at a time."""
    identities = read_identities(dataset, split_name, ["modality"])
    for identity in identities:
        identity["modality"] = identity.get("modality") or "unknown"
    images = ImageRows(dataset)
    channels = getattr(getattr(pipe, "image_processor", None), "channel_names", None)
    indices = range(len(images))
    scoring: Scoring | None = None
    content = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    statistics: list[Statistics] = []
    for index in track(indices, f"evaluating {split_name}") if progress else indices:
        identity = identities[index]
        with naming_image(identity["image_id"], split_name):
            row = images[index]
            image = read_image(row["image"], channels=channels)
            started = time.perf_counter()
            prediction = pipe(image)
            seconds = time.perf_counter() - started
        # What the model returns is known only now; a mismatch with the split is no fault of this image.
        scoring = scoring or choose_scoring(prediction, dataset.column_names, pipe.model.config)
        with naming_image(identity["image_id"], split_name):
            truth = scoring.truth(row)
            statistics.append(scoring.score(row, truth, np.asarray(prediction[scoring.output])))
        content.update(f"{identity['image_id']} {image.shape} {image.dtype} {truth.dtype}".encode())
        content.update(image.tobytes())
        content.update(truth.tobytes())
        values = scoring.aggregate(statistics[-1:])
        scores = {key: values[key] for key in scalar_keys(values)}
        rows.append({**identity, "seconds": seconds, "metrics": scores})
    assert scoring is not None  # read_identities refuses an empty split
    return _Scored(scoring, rows, statistics, content.hexdigest()[:16])


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
    for metric, table in scoring.tables.items():
        if table in values:
            entries[metric]["per_class"] = values[table]
    return entries

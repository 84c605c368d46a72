"""Measure a classification pipeline on one split: every metric with its interval, with and without thresholds."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import (
    classification_metrics,
    confusion_matrix,
    decision_metrics,
    multilabel_metrics,
    pointing_metrics,
)
from ..models.decisions import decide
from .bootstrap import bootstrap_intervals
from .classified_images import predict_probabilities, read_labels
from .pointing import can_point, play_pointing
from .results import WHOLE_SPLIT, WITHOUT_COPIES
from .scoring import class_names
from .sections import (
    add_context,
    dataset_section,
    decision_section,
    read_identities,
    run_section,
    split_section,
)

_STRATA = ("modality", "stratum")
# A resample of thousands of images takes milliseconds here, so more of them are affordable than elsewhere.
_ROW_VISITS = 10_000_000


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What `evaluate_classification` measured.

    Attributes:
        results: The contents of `results.json`.
        rows: Per image, in the order of the split: image_id, group, modality and stratum where known, seconds,
            label, predicted (names; several are joined by "|") and probabilities {name: value}.
        class_names: K names in the order of the ids.
        multi_label: Whether an image may have several labels.
        labels: (N,) int64 ids, or (N, K) bool with `multi_label`.
        probabilities: (N, K) float32, calibrated.
        predicted: Like `labels`: the decision with the model's thresholds.
        plain: Like `labels`: the decision without them.
    """

    results: dict[str, Any]
    rows: list[dict[str, Any]]
    class_names: list[str]
    multi_label: bool
    labels: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    plain: np.ndarray

    def wrong(self) -> list[int]:
        """Positions of the wrongly predicted images in the split, the most confident errors first."""
        if self.multi_label:
            wrong = self.labels != self.predicted
            sureness = np.where(wrong, np.abs(self.probabilities - self.labels), 0).max(axis=1)
            errors = wrong.any(axis=1)
        else:
            errors = self.labels != self.predicted
            sureness = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return [int(index) for index in np.argsort(-sureness, kind="stable") if errors[index]]


def evaluate_classification(
    pipe: Any,
    dataset: Any,
    *,
    split_name: str,
    progress: bool = True,
    n_resamples: int = 1000,
    seed: int = 0,
    context: Mapping[str, Mapping[str, Any]] | None = None,
    copies: Collection[str] = (),
) -> ClassificationEvaluation:
    """Predict every image of a split, decide, and collect the numbers of `results.json`.

    The metrics are those of `classification_metrics` or `multilabel_metrics`, decided with the model's
    thresholds; `accuracy` (or `mean_average_precision`) carries `per_class` and `per_class_ci`. Results hold
    besides: `argmax`, the metrics of a decision without thresholds; `confusion_matrix`, both decisions (rows:
    truth); and `strata`, per value of a `modality` or `stratum` column, and without copies of other splits.
    A split with the column `boxes` (see `pointing`) also gets `pointing_metrics` of the class activation maps.
    Intervals are 95 % bootstrap intervals over groups where the `group` column knows them, else over images.

    Args:
        pipe: The `cell-classification` pipeline: `pipe.probabilities(images)` and `pipe.model.config`.
        dataset: A `datasets.Dataset` with `image_id`, `image`, `label` or `labels`, and where known `group`,
            `modality`, `stratum` and `boxes`.
        split_name: What the results call the split.
        progress: Show a bar on a terminal.
        n_resamples: Bootstrap resamples, at most; see `bootstrap_intervals`.
        seed: Of the bootstrap.
        context: What cannot be measured here, per section of the results, laid over what was measured.
        copies: image_ids of this split that have a pixel-identical copy in another split; the rest is then
            measured apart as well.

    Raises:
        CellsError: When the split is empty, a column is missing, a label is missing or unknown to the model,
            or an image cannot be read or predicted (it is named: none is left out of a score).
    """
    begun = time.perf_counter()
    config = pipe.model.config
    names = class_names(config)
    multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
    identities = read_identities(dataset, split_name, _STRATA)
    labels = read_labels(dataset, names, multi_label, [row["image_id"] for row in identities], split_name)
    probabilities, seconds, content = predict_probabilities(pipe, dataset, identities, split_name, progress)
    content.update(labels.tobytes())
    thresholds = getattr(config, "decision_thresholds", None) or None
    predicted, plain = (
        decide(probabilities, chosen, dict(enumerate(names)), multi_label) for chosen in (thresholds, None)
    )

    core = multilabel_metrics if multi_label else classification_metrics

    def decided(index: np.ndarray) -> dict[str, Any]:
        return core(labels[index], probabilities[index], predicted[index], names)

    def undecided(index: np.ndarray) -> dict[str, Any]:
        return decision_metrics(labels[index], plain[index], names)

    groups = [row["group"] for row in identities]
    everything, settings = range(len(labels)), (groups, n_resamples, seed)
    metrics = _entries(decided, everything, *settings)
    if can_point(pipe.model, dataset):
        pointed = play_pointing(pipe, dataset, names, identities, split_name, progress)
        metrics |= _entries(lambda index: pointing_metrics(pointed[index], names), everything, *settings)
    results: dict[str, Any] = {
        "dataset": dataset_section(dataset, content.hexdigest()[:16]),
        "split": split_section(split_name, groups),
        "metrics": metrics,
        "argmax": _plain_entries(_entries(undecided, everything, *settings)),
        "decision": decision_section(pipe),
    }
    if not multi_label:
        results["confusion_matrix"] = {
            "classes": names,
            "predicted": confusion_matrix(labels, predicted, len(names), None).tolist(),
            "argmax": confusion_matrix(labels, plain, len(names), None).tolist(),
        }
    if strata := _strata(identities, set(copies)):
        results["strata"] = {
            name: _plain_entries(metrics if name == WHOLE_SPLIT else _entries(decided, members, *settings))
            for name, members in strata.items()
        }
    results["run"] = run_section(begun)
    add_context(results, context)
    rows = [
        {
            **identity,
            "seconds": duration,
            "label": _text(label, names),
            "predicted": _text(decided, names),
            "probabilities": dict(zip(names, scores.tolist(), strict=True)),
        }
        for identity, duration, label, decided, scores in zip(
            identities, seconds, labels, predicted, probabilities, strict=True
        )
    ]
    return ClassificationEvaluation(
        results, rows, names, multi_label, labels, probabilities, predicted, plain
    )


def _strata(identities: Sequence[Mapping[str, Any]], copies: set[str]) -> dict[str, list[int]]:
    """Positions of the images of each stratum, the largest first; what concerns the whole split leads."""
    strata: dict[str, list[int]] = {}
    if copies:
        strata[WHOLE_SPLIT] = list(range(len(identities)))
        rest = [index for index, row in enumerate(identities) if row["image_id"] not in copies]
        if rest:
            strata[WITHOUT_COPIES] = rest
    for column in _STRATA:
        if column in identities[0]:
            values = [str(row[column] or "unknown") for row in identities]
            for value, _ in Counter(values).most_common():
                strata[value] = [index for index, other in enumerate(values) if other == value]
    return strata


def _entries(
    measure: Callable[[np.ndarray], dict[str, Any]],
    members: Sequence[int],
    groups: Sequence[Any],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Metrics of a set of images in the form of `results.json`; the first entry carries those of the classes."""

    def flat(chosen: Sequence[int]) -> dict[str, Any]:
        found = measure(np.asarray(chosen, dtype=np.intp))
        for name, row in found.pop("per_class").items():
            found |= {f"{name}\t{key}": value for key, value in row.items() if key != "support"}
        return found

    intervals = bootstrap_intervals(
        list(members),
        flat,
        groups=[groups[index] for index in members],
        n_resamples=n_resamples,
        seed=seed,
        max_row_visits=_ROW_VISITS,
    )
    values = measure(np.asarray(members, dtype=np.intp))
    per_class = values.pop("per_class")
    entries: dict[str, Any] = {
        name: {"value": value, "ci": intervals[name], "n": len(members)} for name, value in values.items()
    }
    entries[next(iter(entries))] |= {
        "per_class": per_class,
        "per_class_ci": {
            name: {key: intervals[f"{name}\t{key}"] for key in row if key != "support"}
            for name, row in per_class.items()
        },
    }
    return entries


def _plain_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {key: entry[key] for key in ("value", "ci", "n")} for name, entry in entries.items()}


def _text(decision: Any, names: Sequence[str]) -> str:
    """One class id, or a row of zeros and ones, as names."""
    if np.ndim(decision):
        return "|".join(name for name, there in zip(names, decision, strict=True) if there)
    return names[int(decision)]

"""The metrics as `evaluate.Metric`: `add`, `add_batch`, `compute`, `evaluate.combine`, offline.

    metric = InstanceSegmentationMetric()
    metric.add_batch(predictions=[labels, ...], references=[labels, ...])
    metric.compute()["dsb_score"]

`evaluate` stores what is added in an Arrow file. Masks never reach it: every image becomes its row of
sufficient statistics at once (under 1 kB as JSON), so evaluate's own collecting over several processes
(`num_process`, `process_id`) still works and the result is that of the numeric cores to the last bit.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from hf_cells.metrics import aggregate, classification, semantic

_STORED_AS = datasets.Features(
    {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
)


class _RowMetric(evaluate.Metric, ABC):
    """Turns each added pair into a row of plain numbers and aggregates the rows in `compute`."""

    @abstractmethod
    def _row(self, prediction: Any, reference: Any) -> dict[str, Any]:
        """Return the statistics of one pair."""

    @abstractmethod
    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the metrics of all rows."""

    def _rows(self, predictions: Iterable[Any], references: Iterable[Any]) -> list[dict[str, Any]]:
        predictions, references = list(predictions), list(references)
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
        return [self._row(*pair) for pair in zip(predictions, references, strict=True)]

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one image; only its statistics are kept."""
        [row] = self._rows([prediction], [reference])
        super().add(prediction=json.dumps(row), reference="", **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add a batch of images, which may differ in size; only their statistics are kept."""
        rows = self._rows(predictions, references)
        super().add_batch(
            predictions=[json.dumps(row) for row in rows], references=[""] * len(rows), **kwargs
        )

    def _compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, Any]:
        return self._aggregate([json.loads(row) for row in predictions])


class InstanceSegmentationMetric(_RowMetric):
    """Every instance metric of `aggregate_instances`, from label images."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Instance segmentation: DSB 2018 score, StarDist and Cellpose AP, PQ, AJI, Dice.",
            citation="",
            inputs_description=(
                "\n\npredictions, references: (H, W) integer label images, 0 = background. "
                "`compute` returns the keys of `hf_cells.metrics.aggregate_instances`."
            ),
            features=_STORED_AS,
            reference_urls=[
                "https://github.com/carpenterlab/2019_caicedo_dsb",
                "https://github.com/stardist/stardist",
                "https://github.com/MouseLand/cellpose",
                "https://github.com/vqdang/hover_net",
            ],
        )

    def _row(self, prediction: Any, reference: Any) -> dict[str, Any]:
        return aggregate.score_instances(np.asarray(reference), np.asarray(prediction))

    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return aggregate.aggregate_instances(rows)


class SemanticSegmentationMetric(_RowMetric):
    """Every hard semantic metric of `aggregate_semantic`, from class masks.

    Args:
        num_labels: number of classes, background included.
        ignore_index: true value of pixels that do not count; None counts all.
        label_names: names for `per_class`.
        **kwargs: of `evaluate.Metric` (`num_process`, `process_id`, `experiment_id`, `keep_in_memory`, …).
    """

    def __init__(
        self,
        num_labels: int,
        ignore_index: int | None = 255,
        label_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.label_names = label_names
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Semantic segmentation: pixel accuracy, IoU and Dice, per class and per image.",
            citation="",
            inputs_description=(
                "\n\npredictions, references: (H, W) integer masks of class numbers. "
                "`compute` returns the keys of `hf_cells.metrics.aggregate_semantic`."
            ),
            features=_STORED_AS,
        )

    def _row(self, prediction: Any, reference: Any) -> dict[str, Any]:
        return aggregate.score_semantic(
            np.asarray(reference), np.asarray(prediction), self.num_labels, self.ignore_index
        )

    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return aggregate.aggregate_semantic(rows, self.label_names)


class SoftDiceMetric(_RowMetric):
    """Smoothed Dice on probabilities (`semantic.soft_dice`), over everything added and as a mean of batches.

    Notebooks print the mean over batches, which depends on the batch size; both are returned.

    Args:
        smooth: added to numerator and denominator.
        **kwargs: of `evaluate.Metric`.
    """

    def __init__(self, smooth: float = 1.0, **kwargs: Any) -> None:
        self.smooth = smooth
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="(2 sum(y p) + smooth) / (sum(y) + sum(p) + smooth), flattened over the batch.",
            citation="",
            inputs_description=(
                "\n\npredictions: probabilities in [0, 1]; references: 0 or 1, same shapes. "
                "One call is one batch. `compute` returns `soft_dice` (everything flattened) and "
                "`soft_dice_batch_mean`."
            ),
            features=_STORED_AS,
        )

    def _rows(self, predictions: Iterable[Any], references: Iterable[Any]) -> list[dict[str, Any]]:
        """Merge the images of the call into the one row of their batch."""
        images = super()._rows(predictions, references)
        return [{key: sum(image[key] for image in images) for key in ("shared", "true", "pred")}]

    def _row(self, prediction: Any, reference: Any) -> dict[str, Any]:
        return dict(
            zip(("shared", "true", "pred"), semantic.soft_dice_sums(prediction, reference), strict=True)
        )

    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        sums = np.array([[row["shared"], row["true"], row["pred"]] for row in rows])
        return {
            "soft_dice": self._dice(sums.sum(axis=0)),
            "soft_dice_batch_mean": float(np.mean([self._dice(batch) for batch in sums])),
        }

    def _dice(self, sums: np.ndarray) -> float:
        shared, true_sum, pred_sum = sums
        return float((2 * shared + self.smooth) / (true_sum + pred_sum + self.smooth))


class ClassificationMetric(_RowMetric):
    """Every metric of `classification_metrics` or `multilabel_metrics`, from probabilities.

    Args:
        class_names: K names in the order of the probabilities.
        multi_label: references are rows of K zeros and ones; else one class number per image.
        thresholds: K positive numbers. The decision is the class with the largest probability / threshold
            (default 1), or with `multi_label` every label that reaches its threshold (default 0.5).
        **kwargs: of `evaluate.Metric`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        multi_label: bool = False,
        thresholds: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.class_names = list(class_names)
        self.multi_label = multi_label
        default = [0.5 if multi_label else 1.0] * len(self.class_names)
        self.thresholds = np.asarray(default if thresholds is None else thresholds, dtype=np.float64)
        if self.thresholds.shape != (len(self.class_names),) or not (self.thresholds > 0).all():
            raise ValueError(f"thresholds must be {len(self.class_names)} positive numbers")
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Classification: accuracy, mean class accuracy, F1, ROC AUC, AP, Brier score, ECE.",
            citation="",
            inputs_description=(
                "\n\npredictions: (K,) probabilities per image; references: class numbers, or (K,) zeros and "
                "ones. `compute` returns the keys of `hf_cells.metrics.classification_metrics` or "
                "`multilabel_metrics`."
            ),
            features=_STORED_AS,
        )

    def _row(self, prediction: Any, reference: Any) -> dict[str, Any]:
        row = {
            "probabilities": np.asarray(prediction, dtype=np.float64).tolist(),
            "label": np.asarray(reference).tolist(),
        }
        self._aggregate([row])  # a wrong shape or label is refused with the image that has it
        return row

    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        labels = np.array([row["label"] for row in rows])
        probabilities = np.array([row["probabilities"] for row in rows])
        if self.multi_label:
            decided = probabilities >= self.thresholds
            return classification.multilabel_metrics(labels, probabilities, decided, self.class_names)
        decided = (probabilities / self.thresholds).argmax(axis=1)
        return classification.classification_metrics(labels, probabilities, decided, self.class_names)

"""What differs between kinds of model: the truth they learn from, their samples, scores, thresholds and figures.

The loop, checkpoints, precision and launching know nothing of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import CellsError

Rows = Sequence[dict[str, Any]]


class Task(ABC):
    """One kind of model.

    Attributes:
        model_type: As in the recipe.
        default_metric: What "best" means where the recipe does not say.
        splits_need: Configuration of a dataset that has this task's truth, where a dataset has several.
    """

    model_type: str
    default_metric: str
    splits_need: str | None = None

    @abstractmethod
    def check_truth(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> None:
        """Refuse a dataset without the truth that this task learns from (CellsError)."""

    def classes(self) -> tuple[Any, Any]:
        """Return the model's class and its image processor's."""
        from ..models import FAMILIES

        family = FAMILIES[self.model_type]
        return family.model, family.processor

    @abstractmethod
    def config(self, recipe: dict[str, Any], splits: datasets.DatasetDict) -> dict[str, Any]:
        """Return what the data says of the model's configuration, `id2label` at least."""

    @abstractmethod
    def samples(self, recipe: dict[str, Any], rows: Rows, processor: Any) -> Dataset[dict[str, Tensor]]:
        """Return the augmented training samples."""

    def extra_rows(self, recipe: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the `data.simulated_extra` simulated rows that join the training split."""
        if recipe["data"]["simulated_extra"]:
            raise CellsError("data.simulated_extra is for models that find nuclei; set it to 0")
        return []

    @abstractmethod
    def metric_names(self) -> list[str]:
        """Return what `validate` measures."""

    @abstractmethod
    def validate(self, model: Any, processor: Any, rows: Rows, accelerator: Accelerator) -> dict[str, float]:
        """Return `loss` and every scalar metric, the same on all processes."""

    def accuracy(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor | None:
        """Return the share of right answers in a training batch, where that means something."""
        return None

    @abstractmethod
    def tune(self, setup: Any, model: Any) -> str | None:
        """Choose thresholds and calibration on the validation split, put them into model or processor, and say so."""

    @abstractmethod
    def adopt(self, setup: Any, model: Any, chosen: Path) -> None:
        """Take over what `tune` chose for another model of the same recipe, saved in a folder."""

    @abstractmethod
    def evaluate(
        self,
        setup: Any,
        pipe: Any,
        splits: datasets.DatasetDict,
        split: str,
        context: dict[str, Any],
        figures: Path,
    ) -> dict[str, Any]:
        """Measure the pipeline on a split, draw the figures into a folder, and return the results."""


def task_names() -> list[str]:
    """Return the values of `model.type`."""
    return [task.model_type for task in _tasks()]


def task_of(model_type: str) -> Task | None:
    """Return the task of a `model.type`, or None where there is none of this name."""
    return next((task for task in _tasks() if task.model_type == model_type), None)


def _tasks() -> list[Task]:
    from .classification import ClassificationTask
    from .segmentation import SEMANTIC, InstanceTask, SemanticTask

    return [InstanceTask(), *map(SemanticTask, SEMANTIC), ClassificationTask()]


def scored_in_parts(rows: Rows, accelerator: Accelerator) -> range:
    """Return the rows of this process: every n-th, so that each is scored once whatever their number."""
    return range(accelerator.process_index, len(rows), accelerator.num_processes)


def finite(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers."""
    return {k: float(v) for k, v in metrics.items() if isinstance(v, (int, float)) and np.isfinite(v)}

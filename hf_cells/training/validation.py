"""Validation: through the same processor and decoding as prediction; no sample twice, none dropped."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from .task import Rows, Task

LOWER_IS_BETTER = (
    "loss",
    "count_mean_absolute_error",
    "brier_score",
    "log_loss",
    "expected_calibration_error",
    "hamming_loss",
)


def is_better(score: float, best: float | None, metric: str) -> bool:
    """Say whether a score beats the best so far; one that is undefined never does."""
    if np.isnan(score) or best is None:
        return not np.isnan(score)
    return score < best if metric in LOWER_IS_BETTER else score > best


def validate(
    task: Task, model: torch.nn.Module, processor: Any, rows: Rows, accelerator: Accelerator
) -> dict[str, float]:
    """Score the model on whole images.

    Each process takes every n-th row, so every row is scored once whatever the number of processes and rows; the
    per-image results are gathered and then reduced.

    Returns:
        `loss` (mean over images) and every scalar metric of the task, the same on all processes.
    """
    model.eval()
    # Without SyncBatchNorm (on CPUs) every process has running statistics of its own; the main one's are saved.
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
    scores = task.validate(model, processor, rows, accelerator)
    model.train()
    return scores

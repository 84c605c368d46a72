"""Validation: whole images through the same processor and decoding as prediction; no sample twice, none dropped."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.samples import training_targets, truth_of
from ..metrics import aggregate_instances, aggregate_semantic, score_instances, score_semantic
from ..models.image_reading import read_image

LOWER_IS_BETTER = ("loss", "count_mean_absolute_error")


def metric_names(instances: bool) -> list[str]:
    """Return what `validate` measures."""
    empty = np.zeros((2, 2), np.int32)
    if instances:
        return ["loss", *aggregate_instances([score_instances(empty, empty)])]
    totals = aggregate_semantic([score_semantic(empty, empty, 2)])
    return ["loss", *(name for name, value in totals.items() if isinstance(value, (int, float)))]


def is_better(score: float, best: float | None, metric: str) -> bool:
    """Say whether a score beats the best so far; one that is undefined never does."""
    if np.isnan(score) or best is None:
        return not np.isnan(score)
    return score < best if metric in LOWER_IS_BETTER else score > best


@torch.no_grad()
def validate(
    model: torch.nn.Module,
    processor: Any,
    rows: Sequence[dict[str, Any]],
    accelerator: Accelerator,
    *,
    instances: bool,
) -> dict[str, float]:
    """Score the model on whole images.

    Each process takes every n-th row, so every row is scored once whatever the number of processes and rows; the
    per-image statistics are gathered and then reduced.

    Returns:
        `loss` (mean over images) and every scalar metric of the task, the same on all processes.
    """
    model.eval()
    # Without SyncBatchNorm (on CPUs) every process has running statistics of its own; the main one's are saved.
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
    mine = range(accelerator.process_index, len(rows), accelerator.num_processes)
    scored = [(index, *_score(model, processor, rows[index], accelerator, instances)) for index in mine]
    model.train()
    everyone = sorted(gather_object(scored), key=lambda item: item[0])
    statistics = [statistic for _, _, statistic in everyone]
    totals = aggregate_instances(statistics) if instances else aggregate_semantic(statistics)
    metrics = {k: float(v) for k, v in totals.items() if isinstance(v, (int, float)) and np.isfinite(v)}
    return {"loss": float(np.mean([loss for _, loss, _ in everyone])), **metrics}


def _score(
    model: Any, processor: Any, row: dict[str, Any], accelerator: Accelerator, instances: bool
) -> tuple[float, dict[str, Any]]:
    truth = truth_of(row)
    pixel_values = processor(read_image(row["image"]))["pixel_values"].to(accelerator.device)
    size = [truth.shape]
    seen = truth  # what the loss sees: at the size that the processor gives the image
    if tuple(pixel_values.shape[-2:]) != truth.shape:
        resized = F.interpolate(torch.from_numpy(truth)[None, None].double(), pixel_values.shape[-2:])
        seen = resized[0, 0].numpy().astype(np.int32)
    targets = training_targets(seen, instances)
    with accelerator.autocast():
        output = model(
            pixel_values=pixel_values, **{k: v[None].to(accelerator.device) for k, v in targets.items()}
        )
    loss = float(output.loss)
    if instances:
        found = processor.post_process_instance_segmentation(output, target_sizes=size)[0]["segmentation"]
        return loss, score_instances(truth, found.numpy())
    found = processor.post_process_semantic_segmentation(output, target_sizes=size)[0]
    return loss, score_semantic(truth, found.cpu().numpy(), output.logits.shape[1])

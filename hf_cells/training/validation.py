"""Validation: whole images through the same processor and decoding as prediction; no sample twice, none dropped."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.samples import training_targets, truth_of
from ..metrics import aggregate_instances, aggregate_semantic, score_instances, score_semantic
from ..models.image_reading import read_image


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
    targets = {k: v[None].to(accelerator.device) for k, v in training_targets(truth, instances).items()}
    same_size = tuple(pixel_values.shape[-2:]) == truth.shape
    with accelerator.autocast():
        output = model(pixel_values=pixel_values, **(targets if same_size else {}))
    loss = float(output.loss) if same_size else float("nan")
    if instances:
        found = processor.post_process_instance_segmentation(output, target_sizes=size)[0]["segmentation"]
        return loss, score_instances(truth, found.numpy())
    found = processor.post_process_semantic_segmentation(output, target_sizes=size)[0]
    return loss, score_semantic(truth, found.cpu().numpy(), output.logits.shape[1])

"""Number format and memory layout of training, chosen by timing a few steps where the recipe says auto."""

import os
import time
from typing import Any

import torch
from torch import nn

from ..errors import CellsError

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, memory_format: str) -> None:
    """Raise a CellsError for an unknown name."""
    for name, value, known in (
        ("precision", precision, ("auto", "fp32", *CASTS)),
        ("memory_format", memory_format, ("auto", *FORMATS)),
    ):
        if value not in known:
            raise CellsError(f"training.{name}={value!r} is unknown; choose from: {', '.join(known)}")


def choose_precision(
    model: nn.Module, batch: dict[str, torch.Tensor], device: torch.device, precision: str, memory_format: str
) -> tuple[str, str, dict[str, float]]:
    """Return precision, memory format, and the images per second of every candidate that was timed.

    `fp16`/`bf16` from the launcher (ACCELERATE_MIXED_PRECISION) win over `auto`; the launcher's `no` counts as unset,
    because `accelerate launch` always sets it. The model and the state of the random generators are left as they were.

    Raises:
        CellsError: An unknown name, or fp16 on a CPU.
    """
    check_precision(precision, memory_format)
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision == "auto" and launched in CASTS:
        precision = launched
    if precision == "fp16" and device.type == "cpu":
        raise CellsError("fp16 needs a GPU; on a CPU use training.precision=bf16, fp32 or auto")
    # fp16 needs loss scaling and is slow or absent on CPUs, so it is only taken when asked for.
    precisions = ["fp32", "bf16"] if precision == "auto" else [precision]
    if precision == "auto" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        precisions = ["fp32"]
    formats = list(FORMATS) if memory_format == "auto" else [memory_format]
    candidates = [(p, f) for p in precisions for f in formats]
    if len(candidates) == 1:
        return *candidates[0], {}
    speeds = {}
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for candidate in candidates:
            speeds[candidate] = len(batch["pixel_values"]) / _seconds(model, batch, device, *candidate)
    model.load_state_dict(state)
    model.zero_grad(set_to_none=True)
    best = max(speeds, key=lambda candidate: speeds[candidate])
    return *best, {f"{p} {f}": round(speed, 1) for (p, f), speed in speeds.items()}


def _seconds(
    model: nn.Module,
    batch: dict[str, Any],
    device: torch.device,
    precision: str,
    memory_format: str,
    steps: int = 3,
) -> float:
    """Best time of a training step; the first is warm-up (allocation, kernel choice)."""
    model.to(device=device, memory_format=FORMATS[memory_format])  # type: ignore[call-overload]
    batch = {k: v.to(device) for k, v in batch.items()}
    batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=FORMATS[memory_format])
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast(device.type, CASTS.get(precision), enabled=precision in CASTS):
            loss = model(**batch).loss
        loss.backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])

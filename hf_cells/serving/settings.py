"""Limits of the server."""

import os
from dataclasses import dataclass, fields
from typing import Any

from ..errors import CellsError


@dataclass(frozen=True)
class Settings:
    """What one server takes on.

    Args:
        max_batch_size: Images that go through the network together; by default 16 for a classifier, and for
            segmentation 1 on a CPU and 8 on an accelerator.
        max_wait_ms: The longest that an image waits for others to join it. It waits only while others are on their way.
        max_body_mb: Megabytes (10^6 bytes) of a request's body.
        max_pixels: Height x width of an image.
        max_concurrency: Requests that are read, waiting or computed at one time.
        timeout: Seconds for reading a request, and again for answering it.
        workers: Threads that run the network; by default two on a CPU in fp32, otherwise one.
        threads: Cores for each of them; by default all cores, shared evenly.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device has instructions for it.

    Raises:
        CellsError: A limit is not above 0 (max_wait_ms: below 0), or an unknown precision.
    """

    max_batch_size: int | None = None
    max_wait_ms: float = 5.0
    max_body_mb: float = 64.0
    max_pixels: int = 25_000_000
    max_concurrency: int = 64
    timeout: float = 60.0
    workers: int | None = None
    threads: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "fp32", "bf16"):
            raise CellsError(f"--precision {self.precision} is unknown; choose auto, fp32 or bf16")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) or value is None:
                continue
            if value < 0 or (value == 0 and field.name != "max_wait_ms"):
                raise CellsError(f"--{field.name} {value} is no limit; give a number above 0")

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 1_000_000)

    def for_model(self, pipe: Any, precision: str) -> tuple[int, int, int]:
        """Images in a batch, threads that run the network, and cores for each, for this pipeline."""
        on_cpu, classifies = pipe.device.type == "cpu", pipe.task == "cell-classification"
        batch = self.max_batch_size or (16 if classifies else 1 if on_cpu else 8)
        cores = available_cores()
        # Two networks on half the cores each beat one on all of them: the parts of a pass that use a single core
        # overlap, and no pass waits at every layer for a core that is busy with requests. With bf16 a pass is so short
        # that larger batches gain more.
        workers = self.workers or (min(2, cores) if on_cpu and precision == "fp32" else 1)
        return batch, workers, self.threads or max(1, cores // workers)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

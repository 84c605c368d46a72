"""What the launcher did, what the machine has, and when to stop."""

import ctypes
import os
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import CellsError

if TYPE_CHECKING:  # torch takes seconds to import, and a launcher may be gone by then
    from accelerate import Accelerator, PartialState

PARENT = os.getppid()


def check_launch(processes: int) -> None:
    """Stop when fewer processes run than were asked for.

    `accelerate launch --cpu --num_processes 2` quietly starts one process, and without a GPU `--multi_gpu` starts
    several that do not know of each other and overwrite each other's files.

    Raises:
        CellsError: With the command that works.
    """
    remedy = "on CPU use: torchrun --nproc_per_node N train.py … (with ACCELERATE_USE_CPU=1), or one process"
    world = os.environ.get("WORLD_SIZE")
    if world is None and "MASTER_PORT" in os.environ:
        raise CellsError(f"the launcher was asked for several processes but started one; {remedy}")
    if world is not None and int(world) != processes:
        raise CellsError(f"the launcher announced {world} processes, {processes} found each other; {remedy}")


def print_error(error: CellsError) -> None:
    """Print an error as one line, once.

    The processes of one launch mostly fail alike; the launcher ends the others while they wait here.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(5)
    print(f"error: {error}", file=sys.stderr, flush=True)


def set_threads(threads: int | None, state: "PartialState") -> None:
    """Use all cores when alone on a CPU: `accelerate launch` sets OMP_NUM_THREADS=1 there."""
    import torch

    if threads is None and state.device.type == "cpu" and state.num_processes == 1:
        threads = available_cores()
    if threads:
        torch.set_num_threads(threads)


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it after every step.

    A training step frees and takes the same large blocks again and again; without this, the kernel spends up to half
    of the time on handing out zeroed pages (measured: 15 to 20 % more images per second on a 2-core CPU).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library: nothing to gain, nothing lost
        return
    mmap_threshold, trim_threshold, largest = -3, -1, 2**31 - 1
    mallopt(mmap_threshold, ctypes.c_int(largest))
    mallopt(trim_threshold, ctypes.c_int(largest))


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StopSignal:
    """Notices SIGTERM, SIGINT, and the death of the launcher, so that the loop can save and leave.

    SIGTERM to `accelerate launch` ends the launcher alone; its child would train on as an orphan. A process without a
    launcher may lose its parent (a shell that logs out) and goes on.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.launched = bool({"ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID"} & os.environ.keys())
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self.previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    def noticed(self) -> bool:
        """Say whether this process has a reason to stop."""
        if self.reason is None and self.launched and os.getppid() != PARENT:
            self.reason = "the launcher has ended"
        return self.reason is not None


def any_process(accelerator: "Accelerator", *flags: bool) -> tuple[bool, ...]:
    """Say of each flag, alike on all processes, whether any of them has raised it: all go the same way, or all hang."""
    if accelerator.num_processes == 1:
        return flags
    import torch

    raised = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    return tuple(bool(item > 0) for item in accelerator.reduce(raised, "sum"))

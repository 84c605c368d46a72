"""What the benchmarks of training share: a plain loop, our loop, a process for each, and the table.

The plain loop is written the way the `run_…_no_trainer.py` examples of transformers do it: an Accelerator in fp32,
AdamW, a linear schedule, and a DataLoader without workers whose dataset decodes and transforms an image when it is
asked for.
"""

import multiprocessing
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import get_scheduler

from hf_cells.evaluation.results import describe_hardware
from hf_cells.quiet import quiet_libraries
from hf_cells.training.launch import available_cores
from hf_cells.training.loop import train
from hf_cells.training.setup import prepare

WARM_UP = 3  # steps that are not timed: allocation, choice of kernels
T = TypeVar("T")


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a fresh process: threads, memory and accelerate's state of one loop never reach the other."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_all_cores, function, *arguments).result()


def _with_all_cores(function: Callable[..., T], *arguments: Any) -> T:
    torch.set_num_threads(available_cores())  # whatever OMP_NUM_THREADS says
    torch.manual_seed(0)
    quiet_libraries()
    return function(*arguments)


def plain_steps(
    model: Any, loader: DataLoader[Any], lr: float, total: int, weight_decay: float = 0.0, warmup: int = 0
) -> Iterator[int]:
    """Train without end; after every step, yield how many images it had."""
    accelerator = Accelerator(mixed_precision="no")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=warmup, num_training_steps=total)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    while True:
        model.train()
        for batch in loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            yield len(batch["pixel_values"])


def plain_speed(model: Any, loader: DataLoader[Any], lr: float, steps: int) -> float:
    """Images per second of the plain loop."""
    print(f"plain loop: {WARM_UP} steps of warm-up, then {steps}", flush=True)
    training = plain_steps(model, loader, lr, WARM_UP + steps)
    for _ in range(WARM_UP):
        next(training)
    tell = Teller("plain loop")
    begun, images = time.perf_counter(), 0
    for step in range(1, steps + 1):
        images += next(training)
        _wait_for_device()
        speed = images / (time.perf_counter() - begun)
        tell(f"step {step}/{steps}, {speed:.1f} images/s", last=step == steps)
    return speed


def our_speed(recipe: dict[str, Any]) -> tuple[float, str]:
    """Images per second of our loop in the second of two epochs, and the precision that it chose.

    Both epochs have the same images. So the second shows what all later ones of a training are: decoded before.
    """
    print("hf-cells: timing the precisions, then two epochs", flush=True)
    setup, _ = prepare(recipe, None)
    order = setup.batches.order
    order.length = min(order.length, order.samples)
    setup.validation = None
    state = train(setup)
    chosen = f"{recipe['training']['precision']} {recipe['training']['memory_format']}"
    return state.history[-1]["images_per_second"], chosen


class Teller:
    """Prints how far a loop is, every few seconds."""

    def __init__(self, what: str, every: float = 5.0):
        self.what, self.every, self.told = what, every, time.monotonic()

    def __call__(self, text: str, last: bool = False) -> None:
        """Print now if it is time, or if it is the last word."""
        if last or time.monotonic() - self.told > self.every:
            print(f"{self.what}: {text}", flush=True)
            self.told = time.monotonic()


def print_table(heading: str, unit: str, rows: dict[str, str], ratio: str) -> None:
    """Print the machine, what was measured, a line for each way, and the ratio."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    offered = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    print(f"\n{describe_hardware()}; {' '.join(offered) or platform.machine()}; torch {torch.__version__}")
    print(heading)
    print(f"{'':44}{unit:>12}")
    for name, value in rows.items():
        print(f"{name:44}{value:>12}")
    print(ratio, flush=True)


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

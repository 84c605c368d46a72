"""Tiny training runs in processes of their own, forked from one that has imported everything once.

Importing torch and transformers takes ten seconds; a fork takes none. Each run has its own process group, environment
and log, so that it may be signalled, killed, or be one of two processes that train together.
"""

import contextlib
import csv
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

TINY = {
    "name": "tiny",
    "model": {"type": "cell_unet_instance", "config": {"hidden_sizes": [8, 8], "dropout": 0.2}},
    "augmentation": {"size": 32},
    "training": {
        "epochs": 3,
        "samples_per_epoch": 12,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.02},
        "ema_decay": 0.9,
        "schedule": {"name": "cosine", "warmup": 2},
        "precision": "fp32",
        "memory_format": "contiguous",
        "workers": 0,
        "threads": 1,
        "trackers": [],
    },
    "evaluation": {"metric": "loss", "n_resamples": 20},
}
TIMING = {"seconds", "images_per_second"}
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hf_cells.training.setup", "hf_cells.training.finish", "hf_cells.models"])


def write_recipe(path: Path, data_dir: Path) -> Path:
    """Write the tiny recipe; a run of it takes two seconds: 3 epochs of 6 batches, 3 updates each."""
    path.write_text(yaml.safe_dump({**TINY, "data": {"name": "dsb2018", "data_dir": str(data_dir)}}))
    return path


class Run:
    """One process that executes `function(*arguments, **settings)`."""

    def __init__(
        self,
        log: Path,
        function: Callable[..., Any],
        *arguments: Any,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ):
        self.log = log
        task = (log, environment or {}, function, arguments, settings)
        self.process = FORKS.Process(target=_main, args=task)
        self.process.start()

    def wait(self, timeout: float = 120) -> int:
        """Return the exit code; a run that does not end fails the test."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"still running after {timeout} s:\n{self.text()}")
        assert self.process.exitcode is not None
        return self.process.exitcode

    def kill(self) -> None:
        """End the process and its workers without any warning."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()

    def text(self) -> str:
        """What it printed."""
        return self.log.read_text() if self.log.exists() else ""

    def check(self, expected: int = 0) -> str:
        """Wait, compare the exit code, return the output."""
        code = self.wait()
        assert code == expected, f"exit code {code}, not {expected}:\n{self.text()}"
        return self.text()


def _main(
    log: Path,
    environment: dict[str, str],
    function: Callable[..., Any],
    arguments: Sequence[Any],
    settings: dict[str, Any],
) -> None:
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ.update({"ACCELERATE_USE_CPU": "1", **environment})
    multiprocessing.set_start_method("fork", force=True)  # data workers start as in an ordinary process
    function(*arguments, **settings)


def pair(
    folder: Path, name: str, function: Callable[..., Any], *arguments: Any, **settings: Any
) -> list[Run]:
    """Start two processes that find each other by gloo, as under torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together |= {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    return [
        Run(
            folder / f"{name}-{rank}.log",
            function,
            *arguments,
            environment={"RANK": str(rank), "LOCAL_RANK": str(rank), **together},
            **settings,
        )
        for rank in range(2)
    ]


def train_here(
    recipe: Path,
    run_dir: Path,
    cache: Path,
    overrides: Sequence[str] = (),
    *,
    signal_at: int | None = None,
    group: bool = False,
    ranks: Sequence[int] = (0, 1),
    slow: float = 0.0,
    hook: Callable[[int, Path], None] | None = None,
) -> None:
    """Train (or resume, when the run folder has a checkpoint) without the evaluation at the end.

    Args:
        recipe: File.
        run_dir: Where to.
        cache: Of the dataset.
        overrides: As on the command line.
        signal_at: Batch after which the process sends itself SIGTERM.
        group: The signal goes to the whole process group, workers included.
        ranks: Processes that send the signal.
        slow: Seconds to wait after each batch.
        hook: Called after each batch with its number and the run folder.
    """
    import datasets

    from hf_cells.errors import CellsError
    from hf_cells.training import display, loop, setup
    from hf_cells.training.launch import print_error
    from hf_cells.training.recipe import load_recipe

    datasets.config.HF_DATASETS_CACHE = cache
    shown = display.Display.step

    def step(self: Any, state: Any, lr: float, speed: float) -> None:
        shown(self, state, lr, speed)
        (run_dir / f"at-{os.environ.get('RANK', '0')}").write_text(f"{state.step} {os.getpid()}")
        if hook:
            hook(state.step, run_dir)
        if state.step == signal_at and self.accelerator.process_index in ranks:
            (os.killpg if group else os.kill)(os.getpid(), signal.SIGTERM)
        time.sleep(slow)

    display.Display.step = step
    _note_what_is_written(run_dir)
    resume = run_dir if any(run_dir.glob("checkpoints/step-*")) else None
    settings = load_recipe(resume / "recipe.yaml" if resume else recipe, overrides)
    settings["output_dir"] = str(run_dir)
    try:
        made, _ = setup.prepare(settings, resume)
        loop.train(made)
    except CellsError as error:
        print_error(error)
        raise SystemExit(1) from None
    if made.accelerator.is_main_process:
        torch.save(made.model.state_dict(), run_dir / "final.pt")


def main_here(cache: Path, *arguments: str) -> None:
    """Run the command line of training, evaluation and card included."""
    import datasets

    from hf_cells.training.main import main

    datasets.config.HF_DATASETS_CACHE = cache
    main(arguments)


def _note_what_is_written(run_dir: Path) -> None:
    """All that a run writes is moved into place; note what this process moves."""
    replace, rank = os.replace, os.environ.get("RANK", "0")
    run_dir.mkdir(parents=True, exist_ok=True)

    def noted(source: Any, target: Any) -> None:
        with (run_dir / f"written-by-{rank}").open("a") as handle:
            handle.write(f"{Path(target).name}\n")
        replace(source, target)

    os.replace = noted


def history(run_dir: Path) -> list[dict[str, str]]:
    """Rows of history.csv without the columns of the clock."""
    with (run_dir / "history.csv").open() as handle:
        return [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(handle)]


def assert_same_run(one: Path, other: Path) -> None:
    """Bit by bit: history, last checkpoint, best weights, and the model that training returned."""
    assert history(one) == history(other)
    last = [sorted((run / "checkpoints").glob("step-*"))[-1] for run in (one, other)]
    assert last[0].name == last[1].name
    for name in ("model", "average", "random"):
        assert_same_tensors(*(load_file(path / f"{name}.safetensors") for path in last))
    assert_same_tensors(*(load_file(run / "checkpoints" / "best.safetensors") for run in (one, other)))
    assert_same_tensors(*(torch.load(run / "final.pt", weights_only=True) for run in (one, other)))
    saved = [torch.load(path / "optimizer.pt", weights_only=True) for path in last]
    assert _plain(saved[0]) == _plain(saved[1])
    states = [json.loads((path / "state.json").read_text()) for path in last]
    assert _without_clock(states[0]) == _without_clock(states[1])


def assert_same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different


def _plain(value: Any) -> Any:
    """Tensors as lists of numbers, so that `==` compares every bit (but for NaN, which is not expected)."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(item) for key, item in value.items() if key not in TIMING}
    return [_without_clock(item) for item in value] if isinstance(value, list) else value


def forget_processes() -> None:
    """Let accelerate find out anew how many processes there are; it keeps that for the life of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def running(session: int) -> list[int]:
    """Processes of a session that are still there (zombies are not)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], Any], timeout: float = 90, what: str = "") -> Any:
    """Poll; fail after the timeout."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout} s for {what or condition}")

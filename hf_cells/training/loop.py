"""The training loop, to be read from top to bottom: `train(setup)` and what it calls in order.

Launch:
    accelerate launch train.py --recipe dsb2018_instance --data_dir stage1_train.zip
    torchrun --nproc_per_node 2 train.py --recipe …         (two processes on CPU: ACCELERATE_USE_CPU=1)
"""

import csv
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ..data.samples import EpochBatches, ImageRows, loader, workers_ended
from ..errors import CellsError
from ..files import atomic_write
from .averaging import MovingAverage
from .checkpoints import (
    check_resumable,
    list_checkpoints,
    random_state,
    read_checkpoint,
    restore_random_state,
    save_best,
    save_checkpoint,
)
from .display import Display
from .launch import StopSignal, any_process
from .optimisers import Schedule, make_optimizer
from .precision import FORMATS
from .task import Task
from .validation import is_better, validate


@dataclass
class Setup:
    """All that the loop needs, made by `hf_cells.training.setup`."""

    recipe: dict[str, Any]
    run_dir: Path
    accelerator: Accelerator
    model: Any
    processor: Any
    samples: Any
    batches: EpochBatches
    validation: ImageRows | None
    task: Task
    audit: dict[str, Any]  # what `refuse_leaks` found
    memory_format: str
    resume_from: Path | None = None
    part_of: Path | None = None  # run folder that this training is the first part of
    after_epoch: Callable[["State", dict[str, float]], None] | None = None  # may raise, to end the training

    @property
    def resume_folder(self) -> Path:
        """What --resume takes to continue this training."""
        return self.part_of or self.run_dir


@dataclass
class State:
    """Where training stands; saved with every checkpoint, as JSON."""

    epoch: int = 0  # the epoch in progress
    step_in_epoch: int = 0  # batches of it that are done
    step: int = 0  # batches done in all
    loss_sum: float = 0.0  # over the batches of this epoch that are done
    accuracy_sum: float | None = None  # the same for the share of right answers, where the task has them
    best_score: float | None = None
    best_epoch: int | None = None
    bad_validations: int = 0
    finished: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def train(setup: Setup) -> State:
    """Train until the epochs are over, patience ends, or a signal comes; the best weights are left in the model.

    Raises:
        CellsError: When the loss is no longer a number, or a file cannot be written.
    """
    settings, accelerator, model = setup.recipe["training"], setup.accelerator, setup.model
    metric = setup.recipe["evaluation"]["metric"]
    model.to(accelerator.device, memory_format=FORMATS[setup.memory_format])
    if accelerator.device.type == "cuda" and accelerator.num_processes > 1:
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = make_optimizer(model, settings["optimizer"], settings["layer_decay"])
    accumulation = settings["gradient_accumulation_steps"]
    schedule = Schedule(
        optimizer, settings["schedule"], setup.batches.steps // accumulation, settings["epochs"]
    )
    average = MovingAverage(model, settings["ema_decay"]) if settings["ema_decay"] else None
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    data = loader(setup.samples, setup.batches, settings["workers"])
    state, saved_random = State(), None
    if setup.resume_from:
        state, saved_random = _restore(setup, model, average, optimizer, schedule)

    display = Display(setup.recipe, setup.run_dir, accelerator, setup.batches.steps)
    begun = time.monotonic() - state.seconds
    with display, StopSignal() as stop, workers_ended(data):
        while state.epoch < settings["epochs"] and not state.finished:
            setup.batches.set_position(state.epoch, state.step_in_epoch)
            iterator = iter(data)
            if saved_random is not None:  # after the iterator has started, before the first forward
                restore_random_state(saved_random, accelerator.process_index, accelerator.device)
                saved_random = None
            wrapped.train()
            epoch_begun, images = time.monotonic(), 0
            for batch in iterator:
                loss, accuracy = _step(setup, wrapped, optimizer, schedule, average, batch)
                images += len(batch["pixel_values"]) * accelerator.num_processes
                state.step += 1
                state.step_in_epoch += 1
                state.loss_sum += float(loss)
                if accuracy is not None:
                    state.accuracy_sum = (state.accuracy_sum or 0.0) + float(accuracy)
                display.step(
                    state, optimizer.param_groups[0]["lr"], images / (time.monotonic() - epoch_begun)
                )
                state.finished = settings["max_steps"] is not None and state.step >= settings["max_steps"]
                if accelerator.sync_gradients:
                    broken, stopping = any_process(
                        accelerator, not math.isfinite(state.loss_sum), stop.noticed()
                    )
                    if broken:
                        raise _diverged("loss", setup, state, optimizer)
                    if stopping:
                        state.seconds = time.monotonic() - begun
                        _refuse_broken(model, setup, state, optimizer)
                        _leave(setup, display, stop, _save(setup, model, average, optimizer, schedule, state))
                if state.finished:
                    break
            _refuse_broken(model, setup, state, optimizer)
            speed = images / max(time.monotonic() - epoch_begun, 1e-9)
            row = {
                "epoch": state.epoch + 1,
                "step": state.step,
                "train_loss": _mean(accelerator, state.loss_sum / max(1, state.step_in_epoch)),
                **_train_accuracy(accelerator, state),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "images_per_second": round(speed, 2),
                "seconds": round(time.monotonic() - begun, 1),
            }
            last = state.finished or state.epoch + 1 == settings["epochs"]
            if setup.validation and ((state.epoch + 1) % settings["validate_every"] == 0 or last):
                with average.applied(model) if average else nullcontext():
                    scores = validate(setup.task, model, setup.processor, setup.validation, accelerator)
                    score = scores.get(metric, math.nan)  # undefined where no image has an object, for some
                    if is_better(score, state.best_score, metric):
                        state.best_score, state.best_epoch = score, state.epoch + 1
                        state.bad_validations = 0
                        validated = {f"validation_{name}": value for name, value in scores.items()}
                        _save_best(setup, model, optimizer, state, row | validated)
                    else:
                        state.bad_validations += 1
                schedule.after_validation(scores["loss"])
                row |= {f"validation_{name}": value for name, value in scores.items()}
                state.finished |= (
                    settings["patience"] is not None and state.bad_validations >= settings["patience"]
                )
            state.history.append(row)
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
            state.loss_sum, state.accuracy_sum = 0.0, None
            state.seconds = time.monotonic() - begun
            _write_history(setup, state)
            display.epoch(row, metric, state)
            if setup.after_epoch:
                setup.after_epoch(state, row)
            (stopping,) = any_process(accelerator, stop.noticed())
            if state.epoch % settings["checkpoint_every"] == 0 or last or state.finished or stopping:
                path = _save(setup, model, average, optimizer, schedule, state)
            if stopping:
                _leave(setup, display, stop, path)
    _load_best(setup, model, average)
    return state


def _step(
    setup: Setup, model: Any, optimizer: Any, schedule: Schedule, average: MovingAverage | None, batch: Any
) -> tuple[Tensor, Tensor | None]:
    """One batch: forward, backward, and on every accumulation boundary an update; returns loss and accuracy."""
    accelerator, clip = setup.accelerator, setup.recipe["training"]["clip_grad_norm"]
    batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in batch.items()}
    batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=FORMATS[setup.memory_format])
    with accelerator.accumulate(model):
        output = model(**batch)
        loss = output.loss
        accelerator.backward(loss)
        if accelerator.sync_gradients and clip:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if accelerator.sync_gradients:
            schedule.step()
            if average:
                average.update(accelerator.unwrap_model(model))
    return loss.detach(), setup.task.accuracy(output.logits, batch)


def _diverged(what: str, setup: Setup, state: State, optimizer: Any) -> CellsError:
    found = list_checkpoints(setup.run_dir / "checkpoints")
    last = (
        f"resume from {found[-1]} with --resume {setup.resume_folder}"
        if found
        else "no checkpoint was saved yet"
    )
    return CellsError(
        f"the {what} is no longer a number at step {state.step} (learning rate "
        f"{optimizer.param_groups[0]['lr']:.2g}): lower training.optimizer.lr or set training.precision=fp32; {last}"
    )


def _refuse_broken(model: Any, setup: Setup, state: State, optimizer: Any) -> None:
    """A last, broken update shows in no loss before it is in a checkpoint."""
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise _diverged("model", setup, state, optimizer)


def _leave(setup: Setup, display: Display, stop: StopSignal, path: Path) -> NoReturn:
    reason = stop.reason or "another process was told to"
    display.say(f"stopped ({reason}); saved {path}; continue with --resume {setup.resume_folder}")
    raise SystemExit(143)


def _train_accuracy(accelerator: Accelerator, state: State) -> dict[str, float]:
    if state.accuracy_sum is None:
        return {}
    return {"train_accuracy": _mean(accelerator, state.accuracy_sum / max(1, state.step_in_epoch))}


def _mean(accelerator: Accelerator, value: float) -> float:
    values = gather_object([value])
    return sum(values) / len(values)


def _save(setup: Setup, model: Any, average: Any, optimizer: Any, schedule: Schedule, state: State) -> Path:
    """Write a checkpoint; the main process alone writes, all give their random state and loss."""
    accelerator = setup.accelerator
    random = gather_object([random_state(accelerator.device)])
    loss_sums = gather_object([state.loss_sum])
    accuracy_sums = gather_object([state.accuracy_sum])
    folder = setup.run_dir / "checkpoints"
    if accelerator.is_main_process:
        scaler = accelerator.scaler.state_dict() if accelerator.scaler else {}
        settings = setup.recipe["training"]
        sidecar = {**_settings(setup, optimizer), "loss_sums": loss_sums, "accuracy_sums": accuracy_sums}
        save_checkpoint(
            folder,
            weights=model.state_dict(),
            average=average.state_dict() if average else None,
            optimizer={
                "name": settings["optimizer"]["name"],
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "scaler": scaler,
            },
            random=random,
            state={**asdict(state), **sidecar},
            keep=settings["keep_checkpoints"],
        )
    accelerator.wait_for_everyone()
    return folder / f"step-{state.step:08d}"


def _settings(setup: Setup, optimizer: Any) -> dict[str, Any]:
    """What a sidecar says of the settings, so that weights are never without them."""
    processes = setup.accelerator.num_processes
    return {
        "batch_size": setup.recipe["training"]["batch_size"] * processes,
        "processes": processes,
        "learning_rate": optimizer.param_groups[0]["lr"],
        "image_mean": setup.processor.image_mean,
        "image_std": setup.processor.image_std,
    }


def _restore(
    setup: Setup, model: Any, average: Any, optimizer: Any, schedule: Schedule
) -> tuple[State, dict[str, Tensor]]:
    assert setup.resume_from is not None
    accelerator = setup.accelerator
    saved = read_checkpoint(setup.resume_from)
    known = State.__dataclass_fields__.keys()
    state = State(**{k: v for k, v in saved["state"].items() if k in known})
    # Whether that was the end depends on today's settings: more steps or more patience may have been asked for.
    settings = setup.recipe["training"]
    state.finished = (settings["max_steps"] is not None and state.step >= settings["max_steps"]) or (
        settings["patience"] is not None and state.bad_validations >= settings["patience"]
    )
    today = _settings(setup, optimizer)
    check_resumable(
        setup.resume_from, saved["state"], today["batch_size"], today["processes"], setup.processor
    )
    state.loss_sum = saved["state"]["loss_sums"][accelerator.process_index]
    state.accuracy_sum = saved["state"]["accuracy_sums"][accelerator.process_index]
    try:
        name = setup.recipe["training"]["optimizer"]["name"]
        if saved["optimizer"]["name"] != name:  # torch would take the numbers of another kind
            raise ValueError(f"the optimiser is {name}, it was {saved['optimizer']['name']}")
        model.load_state_dict(saved["weights"])
        if average:
            average.load_state_dict(saved["average"] or saved["weights"])
        optimizer.load_state_dict(saved["optimizer"]["optimizer"])
        schedule.load_state_dict(saved["optimizer"]["schedule"])
        if accelerator.scaler and saved["optimizer"]["scaler"]:
            accelerator.scaler.load_state_dict(saved["optimizer"]["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CellsError(
            f"{setup.resume_from} does not fit the recipe ({' '.join(str(error).split())[:200]}); "
            "resume with the model, optimiser and schedule that it was saved with"
        ) from error
    return state, saved["random"]


def _save_best(setup: Setup, model: Any, optimizer: Any, state: State, row: dict[str, float]) -> None:
    """Write the weights and their sidecar, whose history ends with the epoch that they come from."""
    if setup.accelerator.is_main_process:
        sidecar = {
            "epoch": state.best_epoch,
            "step": state.step,
            "metric": setup.recipe["evaluation"]["metric"],
            "best_score": state.best_score,
            **_settings(setup, optimizer),
            "history": [*state.history, row],
        }
        save_best(setup.run_dir / "checkpoints", model.state_dict(), sidecar)
    setup.accelerator.wait_for_everyone()


def _load_best(setup: Setup, model: Any, average: MovingAverage | None) -> None:
    from safetensors.torch import load_file

    best = setup.run_dir / "checkpoints" / "best.safetensors"
    if best.exists():
        model.load_state_dict(load_file(best))
    elif average:
        model.load_state_dict(average.shadow)


def _write_history(setup: Setup, state: State) -> None:
    if not setup.accelerator.is_main_process:
        return
    columns = list(dict.fromkeys(name for row in state.history for name in row))
    with atomic_write(setup.run_dir / "history.csv") as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(state.history)

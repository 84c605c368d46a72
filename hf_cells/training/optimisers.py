"""Optimisers and learning-rate schedules by name."""

import math
from typing import Any

import timm.optim
import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from ..errors import CellsError

# Muon (Jordan et al. 2024) makes the update of each kernel orthogonal, and is AdamW for biases and norms.
OPTIMISERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "muon": timm.optim.Muon,
}


def make_optimizer(model: nn.Module, settings: dict[str, Any], layer_decay: float | None = None) -> Optimizer:
    """Build Adam, AdamW, SGD or Muon; weight decay spares biases and norms.

    Args:
        model: Frozen parameters are left out.
        settings: `{"name": "adamw", "lr": 1e-3, …}`, further keys as in `torch.optim`.
        layer_decay: The learning rate of each of the model's `layers()` is this times that of the layer above it
            (Clark et al. 2020); the head has the full rate. None: one rate for all.

    Raises:
        CellsError: Unknown names or arguments, or nothing to train.
    """
    arguments = dict(settings)
    name = arguments.pop("name")
    if name not in OPTIMISERS:
        raise CellsError(f"training.optimizer.name={name!r} is unknown; choose from: {', '.join(OPTIMISERS)}")
    _check_rate(arguments.get("lr", 1e-3))
    decay = arguments.pop("weight_decay", 0.0)
    groups = []
    for parameters, factor in _by_rate(model, layer_decay):
        rate = {} if factor == 1 else {"lr": arguments.get("lr", 1e-3) * factor}  # torch's own default
        groups += [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay, **rate},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, **rate},
        ]
    if not any(group["params"] for group in groups):
        raise CellsError("no weight of the model learns: set training.freeze to fewer layers")
    try:
        return OPTIMISERS[name](groups, **arguments)
    except (TypeError, ValueError) as error:
        raise CellsError(f"training.optimizer: {error}") from error


def _check_rate(lr: Any) -> None:
    """Refuse what is no rate: nan is text for YAML, and so is 1e-3 without a point."""
    number = isinstance(lr, int | float) and not isinstance(lr, bool)
    if not number or not math.isfinite(lr) or lr <= 0:
        raise CellsError(f"training.optimizer.lr={lr}: give a number above 0, such as 1.0e-3")


def _by_rate(model: Any, layer_decay: float | None) -> list[tuple[list[nn.Parameter], float]]:
    """Learning parameters with the factor of their rate; the full rate comes first, as displays show that one."""
    learning = [p for p in model.parameters() if p.requires_grad]
    if layer_decay is None:
        return [(learning, 1.0)]
    if not hasattr(model, "layers"):
        raise CellsError("training.layer_decay needs a classifier; this model has no list of layers")
    layers = [list(layer.parameters()) for layer in model.layers()]
    if layers:  # the backbone's own, such as a class token or positions, go with the input
        layers[0] += model.backbone.parameters(recurse=False)
    parts = [
        ([p for p in layer if p.requires_grad], layer_decay**height)
        for height, layer in enumerate(reversed(layers), 1)
    ]
    inside = {id(p) for parameters, _ in parts for p in parameters}
    return [([p for p in learning if id(p) not in inside], 1.0), *parts]


class Schedule:
    """One interface over schedules that step per batch and the plateau schedule that steps per validation.

    Names and arguments:
        constant; cosine (warmup steps, floor share of lr); cosine_restarts (T_0 and T_mult in epochs, eta_min);
        one_cycle (max_lr, pct_start); piecewise (milestones in epochs, values of lr); plateau (factor, patience in
        validations, min_lr; watches the validation loss).
    """

    def __init__(self, optimizer: Optimizer, settings: dict[str, Any], steps_per_epoch: int, epochs: int):
        arguments = dict(settings)
        self.name = arguments.pop("name")
        self.optimizer, self.lr = optimizer, optimizer.param_groups[0]["lr"]
        total = max(1, steps_per_epoch * epochs)
        makers: dict[str, Any] = {
            "constant": _constant,
            "cosine": _cosine,
            "cosine_restarts": _restarts,
            "one_cycle": _one_cycle,
            "piecewise": _piecewise,
            "plateau": _plateau,
        }
        if self.name not in makers:
            raise CellsError(
                f"training.schedule.name={self.name!r} is unknown; choose from: {', '.join(makers)}"
            )
        try:
            self.scheduler: Any = makers[self.name](optimizer, total, steps_per_epoch, **arguments)
        except (TypeError, ValueError) as error:
            raise CellsError(f"training.schedule: {error}") from error

    def step(self) -> None:
        """Call after every optimiser step."""
        if self.name != "plateau":
            self.scheduler.step()

    def after_validation(self, loss: float) -> None:
        """Call with the mean validation loss (of all batches, not the last one)."""
        if self.name == "plateau":
            self.scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints."""
        return {"name": self.name, "lr": self.lr, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint, after the optimiser. Another learning rate or length in the recipe wins."""
        if state["name"] != self.name:
            raise ValueError(f"the schedule is {self.name}, it was {state['name']}")
        length = ("total_steps", "_schedule_phases")
        self.scheduler.load_state_dict({k: v for k, v in state["scheduler"].items() if k not in length})
        if state["lr"] != self.lr:
            ratio = self.lr / state["lr"]
            for group in self.optimizer.param_groups:
                group |= {k: group[k] * ratio for k in ("lr", "initial_lr", "max_lr", "min_lr") if k in group}
            if self.name != "plateau":
                self.scheduler.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]


def _constant(optimizer: Optimizer, total: int, per_epoch: int) -> Any:
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def _cosine(optimizer: Optimizer, total: int, per_epoch: int, warmup: int = 100, floor: float = 0.005) -> Any:
    warmup = min(warmup, total // 5)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return lr_scheduler.LambdaLR(optimizer, factor)


def _restarts(
    optimizer: Optimizer, total: int, per_epoch: int, T_0: int = 10, T_mult: int = 1, eta_min: float = 0.0
) -> Any:
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0 * per_epoch, T_mult, eta_min)


def _one_cycle(
    optimizer: Optimizer, total: int, per_epoch: int, max_lr: float | None = None, pct_start: float = 0.3
) -> Any:
    share = (max_lr or optimizer.param_groups[0]["lr"]) / optimizer.param_groups[0]["lr"]
    peak = [group["lr"] * share for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, peak, total_steps=total + 1, pct_start=pct_start)


def _piecewise(
    optimizer: Optimizer, total: int, per_epoch: int, milestones: list[int], values: list[float]
) -> Any:
    if len(values) != len(milestones) + 1:
        raise CellsError("training.schedule: piecewise needs one more entry in values than in milestones")
    base = optimizer.param_groups[0]["lr"]

    def factor(step: int) -> float:
        return values[sum(step >= m * per_epoch for m in milestones)] / base

    return lr_scheduler.LambdaLR(optimizer, factor)


def _plateau(
    optimizer: Optimizer,
    total: int,
    per_epoch: int,
    factor: float = 0.1,
    patience: int = 5,
    min_lr: float = 0.0,
) -> Any:
    return lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor, patience, min_lr=min_lr)

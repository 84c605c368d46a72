"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Keeps a smoothed copy of weights and buffers; validation and the saved model use it.

    The decay warms up as (1 + step) / (10 + step), so that the first, poor weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.step = 0
        self.shadow: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the copy towards the model; integers (batch counts) are copied."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        current = model.state_dict()
        names = [k for k, v in self.shadow.items() if v.dtype.is_floating_point]
        torch._foreach_lerp_([self.shadow[k] for k in names], [current[k] for k in names], 1 - decay)
        for name in self.shadow.keys() - set(names):
            self.shadow[name].copy_(current[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the average into the model for the length of the block."""
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.shadow)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors for a safetensors file; the step travels as a tensor too."""
        return {**{k: v.contiguous() for k, v in self.shadow.items()}, "_step": torch.tensor(self.step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore from `state_dict`, or begin anew from the weights of a model."""
        self.step = int(state.get("_step", 0))
        for name, value in self.shadow.items():
            value.copy_(state[name])

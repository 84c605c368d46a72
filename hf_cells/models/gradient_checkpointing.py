"""Gradient checkpointing for networks of our blocks and for ready timm networks."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


class CheckpointedModel(PreTrainedModel):
    """A model whose blocks are computed again in the backward pass, when asked, in place of being kept."""

    supports_gradient_checkpointing = True
    _computes_again = False

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        self._computes_again = enable
        ready: list[Any] = [module for module in self.modules() if hasattr(module, "set_grad_checkpointing")]
        for module in ready:  # timm has a switch of its own
            module.set_grad_checkpointing(enable)
        if not ready or any(isinstance(module, GradientCheckpointingLayer) for module in self.modules()):
            super()._set_gradient_checkpointing(enable, *args, **kwargs)

    def checkpointable(self, pixel_values: Tensor) -> Tensor:
        """Return an input that the first block can be computed again from: re-entrant checkpointing leaves a block
        without gradients whose input needs none.
        """
        if self.training and self._computes_again and not pixel_values.requires_grad:
            return pixel_values.detach().requires_grad_()
        return pixel_values


__all__ = ["CheckpointedModel"]

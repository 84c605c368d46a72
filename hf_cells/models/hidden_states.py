"""`output_hidden_states`, for networks whose forward pass knows nothing of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded(modules: Iterable[nn.Module], wanted: bool) -> Iterator[list[Tensor]]:
    """Collect what modules return inside the block, in the order of their calls; nothing unless it is wanted."""
    states: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        states.extend([output] if isinstance(output, Tensor) else output)

    handles = [module.register_forward_hook(keep) for module in modules] if wanted else []
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def wants_hidden_states(config: Any, asked: bool | None) -> bool:
    """What the call asks for, else what the configuration says."""
    return bool(getattr(config, "output_hidden_states", False) if asked is None else asked)


__all__ = ["recorded", "wants_hidden_states"]

"""Average pooling to a given size, for images of any size, in operators that every format has."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def pooled_by_matrices(model: nn.Module) -> Iterator[None]:
    """Compute every `AdaptiveAvgPool2d` of a model as two products of matrices, inside the block.

    ONNX has no such operator: its exporter would write down which pixels each mean is of, for the size of the example
    alone, and say nothing.
    """
    pools: list[Any] = [module for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    for pool in pools:
        size = pool.output_size
        pool.forward = partial(_pooled, counts=size if isinstance(size, tuple) else (size, size))
    try:
        yield
    finally:
        for pool in pools:
            del pool.forward


def _pooled(x: Tensor, counts: tuple[int, int]) -> Tensor:
    rows, columns = (_means(extent, count, x) for extent, count in zip(x.shape[-2:], counts))
    return rows @ x @ columns.mT


def _means(extent: int, count: int, like: Tensor) -> Tensor:
    """`(count, extent)` weights of the means of `count` stretches of an axis, which may share a pixel."""
    pixel = torch.arange(extent, device=like.device)
    stretch = torch.arange(count, device=like.device)[:, None]
    inside = (pixel >= stretch * extent // count) & (pixel < ((stretch + 1) * extent + count - 1) // count)
    weights = inside.to(like.dtype)
    return weights / weights.sum(1, keepdim=True)

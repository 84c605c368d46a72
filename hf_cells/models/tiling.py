"""Large images in overlapping tiles, blended so that no seam shows."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Share of the overlap, at each tile's edge, that counts nothing: there the convolutions saw padding.
_BLIND = 0.25


def tiled_logits(
    model_fn: Callable[[Tensor], Tensor],
    pixel_values: Tensor,
    tile: int = 1024,
    overlap: int = 128,
    multiple: int = 32,
) -> Tensor:
    """Run `model_fn` on overlapping tiles and blend what it returns.

    Where a tile's pixels see nothing but the tile (their receptive field), the result is that of the whole image;
    elsewhere the neighbour, which sees more there, has the larger weight. An image that fits into one tile is passed
    on as it is. One tile is in work at a time, so the memory needed is that of the result and of one tile.

    Args:
        model_fn: `(B, C, h, w)` to `(B, K, h, w)`, for any h and w.
        pixel_values: `(B, C, H, W)` float.
        tile: Largest side of a tile in pixels, rounded down to a multiple of `multiple`.
        overlap: Pixels that neighbours share at least.
        multiple: Tiles start at multiples of this, so that the network's pooling falls on the same pixels as in the
            whole image.

    Returns:
        `(B, K, H, W)` float32 on the device of `pixel_values`; of an image in one tile, whatever `model_fn` gives.

    Raises:
        ValueError: When the tile has no room for the overlap.
    """
    height, width = pixel_values.shape[-2:]
    if max(height, width) <= tile:
        return model_fn(pixel_values)
    side = tile // multiple * multiple
    step = (side - overlap) // multiple * multiple
    if overlap < 0 or step < 1:
        least = -(-(max(overlap, 0) + multiple) // multiple) * multiple
        raise ValueError(
            f"tile={tile} and overlap={overlap} leave no tile to move on; give a tile of at least {least}"
        )
    rows, columns = (_spans(length, side, step, multiple) for length in (height, width))
    row_weights, column_weights = _weights(rows, height, overlap), _weights(columns, width, overlap)
    blended: Tensor | None = None
    for (top, bottom), row_weight in zip(rows, row_weights):
        for (left, right), column_weight in zip(columns, column_weights):
            maps = model_fn(pixel_values[..., top:bottom, left:right]).float()
            if blended is None:
                blended = maps.new_zeros((*maps.shape[:2], height, width))
            weight = row_weight[:, None] * column_weight[None, :]
            blended[..., top:bottom, left:right] += maps * weight.to(maps.device)
    assert blended is not None
    return blended


def _spans(length: int, tile: int, step: int, multiple: int) -> list[tuple[int, int]]:
    """Start and end of the tiles along one axis; all starts are multiples, the last tile ends with the image."""
    last = max(0, math.ceil((length - tile) / multiple) * multiple)
    starts = [*range(0, last, step), last]
    return [(start, min(start + tile, length)) for start in starts]


def _weights(spans: list[tuple[int, int]], length: int, overlap: int) -> list[Tensor]:
    """Weights of the tiles along one axis: a raised cosine over each inner edge; they add up to one everywhere."""
    weights, total = [], torch.zeros(length, dtype=torch.float64)
    for start, end in spans:
        x = torch.arange(start, end, dtype=torch.float64) + 0.5
        from_left = x - start if start > 0 else torch.full_like(x, math.inf)
        from_right = end - x if end < length else torch.full_like(x, math.inf)
        inside = torch.minimum(from_left, from_right) / max(overlap, 1)
        ramp = ((inside - _BLIND) / (1 - 2 * _BLIND)).clamp(0, 1)
        weights.append(torch.sin(ramp * math.pi / 2) ** 2)
        total[start:end] += weights[-1]
    return [(weight / total[start:end]).float() for weight, (start, end) in zip(weights, spans)]


__all__ = ["tiled_logits"]

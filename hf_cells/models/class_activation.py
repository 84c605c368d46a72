"""Where a classifier looks: class activation maps, boxes from them, and colours for people."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def class_activation_map(model: Any, pixel_values: Tensor, class_id: int | Tensor | None = None) -> Tensor:
    """Map of what speaks for a class.

    Where the head is one linear layer after global average or maximum pooling, the map is the sum of the last
    feature maps with the class's weights (Zhou et al. 2016, arXiv:1512.04150; with maximum pooling as Oquab et al.
    2015). Every other head gets Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) on the same maps.

    Args:
        model: A [`CellForImageClassification`].
        pixel_values: `(B, num_channels, H, W)` float, from the image processor.
        class_id: One class, or `(B,)` int64, one an image; None takes the best scored class of each.

    Returns:
        `(B, H, W)` float32 from 0 to 1, each image scaled on its own; 0 everywhere where nothing speaks for the class.

    Raises:
        ValueError: The backbone gives no maps (a network without convolutions), or there is no such class.
    """
    with _evaluating(model):
        if _is_linear_after_pooling(model):
            maps, logits = _maps_and_logits(model, pixel_values)
            weights = model.head.classifier.weight[_classes(model, logits, class_id)]
            activation = torch.einsum("bchw,bc->bhw", maps, weights.detach().float())
        else:
            activation = _gradients(model, pixel_values, class_id)
    return _scaled(activation, _size(pixel_values))


def class_activation_maps(
    model: Any, pixel_values: Tensor, class_ids: Sequence[int], signed: bool = False
) -> Tensor:
    """Maps of several classes, `(B, len(class_ids), H, W)`; as `class_activation_map` gives them one by one.

    Where the head is linear after pooling all of them together cost one pass through the network.

    Args:
        model: A [`CellForImageClassification`].
        pixel_values: `(B, num_channels, H, W)` float, from the image processor.
        class_ids: The classes.
        signed: Scale from the lowest to the highest value of each map in place of clipping what speaks against the
            class, so that a map has a maximum even where nothing speaks for the class.

    Raises:
        ValueError: As for `class_activation_map`.
    """
    with _evaluating(model):
        if _is_linear_after_pooling(model):
            maps, logits = _maps_and_logits(model, pixel_values)
            for class_id in class_ids:
                _classes(model, logits, class_id)
            weights = model.head.classifier.weight[list(class_ids)]
            stacked = torch.einsum("bchw,kc->bkhw", maps, weights.detach().float())
        else:
            stacked = torch.stack([_gradients(model, pixel_values, one) for one in class_ids], 1)
    scaled = _scaled(stacked.flatten(0, 1), _size(pixel_values), signed)
    return scaled.unflatten(0, stacked.shape[:2])


def maps_over_image(
    pipe: Any, image: np.ndarray, class_ids: Sequence[int], signed: bool = False
) -> np.ndarray:
    """Maps of several classes in the pixels of the image itself, whatever the image processor makes of its size.

    Args:
        pipe: A `cell-classification` pipeline.
        image: `(H, W)` or `(H, W, C)` of any type.
        class_ids: K classes.
        signed: See `class_activation_maps`.

    Returns:
        `(K, H, W)` float32 from 0 to 1; see `class_activation_map`.
    """
    pixels = pipe.image_processor(image)["pixel_values"].to(pipe.device, pipe.model.dtype)
    maps = class_activation_maps(pipe.model, pixels, class_ids, signed)[0].float().cpu()
    return pipe.image_processor.to_original_size(maps, image.shape[:2]).numpy()


def activation_method(model: Any) -> str:
    """How the maps of this model are made: "CAM" or "Grad-CAM", see `class_activation_map`.

    Raises:
        ValueError: It cannot give any.
    """
    _refuse_without_maps(model)
    if _is_linear_after_pooling(model):
        return "CAM"
    _last_maps_module(model)
    return "Grad-CAM"


def peak_of(activation: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the maximum of `(H, W)`; None for an empty map, which points nowhere.

    Where several pixels share it (to four digits: a plateau must not be decided by rounding), it is the one nearest to
    their middle.
    """
    highest = activation.max()
    if not highest > 0:
        return None
    rows, columns = np.nonzero(activation >= highest * (1 - 1e-4))
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(rows[nearest]), int(columns[nearest])


def feature_maps(model: Any, pixel_values: Tensor) -> Tensor:
    """Return the last `(B, C, h, w)` maps of the backbone, whichever library it comes from.

    Raises:
        ValueError: The backbone has none.
    """
    backbone = model.backbone
    _refuse_without_maps(model)
    maps = (
        backbone.forward_features(pixel_values)
        if hasattr(backbone, "forward_features")
        else backbone(pixel_values)
    )
    if maps.ndim == 3:  # tokens of a transformer: leave out those that stand for no place
        tokens = maps[:, getattr(backbone, "num_prefix_tokens", 0) :]
        side = round(tokens.shape[1] ** 0.5)
        if side * side != tokens.shape[1]:
            raise ValueError(
                f"{model.config.backbone} gives {tokens.shape[1]} tokens, which are no square map"
            )
        return tokens.transpose(1, 2).unflatten(2, (side, side))
    wanted = int(getattr(backbone, "num_features", 0))
    return maps.movedim(-1, 1) if maps.shape[1] != wanted and maps.shape[-1] == wanted else maps


def box_of(activation: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box around the strongest region of a map, cut at Otsu's threshold.

    Args:
        activation: `(H, W)` from 0 to 1.

    Returns:
        Top, left, bottom and right (exclusive) of the region that holds the maximum; None for a map without contrast.
    """
    from scipy import ndimage

    if np.ptp(activation) < 1e-6:
        return None
    regions, _ = ndimage.label(activation > _otsu(activation))
    best = regions[np.unravel_index(activation.argmax(), activation.shape)]
    rows, columns = ndimage.find_objects((regions == best).astype(np.uint8))[0]
    return rows.start, columns.start, rows.stop, columns.stop


def _otsu(values: np.ndarray, bins: int = 256) -> float:
    """Threshold that parts the values best into two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = np.cumsum((counts * centres)[::-1])[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(edges[1:][between.argmax()])


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Lend the model for evaluation: batch statistics must not move."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _refuse_without_maps(model: Any) -> None:
    if model.config.backbone is None and not model.config.hidden_sizes:
        raise ValueError("a network without convolutions has no maps: it looks at all pixels at once")


def _size(pixel_values: Tensor) -> tuple[int, int]:
    return int(pixel_values.shape[-2]), int(pixel_values.shape[-1])


@torch.no_grad()
def _maps_and_logits(model: Any, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    maps = feature_maps(model, pixel_values)
    return maps.float(), model.head(_pooled(maps, model))


def _is_linear_after_pooling(model: Any) -> bool:
    plain = len(model.head.hidden) == 0 and model.config.head_type == "linear"
    if not plain or model.config.pooling == "flatten" or model.config.backbone == "alexnet":
        return False
    # A timm model may have layers between its maps and the head; then its maps have another width than its features.
    return (
        model.config.backbone is None or int(model.backbone.num_features) == model.head.classifier.in_features
    )


def _pooled(maps: Tensor, model: Any) -> Tensor:
    return maps.amax((-2, -1)) if model.config.pooling == "max" else maps.mean((-2, -1))


def _classes(model: Any, logits: Tensor, class_id: int | Tensor | None) -> Tensor:
    if class_id is None:
        return logits.argmax(1)
    chosen = torch.as_tensor(class_id, device=logits.device).long().expand(len(logits))
    if chosen.min() < 0 or chosen.max() >= logits.shape[1]:
        raise ValueError(f"there is no class {class_id}; the model has {logits.shape[1]}")
    return chosen


def _gradients(model: Any, pixel_values: Tensor, class_id: int | Tensor | None) -> Tensor:
    """Grad-CAM: the maps, weighted by the mean of the class score's gradient over each."""
    kept: dict[str, Tensor] = {}
    source = _last_maps_module(model)

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not output.requires_grad:  # of a frozen backbone
            output = output.clone().requires_grad_()
        kept["maps"] = output
        return output

    handle = source.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = model.head(model.features(pixel_values))
            score = logits.gather(1, _classes(model, logits, class_id)[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, kept["maps"])
    finally:
        handle.remove()
    maps = kept["maps"].detach()
    if maps.ndim == 4 and maps.shape[1] == maps.shape[2] != maps.shape[-1]:  # channels last (Swin)
        maps, gradient = maps.movedim(-1, 1), gradient.movedim(-1, 1)
    return F.relu((maps * gradient.mean((-2, -1), keepdim=True)).sum(1)).float()


def _last_maps_module(model: Any) -> nn.Module:
    """The last convolution of the backbone: whatever follows it moves nothing."""
    found = [
        module
        for module in model.backbone.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    if not found:
        raise ValueError("the backbone has no convolutions, so there is no map to weigh")
    return found[-1]


def _scaled(activation: Tensor, size: tuple[int, int], signed: bool = False) -> Tensor:
    """Bring to the size of the image; scale each map to 1 from 0, what speaks against the class clipped, or from its
    lowest value.
    """
    maps = F.interpolate(activation[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    lowest = maps.amin((-2, -1), keepdim=True) if signed else 0
    maps = (maps - lowest).clamp(min=0)
    return maps / maps.amax((-2, -1), keepdim=True).clamp(min=1e-12)


__all__ = [
    "activation_method",
    "box_of",
    "class_activation_map",
    "class_activation_maps",
    "feature_maps",
    "maps_over_image",
    "peak_of",
]

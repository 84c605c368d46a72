"""Segmentation losses on logits. All return a scalar tensor and ignore `ignore_index`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_dice_loss(
    probabilities: Tensor, targets: Tensor, valid: Tensor | None = None, smooth: float = 1.0
) -> Tensor:
    """One minus Dice per image and channel, averaged (Milletari et al. 2016, with the smooth term of the U-Net ports).

    Args:
        probabilities: `(B, C, H, W)` in [0, 1].
        targets: `(B, C, H, W)`, 0 or 1.
        valid: `(B, 1, H, W)` mask of pixels that count, or None.
        smooth: Added to both sides of the quotient, so that empty against empty is perfect.
    """
    if valid is not None:
        probabilities, targets = probabilities * valid, targets * valid
    both = (probabilities * targets).sum((-2, -1))
    total = probabilities.sum((-2, -1)) + targets.sum((-2, -1))
    return (1 - (2 * both + smooth) / (total + smooth)).mean()


def label_dice_loss(probabilities: Tensor, labels: Tensor, ignore_index: int, smooth: float = 1.0) -> Tensor:
    """`soft_dice_loss` of every label but 0 against its own pixels, without writing out a mask for each.

    The background's Dice is near 1 whatever happens; leaving it out lets the objects lead.

    Args:
        probabilities: `(B, num_labels, H, W)`.
        labels: `(B, H, W)` int64.
        ignore_index: Label left out.
        smooth: As in `soft_dice_loss`.
    """
    valid = labels != ignore_index
    place = labels.masked_fill(~valid, 0)
    counted = valid.to(probabilities.dtype)
    own = (probabilities.gather(1, place[:, None])[:, 0] * counted).flatten(1)
    empty = probabilities.new_zeros(probabilities.shape[:2])
    both = empty.scatter_add(1, place.flatten(1), own)
    pixels = empty.scatter_add(1, place.flatten(1), counted.flatten(1))
    total = torch.einsum("bchw,bhw->bc", probabilities, counted) + pixels
    first = 1 if probabilities.shape[1] > 1 else 0
    return (1 - (2 * both + smooth) / (total + smooth))[:, first:].mean()


def focal_loss(logits: Tensor, labels: Tensor, ignore_index: int, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that fades where the model is already sure (Lin et al. 2017, arXiv:1708.02002)."""
    cross_entropy = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
    valid = labels != ignore_index
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).sum() / valid.sum().clamp(min=1)


def semantic_loss(
    logits: Tensor,
    labels: Tensor,
    name: str = "cross_entropy",
    class_weights: list[float] | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Loss of a label map.

    Args:
        logits: `(B, num_labels, H, W)` float.
        labels: `(B, H, W)` int64; `ignore_index` where nothing is known.
        name: "cross_entropy", "dice", "cross_entropy+dice" or "focal".
        class_weights: One weight a label for the cross-entropy.
        ignore_index: Label left out.

    Raises:
        ValueError: On an unknown name.
    """
    logits, labels = logits.float(), labels.long()
    total = logits.new_zeros(())
    for part in name.split("+"):
        if part == "cross_entropy":
            weight = None if class_weights is None else logits.new_tensor(class_weights)
            total = total + F.cross_entropy(logits, labels, weight, ignore_index=ignore_index)
        elif part == "dice":
            total = total + label_dice_loss(logits.softmax(1), labels, ignore_index)
        elif part == "focal":
            total = total + focal_loss(logits, labels, ignore_index)
        else:
            raise ValueError(
                f"unknown loss {part!r}; choose cross_entropy, dice, cross_entropy+dice or focal"
            )
    return total

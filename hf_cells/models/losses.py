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
            valid = labels != ignore_index
            one_hot = F.one_hot(labels.masked_fill(~valid, 0), logits.shape[1]).movedim(-1, 1)
            # The background's Dice is near 1 whatever happens; leaving it out lets the objects lead.
            first = 1 if logits.shape[1] > 1 else 0
            total = total + soft_dice_loss(logits.softmax(1)[:, first:], one_hot[:, first:], valid[:, None])
        elif part == "focal":
            total = total + focal_loss(logits, labels, ignore_index)
        else:
            raise ValueError(
                f"unknown loss {part!r}; choose cross_entropy, dice, cross_entropy+dice or focal"
            )
    return total

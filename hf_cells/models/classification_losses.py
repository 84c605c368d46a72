"""Classification losses on logits. Labels may be soft, as MixUp, CutMix and Mosaic make them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    name: str = "cross_entropy",
    *,
    multi_label: bool = False,
    class_weights: list[float] | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
    focal_alpha: float | None = None,
    tversky_alpha: float = 0.8,
    tversky_beta: float = 0.5,
) -> Tensor:
    """Loss of a batch.

    Args:
        logits: `(B, K)` float.
        labels: `(B,)` int64, or `(B, K)` float: probabilities of the classes, or 0/1 for each label of a multi-label
            problem. The loss of a mixture of labels is the mixture of their losses, but for smooth_l1 and tversky.
        name: "cross_entropy", "bce" (one against the rest), "focal" (Lin et al. 2017, arXiv:1708.02002), "smooth_l1"
            (between probabilities and labels, bending at 0.5; Girshick 2015), "hinge" (multi-class: Crammer & Singer
            2001 as in `torch.nn.MultiMarginLoss`; multi-label: one hinge a label) or "tversky" (Salehi et al. 2017,
            arXiv:1706.05721, over all labels of the batch together, so that rare ones are not drowned by the absent).
        multi_label: Whether each label is a question of its own.
        class_weights: Weight of each class; the weighted mean is taken, as torch's cross-entropy does.
        label_smoothing: Share of the label given to all classes alike, for cross_entropy.
        focal_gamma: Exponent of the focal loss.
        focal_alpha: Weight of the labels that are there, 1 - alpha that of the absent ones (multi-label focal loss);
            None weighs both alike.
        tversky_alpha: Cost of a false positive, against that of a hit.
        tversky_beta: Cost of a false negative.

    Returns:
        Scalar tensor.

    Raises:
        ValueError: On an unknown name.
    """
    logits = logits.float()
    classes = logits.shape[1]
    soft = labels.float() if labels.ndim == 2 else F.one_hot(labels.long(), classes).float()
    if name == "cross_entropy":
        smooth = soft * (1 - label_smoothing) + label_smoothing / classes
        loss = -smooth * logits.log_softmax(1)
    elif name == "bce":
        loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    elif name == "focal":
        loss = _focal(logits, soft, multi_label, focal_gamma, focal_alpha)
    elif name == "smooth_l1":
        probabilities = logits.sigmoid() if multi_label else logits.softmax(1)
        loss = F.smooth_l1_loss(probabilities, soft, reduction="none", beta=0.5)
    elif name == "hinge":
        loss = _hinge(logits, soft, multi_label)
    elif name == "tversky":
        probabilities = logits.sigmoid() if multi_label else logits.softmax(1)
        return _tversky(probabilities, soft, class_weights, tversky_alpha, tversky_beta)
    else:
        raise ValueError(
            f"unknown loss {name!r}; choose cross_entropy, bce, focal, smooth_l1, hinge or tversky"
        )
    if class_weights is None:
        return loss.mean() if multi_label else loss.sum(1).mean()
    weights = logits.new_tensor(class_weights)
    if multi_label:
        return (loss * weights).mean()
    if name in ("cross_entropy", "hinge", "focal"):  # each class's term stands for the images of that class
        return (loss * weights).sum() / (soft * weights).sum()
    of_image = (soft * weights).sum(1)  # all terms of an image belong to its class
    return (loss.sum(1) * of_image).sum() / of_image.sum()


def _focal(logits: Tensor, soft: Tensor, multi_label: bool, gamma: float, alpha: float | None) -> Tensor:
    if not multi_label:
        return soft * _faded(logits.log_softmax(1), gamma)
    there, absent = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    found = soft * _faded(F.logsigmoid(logits), gamma)
    return there * found + absent * (1 - soft) * _faded(F.logsigmoid(-logits), gamma)


def _faded(logs: Tensor, gamma: float) -> Tensor:
    """`-(1 - p)^gamma log p` of log p. A sure 0 to a power below 1 would have an infinite slope, hence the clamp."""
    return -((-logs.expm1()).clamp(min=1e-9) ** gamma) * logs


def _tversky(
    probabilities: Tensor, soft: Tensor, class_weights: list[float] | None, alpha: float, beta: float
) -> Tensor:
    """`1 - (TP + 1) / (TP + alpha FP + beta FN + 1)` with soft counts; the ones keep a batch without labels defined."""
    weights = 1.0 if class_weights is None else probabilities.new_tensor(class_weights)
    hits = (weights * probabilities * soft).sum()
    false_positives = (weights * probabilities * (1 - soft)).sum()
    false_negatives = (weights * (1 - probabilities) * soft).sum()
    return 1 - (hits + 1) / (hits + alpha * false_positives + beta * false_negatives + 1)


def _hinge(logits: Tensor, soft: Tensor, multi_label: bool) -> Tensor:
    if multi_label:
        return soft * F.relu(1 - logits) + (1 - soft) * F.relu(1 + logits)
    # margins[b, c, j] = 1 - s_c + s_j for every other class j
    margins = F.relu(1 - logits[:, :, None] + logits[:, None, :])
    others = 1 - torch.eye(logits.shape[1], device=logits.device)
    return soft * (margins * others).sum(2) / logits.shape[1]


__all__ = ["classification_loss"]

"""What the instance network learns: foreground, boundary and distance maps of labelled objects, and their loss."""

import numpy as np
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .losses import soft_dice_loss

INSTANCE_MAPS = ("foreground", "boundary", "distance")


def instance_targets(instance_labels: np.ndarray) -> np.ndarray:
    """Make the target maps of one image.

    Args:
        instance_labels: `(H, W)` integer, 0 = background, one number an object; any numbers.

    Returns:
        `(len(INSTANCE_MAPS), H, W)` float32:
        foreground, 1 inside any object;
        boundary, 1 on the pixels of an object that touch another label or the background (4 neighbours);
        distance, the Euclidean distance to the object's edge divided by the object's largest, so 1 at the centre of
        objects of every size (as in Naylor et al. 2019, normalised per object).
    """
    labels = np.ascontiguousarray(instance_labels)
    height, width = labels.shape
    padded = np.pad(labels, 1, mode="edge")
    alone = np.ones((height, width), bool)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        alone &= padded[dy : height + dy, dx : width + dx] == labels
    foreground = labels > 0
    maps = np.zeros((len(INSTANCE_MAPS), height, width), np.float32)
    maps[0] = foreground
    maps[1] = foreground & ~alone
    if foreground.any():
        # Rim pixels count half a pixel from the edge, so that thin and one-pixel objects have a distance too. A field
        # that one object fills has no edge at all.
        inner = foreground & alone
        distance = ndimage.distance_transform_edt(inner) if not inner.all() else np.ones_like(maps[0])
        distance = (distance + 0.5).astype(np.float32)
        index = labels[foreground].astype(np.int64)
        largest = np.zeros(int(index.max()) + 1, np.float32)
        np.maximum.at(largest, index, distance[foreground])
        maps[2][foreground] = distance[foreground] / largest[index]
    return maps


def instance_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy and Dice on the foreground, cross-entropy on the boundary, L1 on the distance.

    Args:
        logits: `(B, len(INSTANCE_MAPS), H, W)` raw maps.
        targets: Same shape, from `instance_targets`.
    """
    foreground, boundary, distance = logits.float().unbind(1)
    true_foreground, true_boundary, true_distance = targets.float().unbind(1)
    overlap = soft_dice_loss(foreground.sigmoid()[:, None], true_foreground[:, None])
    # Objects cover a fifth of a typical field; inside them the distance matters three times as much.
    weight = 1 + 2 * true_foreground
    return (
        F.binary_cross_entropy_with_logits(foreground, true_foreground)
        + 0.5 * overlap
        + F.binary_cross_entropy_with_logits(boundary, true_boundary)
        + 2 * ((distance - true_distance).abs() * weight).mean()
    )


__all__ = ["INSTANCE_MAPS", "instance_loss", "instance_targets"]

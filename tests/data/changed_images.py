"""Images to change, and one call that changes them."""

import torch

from hf_cells.data.image_augmentation import ImageAugmentation


def images(batch=4, channels=3, height=12, width=10, seed=0) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def one_hot(batch=4, classes=5) -> torch.Tensor:
    return torch.eye(classes)[torch.arange(batch) % classes]


def change(x, labels=None, *, seed=0, epoch=0, positions=None, **ranges):
    """Return the images alone, or with the labels where some are given."""
    positions = range(len(x)) if positions is None else positions
    truth = one_hot(len(x)) if labels is None else labels
    made, soft = ImageAugmentation(**ranges)(x, truth, seed, epoch, positions)
    if labels is not None:
        return made, soft
    assert torch.equal(soft, truth)
    return made

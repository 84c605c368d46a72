"""A multi-label classifier that is known by hand: each class looks at one colour."""

from typing import Any

import numpy as np
import torch

from hf_cells import models

COLOURS = ["red", "green", "blue"]


def colour_pipeline(processor: dict[str, Any] | None = None, **config: Any) -> Any:
    """The probability of a colour is sigmoid(12 v - 6), v its brightest pixel from 0 to 1; its map is the channel."""
    network = models.CellForImageClassification(
        models.CellClassificationConfig(
            **{
                "id2label": dict(enumerate(COLOURS)),
                "problem_type": "multi_label_classification",
                "hidden_sizes": [3],
                "kernel_size": 1,
                "norm": "none",
                "pooling": "max",
                **config,
            }
        )
    ).eval()
    with torch.no_grad():
        weight = network.backbone.stages[0][0][0].weight
        weight.zero_()
        weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = torch.eye(3)
        network.backbone.stages[0][0][0].bias.zero_()
        if not network.head.hidden:
            network.head.classifier.weight.copy_(12 * torch.eye(3))
            network.head.classifier.bias.fill_(-6)
    made = models.CellClassificationImageProcessor(num_channels=3, scaling="dtype", **(processor or {}))
    return models.CellClassificationPipeline(
        network, image_processor=made, task="cell-classification", device="cpu"
    )


def with_squares(size: tuple[int, int], **boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Black uint8 `(H, W, 3)` with a square of each colour: top, left, bottom, right."""
    image = np.zeros((*size, 3), np.uint8)
    for colour, (top, left, bottom, right) in boxes.items():
        image[top:bottom, left:right, COLOURS.index(colour)] = 255
    return image

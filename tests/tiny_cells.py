"""A folder of tiny labelled images, and a recipe that learns them in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("dark", "light")
TINY_CLASSIFIER: dict[str, Any] = {
    "name": "tiny",
    "data": {"config": "classification", "options": {"groups": r"^(s\d+)_", "validation_fraction": 0.25}},
    "model": {"type": "cell_classification", "config": {"hidden_sizes": [4, 8], "head_dropout": 0.2}},
    "processor": {"num_channels": 1, "size": {"height": 16, "width": 16}},
    "augmentation": {"horizontal_flip": True},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "optimizer": {"name": "adamw", "lr": 0.01},
        "precision": "fp32",
        "memory_format": "contiguous",
        "workers": 0,
        "threads": 1,
        "trackers": [],
    },
    "evaluation": {"n_resamples": 20},
}


def write_cells(folder: Path, specimens: int = 12, each: int = 2) -> Path:
    """Write <folder>/<class>/sNN_I.png: `specimens` of each class with `each` noisy images of 32 x 32."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for specimen in range(specimens):
            for index in range(each):
                draw = np.random.default_rng([number, specimen, index])
                pixels = draw.normal(110 + 30 * number, 30, (32, 32)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"s{number}{specimen:02d}_{index}.png")
    return folder


def write_classifier_recipe(path: Path, data: Path) -> Path:
    """Write the recipe for a folder of `write_cells`."""
    recipe = {**TINY_CLASSIFIER, "data": {"name": str(data), **TINY_CLASSIFIER["data"]}}
    path.write_text(yaml.safe_dump(recipe))
    return path

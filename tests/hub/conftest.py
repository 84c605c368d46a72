"""A sample of measured results, and a small but real model folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import loopback_hub  # noqa: F401  (a fixture)

from hf_cells.hub.card import write_card


@pytest.fixture
def results() -> dict[str, Any]:
    """Everything that a results.json can hold."""
    return {
        "dataset": {"name": "dsb2018", "config": "instance", "fingerprint": "5f1c", "license": "cc0-1.0"},
        "split": {"name": "test", "unit": "image", "groups": 65, "leaks": 0, "audit": "dhash, no match"},
        "metrics": {
            "dsb_score": {"value": 0.61234, "ci": [0.5801, 0.6449], "n": 65},
            "dice_per_image": {"value": 0.9, "ci": None, "n": 65},
            "pq": {"value": None, "ci": None, "n": 65},
            "objects_true": {"value": 4152.0, "ci": None, "n": 65},
            "mean_iou": {
                "value": 0.75,
                "ci": [0.7, 0.8],
                "n": 65,
                "per_class": {"nucleus": {"iou": 0.71, "dice": 0.83}, "other": {"iou": 0.79, "dice": None}},
            },
        },
        "strata": {
            "fluorescence": {"dsb_score": {"value": 0.7012, "ci": [0.66, 0.74], "n": 50}},
            "histology": {"dsb_score": {"value": 0.3456, "n": 15}},
        },
        "decision": {
            "thresholds": {"foreground": 0.55, "min_size": 12},
            "temperature": 1.3,
            "chosen_on": "validation",
        },
        "run": {
            "recipe": "dsb2018_instance",
            "seed": 7,
            "seconds": 4321.6,
            "hardware": "Sample CPU @ 2.20GHz (2 cores)",
            "versions": {"hf-cells": "0.1.0", "torch": "2.15.0"},
        },
    }


@pytest.fixture
def card_folder(tmp_path: Path, results: dict[str, Any]) -> Path:
    """All that a card is made from: results, configuration, recipe and figures."""
    folder = tmp_path / "model"
    (folder / "figures").mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    config = {"model_type": "cell_unet_instance", "architectures": ["CellUNetForInstanceSegmentation"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "recipe.yaml").write_text(
        "data: {name: dsb2018, data_dir: /home/someone}\nlearning_rate: 0.003\n"
    )
    for name in ("curves", "overlays"):
        (folder / "figures" / f"{name}.png").write_bytes(b"\x89PNG " + name.encode())
    return folder


@pytest.fixture
def model_folder(card_folder: Path) -> Path:
    """A model folder as `save_pretrained` writes it, with a card that has no name yet."""
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=2)
    ResNetForImageClassification(config).save_pretrained(card_folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(card_folder)
    recipe = card_folder / "recipe.yaml"  # as training writes it into a model folder
    recipe.write_text(recipe.read_text().replace("/home/someone", "null"))
    write_card(card_folder)
    return card_folder

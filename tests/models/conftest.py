"""Tiny networks that were really trained for a second or two: on discs of known number and place, and on textures."""

import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from discs import draw_discs
from patterns import NAMES, draw_pattern

from hf_cells import models


@pytest.fixture(scope="session")
def instance_model() -> models.CellUNetForInstanceSegmentation:
    """Finds bright discs of radius 7 to 9, touching ones too."""
    config = models.CellUNetInstanceConfig(hidden_sizes=(8, 16, 32), num_channels=1, id2label={0: "nucleus"})
    torch.manual_seed(0)
    model = models.CellUNetForInstanceSegmentation(config)
    processor = models.CellInstanceImageProcessor(num_channels=1)
    drawn = [draw_discs(seed, size=(64, 64), count=5) for seed in range(8)]
    pixels = torch.cat([processor(image)["pixel_values"] for image, _ in drawn])
    targets = torch.stack([torch.from_numpy(models.instance_targets(labels)) for _, labels in drawn])
    return _trained(model, 90, pixel_values=pixels, target_maps=targets)


@pytest.fixture(scope="session")
def semantic_model() -> models.CellUNetForSemanticSegmentation:
    """Tells discs from background."""
    config = models.CellUNetSemanticConfig(hidden_sizes=(8, 16), id2label={0: "background", 1: "cell"})
    torch.manual_seed(0)
    model = models.CellUNetForSemanticSegmentation(config)
    processor = models.CellSemanticImageProcessor()
    drawn = [draw_discs(seed, size=(64, 64), count=5) for seed in range(8)]
    pixels = torch.cat([processor(image)["pixel_values"] for image, _ in drawn])
    masks = torch.stack([torch.from_numpy((labels > 0).astype(np.int64)) for _, labels in drawn])
    return _trained(model, 25, pixel_values=pixels, labels=masks)


def _trained(model, steps: int, **batch):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.fixture(scope="session")
def classification_processor() -> models.CellClassificationImageProcessor:
    return models.CellClassificationImageProcessor(
        num_channels=1,
        square="reflect",
        size={"height": 32, "width": 32},
        image_mean=[0.4],
        image_std=[0.3],
    )


@pytest.fixture(scope="session")
def classification_model(classification_processor) -> models.CellForImageClassification:
    """Tells textures apart; its temperature is folded in."""
    config = models.CellClassificationConfig(hidden_sizes=(8, 16), num_channels=1, id2label=NAMES)
    torch.manual_seed(0)
    model = models.CellForImageClassification(config)
    labels = torch.arange(24) % 3
    images = [draw_pattern(int(label), seed) for seed, label in enumerate(labels)]
    model = _trained(model, 40, pixel_values=classification_processor(images)["pixel_values"], labels=labels)
    model.fold_temperature(1.7)
    return model


@pytest.fixture(scope="session")
def instance_folder(instance_model, tmp_path_factory) -> Path:
    processor = models.CellInstanceImageProcessor(num_channels=1, decision_thresholds={"min_size": 30.0})
    return models.save_model_repository(instance_model, processor, tmp_path_factory.mktemp("repo") / "discs")


@pytest.fixture(scope="session")
def semantic_folder(semantic_model, tmp_path_factory) -> Path:
    processor = models.CellSemanticImageProcessor()
    return models.save_model_repository(semantic_model, processor, tmp_path_factory.mktemp("repo") / "mask")


@pytest.fixture(scope="session")
def native_folder(tmp_path_factory) -> Path:
    """A SegFormer of transformers itself, untrained."""
    torch.manual_seed(0)
    names = {0: "background", 1: "cell"}
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
    model_class = models.SegformerForSemanticSegmentation
    model = model_class(model_class.config_class(**sizes, decoder_hidden_size=8, id2label=names))
    processor = models.NativeSemanticImageProcessor(image_mean=[0.3, 0.4, 0.5], image_std=[0.2, 0.25, 0.3])
    return models.save_model_repository(model.eval(), processor, tmp_path_factory.mktemp("repo") / "native")


@pytest.fixture(scope="session")
def classification_folder(classification_model, classification_processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repo") / "textures"
    return models.save_model_repository(classification_model, classification_processor, folder)


@pytest.fixture(scope="session")
def pipe(instance_folder) -> models.CellSegmentationPipeline:
    return models.pipeline(instance_folder, device="cpu")

"""timm's own repository format, which transformers loads as `timm_wrapper`: no code of ours on either road."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import CellsError
from .source import Source


def write(source: Source, folder: Path) -> list[str]:
    """Write `config.json` and `model.safetensors`; both timm and transformers read them."""
    _check(source)
    config = source.model.config
    pooling = {} if config.pooling is None else {"global_pool": config.pooling}
    arguments = {"in_chans": config.num_channels, **pooling, **(config.backbone_kwargs or {})}
    made: Any = timm.create_model(config.backbone, num_classes=config.num_labels, **arguments)
    head = source.model.head.classifier
    state = dict(source.model.backbone.state_dict())
    state |= {f"{_classifier_name(made)}.{name}": value for name, value in head.state_dict().items()}
    made.load_state_dict(state)
    save_file(
        {name: value.contiguous() for name, value in made.state_dict().items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    notes, pretrained_cfg = _preparation(source)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architecture": config.backbone,
                "architectures": ["TimmWrapperForImageClassification"],
                "model_type": "timm_wrapper",
                "num_classes": config.num_labels,
                "num_features": made.num_features,
                "label_names": source.labels,
                "problem_type": config.problem_type,
                "model_args": arguments,
                "pretrained_cfg": pretrained_cfg,
                "calibration_temperature": config.calibration_temperature,
                "decision_thresholds": config.decision_thresholds,
                "thresholds_chosen_on": config.thresholds_chosen_on,
            },
            indent=1,
        )
        + "\n"
    )
    if config.decision_thresholds:
        notes.append("The decision thresholds stand in config.json; stock pipelines do not apply them.")
    return notes


def reload(folder: Path) -> Callable[[Tensor], np.ndarray]:
    """Load by transformers and by timm; both must say the same."""
    from transformers import AutoModelForImageClassification

    wrapped = AutoModelForImageClassification.from_pretrained(folder).eval()
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    @torch.no_grad()
    def logits(pixel_values: Tensor) -> np.ndarray:
        first, second = wrapped(pixel_values).logits, plain(pixel_values)
        if not torch.allclose(first, second, atol=1e-5):
            raise CellsError("timm and transformers disagree about the exported weights; upgrade both")
        return first.numpy()

    return logits


def _check(source: Source) -> None:
    """Refuse what timm's format cannot say."""
    config = source.model.config
    why = None
    if source.segments or config.backbone is None or config.backbone == "alexnet":
        why = "the network is no timm backbone with a linear head"
    elif config.head_type != "linear" or config.head_hidden_sizes:
        why = f"its head is {config.head_type}, not linear"
    elif config.pooling not in (None, "avg", "max"):
        why = f"its pooling is {config.pooling}"
    elif config.test_time_views != 1:
        why = f"it averages over {config.test_time_views} views (test_time_views)"
    if why:
        raise CellsError(f"{source.folder}: timm_wrapper cannot hold it, {why}; choose onnx or torch_export")


def _classifier_name(model: Any) -> str:
    """Name of the last linear layer inside a timm model."""
    last = model.get_classifier()
    return next(name for name, module in model.named_modules() if module is last)


def _preparation(source: Source) -> tuple[list[str], dict[str, Any]]:
    """Timm's preparation of images that comes nearest to our processor, and what it misses."""
    processor, notes = source.processor, []
    size = processor.crop_size or processor.size
    channels = source.model.config.num_channels
    cfg: dict[str, Any] = {
        "mean": list(processor.image_mean or [0.0] * channels),
        "std": list(processor.image_std or [1.0] * channels),
        "interpolation": "bilinear",
        "crop_mode": "center" if processor.crop_size else "squash",
        "crop_pct": 1.0,
        "first_conv": None,
        "classifier": None,
    }
    if processor.crop_size and processor.size:
        cfg["crop_pct"] = processor.crop_size["height"] / processor.size["height"]
    if size:
        cfg["input_size"] = [channels, size["height"], size["width"]]
    else:
        notes.append("The model takes every size, timm's preparation resizes to that of its architecture.")
    if processor.scaling != "dtype":
        notes.append(
            "timm's preparation divides 8-bit images by 255; the model was trained with scaling "
            f"{processor.scaling!r}: scale the images before."
        )
    if processor.sizing != "resize":
        notes.append(
            "timm's preparation resizes; the model was trained on images that keep their pixels (sizing "
            f"{processor.sizing!r}): pad the images before."
        )
    if processor.square:
        notes.append(
            f"timm's preparation does not pad to a square; the model was trained with {processor.square!r}."
        )
    if channels not in (1, 3):
        notes.append(f"Stock pipelines read 8-bit RGB; the model takes {channels} channels.")
    return notes, cfg

"""What a program without our image processor must know to prepare images and to read the logits."""

import json
from pathlib import Path
from typing import Any

from ...models.instance_targets import INSTANCE_MAPS
from .source import Source

_PROCESSOR = (
    "num_channels",
    "channel_names",
    "scaling",
    "percentiles",
    "per_channel",
    "image_mean",
    "image_std",
    "size",
    "crop_size",
    "square",
    "sizing",
    "magnification",
)


def settings_of(source: Source) -> dict[str, Any]:
    """Settings of the processor, labels, and how decisions are made; plain JSON values."""
    config, processor = source.model.config, source.processor
    settings: dict[str, Any] = {
        name: getattr(processor, name) for name in _PROCESSOR if getattr(processor, name, None) is not None
    }
    settings["labels"] = source.labels
    settings["size_multiple"] = source.multiple
    if source.segments:
        settings["decision_thresholds"] = getattr(processor, "decision_thresholds", None) or {}
        settings["maps"] = list(INSTANCE_MAPS) if source.finds_instances else source.labels
    else:
        settings["activation"] = "sigmoid" if config.multi_label else "softmax"
        settings["decision_thresholds"] = config.decision_thresholds or {}
        settings["calibration_temperature"] = config.calibration_temperature  # divided out already
    return settings


def write_settings(source: Source, folder: Path) -> list[str]:
    """Write `settings.json`; return what the format leaves to the caller."""
    (folder / "settings.json").write_text(json.dumps(settings_of(source), indent=1) + "\n")
    notes = ["Images are prepared by the caller, by the settings in settings.json."]
    if source.multiple > 1:
        notes.append(
            f"Height and width must be multiples of {source.multiple}, two of them at least; pad by repeating the "
            "border."
        )
    if source.finds_instances:
        notes.append(
            "The logits are the maps of the instance model; the decoding into objects is not in the file."
        )
    if settings_of(source)["decision_thresholds"]:
        notes.append("The decision thresholds stand in settings.json; the caller applies them.")
    return notes

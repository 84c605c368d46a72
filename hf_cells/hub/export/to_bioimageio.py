"""A bioimage.io model folder (specification 0.5) around the ONNX file, with a test image that it passes itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bioimageio.core
import numpy as np
from bioimageio.spec import ValidationContext, save_bioimageio_yaml_only
from bioimageio.spec.model import v0_5
from torch import Tensor

from ...errors import CellsError
from ...models.instance_targets import INSTANCE_MAPS
from . import to_onnx
from .processor_settings import write_settings
from .source import Source

spec: Any = v0_5  # turns plain texts into its own types, which type checkers do not know
_FILE = "rdf.yaml"
_IMAGE, _LOGITS = "pixel_values", "logits"


def write(source: Source, folder: Path) -> list[str]:
    """Write `rdf.yaml`, the weights, a test image and what the model makes of it."""
    opset = to_onnx.write_onnx(source, folder / to_onnx.FILE)
    notes = write_settings(source, folder)[1:]  # what is said of the preparation here follows
    prepared = source.batches()[0]
    raw, preprocessing, inexact = _preparation(source, prepared)
    np.save(folder / "test_input.npy", raw)
    np.save(folder / "test_output.npy", source.logits(prepared))
    (folder / "README.md").write_text(
        "# Model of hf-cells\n\n## Validation\n\nSee the model card.\n", "utf-8"
    )
    with ValidationContext(root=folder):
        description = spec.ModelDescr(
            name=f"hf-cells {type(source.model).__name__}",
            description=f"Classes or maps: {', '.join(_channels(source))}. Research use only.",
            authors=[spec.Author(name="hf-cells contributors")],
            cite=[spec.CiteEntry(text="hf-cells", url="https://huggingface.co")],
            documentation=spec.FileDescr(source="README.md"),
            inputs=[_input(source, prepared, preprocessing)],
            outputs=[_output(source)],
            weights=spec.WeightsDescr(onnx=spec.OnnxWeightsDescr(source=to_onnx.FILE, opset_version=opset)),
        )
        save_bioimageio_yaml_only(description, folder / _FILE)
    summary = bioimageio.core.test_description(folder / _FILE)
    errors = [error.msg for detail in summary.details for error in detail.errors]
    if errors:
        raise CellsError(
            f"the bioimage.io model does not pass its own test: {' '.join(errors[0].split())[:300]}"
        )
    return notes + inexact


def reload(folder: Path) -> Callable[[Tensor], np.ndarray]:
    """The network inside, by ONNX Runtime; preparation was part of the model's own test."""
    return to_onnx.reload(folder)


def _channels(source: Source) -> list[str]:
    return list(INSTANCE_MAPS) if source.finds_instances else source.labels


def _preparation(source: Source, prepared: Tensor) -> tuple[np.ndarray, list[Any], list[str]]:
    """The test image before preparation, `(1, C, H, W)` float32, the steps of the specification, and what they miss.

    Where a step has no counterpart (enlarging, squaring, resizing), the test image is the prepared one.
    """
    processor = source.processor
    image = processor.conform(next(iter(source.images.values())))
    if not _known_steps(processor, image):
        note = "Images must be prepared by the caller: settings.json has steps that the specification does not know."
        return prepared.numpy(), [], [note]
    raw = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)
    height, width = prepared.shape[-2:]
    raw = np.pad(
        raw, ((0, 0), (0, 0), (0, max(0, height - raw.shape[2])), (0, max(0, width - raw.shape[3]))), "edge"
    )
    raw = raw[..., :height, :width]
    steps: list[Any] = []
    if processor.scaling == "percentile":
        low, high = processor.percentiles
        axes = ["y", "x"] if processor.per_channel else ["channel", "y", "x"]
        kwargs = spec.ScaleRangeKwargs(axes=axes, min_percentile=low, max_percentile=high, eps=1e-6)
        steps.append(spec.ScaleRangeDescr(kwargs=kwargs))
    elif processor.scaling == "dtype":
        steps.append(spec.ScaleLinearDescr(kwargs=spec.ScaleLinearKwargs(gain=1 / 255, offset=0)))
    if processor.image_mean is not None and processor.image_std is not None:
        one = len(processor.image_mean) == 1
        kwargs = (
            spec.FixedZeroMeanUnitVarianceKwargs(mean=processor.image_mean[0], std=processor.image_std[0])
            if one
            else spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
                axis="channel", mean=list(processor.image_mean), std=list(processor.image_std)
            )
        )
        steps.append(spec.FixedZeroMeanUnitVarianceDescr(kwargs=kwargs))
    note = "Percentiles are taken of the tile that a program shows the model, not of the whole image."
    return raw, steps, [note] if processor.scaling == "percentile" else []


def _known_steps(processor: Any, image: np.ndarray) -> bool:
    """Whether the specification has every step of the preparation of this image."""
    resized = tuple(processor.network_size(image.shape[:2])) != image.shape[:2]
    framed = getattr(processor, "square", None) or getattr(processor, "crop_size", None)
    framed = framed or getattr(processor, "sizing", "resize") == "pad"
    divided = processor.scaling == "dtype" and image.dtype != np.uint8
    return not (resized or framed or divided)


def _input(source: Source, prepared: Tensor, preprocessing: list[Any]) -> Any:
    names = source.processor.channel_names or [f"channel{index}" for index in range(prepared.shape[1])]
    sides: list[Any] = list(prepared.shape[-2:])
    if source.multiple > 1:
        sides = [spec.ParameterizedSize(min=2 * source.multiple, step=source.multiple)] * 2
    return spec.InputTensorDescr(
        id=_IMAGE,
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=list(names)),
            spec.SpaceInputAxis(id="y", size=sides[0]),
            spec.SpaceInputAxis(id="x", size=sides[1]),
        ],
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=spec.FileDescr(source="test_input.npy"),
        preprocessing=preprocessing,
    )


def _output(source: Source) -> Any:
    axes: list[Any] = [spec.BatchAxis(), spec.ChannelAxis(channel_names=_channels(source))]
    if source.segments:
        axes += [
            spec.SpaceOutputAxis(id=side, size=spec.SizeReference(tensor_id=_IMAGE, axis_id=side))
            for side in "yx"
        ]
    return spec.OutputTensorDescr(id=_LOGITS, axes=axes, test_tensor=spec.FileDescr(source="test_output.npy"))

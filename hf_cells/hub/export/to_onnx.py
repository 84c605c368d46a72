"""ONNX, with the settings of the image processor in the file and beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from .adaptive_pooling import pooled_by_matrices
from .processor_settings import settings_of, write_settings
from .source import Source
from .to_torch_export import exported_program

FILE = "model.onnx"


def write(source: Source, folder: Path) -> list[str]:
    """Write `model.onnx`; input `pixel_values`, output `logits`, the settings in its metadata."""
    write_onnx(source, folder / FILE)
    return write_settings(source, folder)


def write_onnx(source: Source, path: Path) -> int:
    """Write the network; return the version of its operators (opset)."""
    with pooled_by_matrices(source.model):
        traced = exported_program(source)
    program = torch.onnx.export(
        traced,
        (),
        dynamo=True,
        input_names=["pixel_values"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    program.save(path)
    made = onnx.load(path)
    for key, value in settings_of(source).items():
        made.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(made)
    onnx.save(made, path)
    return next(entry.version for entry in made.opset_import if entry.domain == "")


def reload(folder: Path) -> Callable[[Tensor], np.ndarray]:
    """Run the file by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    return lambda pixel_values: session.run(["logits"], {"pixel_values": pixel_values.numpy()})[0]

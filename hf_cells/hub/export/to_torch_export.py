"""A `torch.export` program: `torch.export.load("model.pt2").module()(pixel_values)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from .processor_settings import write_settings
from .source import LogitsOnly, Source

_FILE = "model.pt2"


def write(source: Source, folder: Path) -> list[str]:
    """Write `model.pt2` and the settings of the image processor."""
    torch.export.save(exported_program(source), folder / _FILE)
    return write_settings(source, folder)


def reload(folder: Path) -> Callable[[Tensor], np.ndarray]:
    """Load the program and return its logits."""
    module = torch.export.load(folder / _FILE).module()

    @torch.no_grad()
    def logits(pixel_values: Tensor) -> np.ndarray:
        return module(pixel_values).float().numpy()

    return logits


@torch.no_grad()
def exported_program(source: Source) -> ExportedProgram:
    """Trace the network with a free batch size and, unless it takes one size only, free height and width.

    Height and width are then two or more times `source.multiple`, because the padding to that is the caller's part.
    """
    batch = source.batches()[0]
    example = torch.cat([batch, batch.flip(-1)])  # a batch of one would be taken for a constant
    shapes: dict[int, Any] = {0: Dim("batch", min=1)}
    if source.multiple > 1:
        shapes[2] = source.multiple * Dim("rows", min=2)
        shapes[3] = source.multiple * Dim("columns", min=2)
    return torch.export.export(
        LogitsOnly(source.model), (example,), dynamic_shapes={"pixel_values": shapes}, strict=False
    )

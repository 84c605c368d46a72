"""`hf_cells.pipeline`: from a folder or a repository to a pipeline that is ready to predict."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from ..errors import CellsError
from .configuration_cell_unet import CellUNetInstanceConfig, CellUNetSemanticConfig
from .image_processing_cells import CellInstanceImageProcessor, CellSemanticImageProcessor
from .modeling_cell_unet import CellUNetForInstanceSegmentation, CellUNetForSemanticSegmentation
from .pipeline_cell_segmentation import CellSegmentationPipeline

TASK = "cell-segmentation"
CLASSES: dict[str, tuple[Any, Any]] = {
    CellUNetSemanticConfig.model_type: (CellUNetForSemanticSegmentation, CellSemanticImageProcessor),
    CellUNetInstanceConfig.model_type: (CellUNetForInstanceSegmentation, CellInstanceImageProcessor),
}


def pipeline(
    model: str | Path,
    device: str | int | torch.device | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    **options: Any,
) -> CellSegmentationPipeline:
    """Load a model and its image processor, and return the pipeline that predicts with them.

    The installed code runs, never the code in the repository.

    Args:
        model: Folder of a model, or name of a repository on the Hub.
        device: Where to run, as in transformers; the first accelerator by default, otherwise the CPU.
        revision: Branch, tag or commit of the repository.
        token: Access token; by default the one of `hf auth login`.
        **options: Options of [`CellSegmentationPipeline`]: `tile`, `overlap`, `test_time_augmentation`,
            `precision`, `threshold`, `decision_thresholds`, `batch_size`.

    Raises:
        CellsError: When there is no such model, or it is not one of this package.
    """
    source, hub = str(model), {"revision": revision, "token": token}
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise CellsError(
            f"{source}: holds no config.json; give the model/ folder of a run or a repository's name"
        )
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **hub)
        if config.model_type not in CLASSES:
            raise ValueError(f"its model_type {config.model_type!r} is none of {', '.join(CLASSES)}")
        model_class, processor_class = CLASSES[config.model_type]
        network = model_class.from_pretrained(source, config=config, dtype=torch.float32, **hub)
        processor = processor_class.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CellsError(f"cannot load a cell-segmentation model from {source}: {reason}") from error
    return CellSegmentationPipeline(network, image_processor=processor, task=TASK, device=device, **options)


__all__ = ["TASK", "pipeline"]

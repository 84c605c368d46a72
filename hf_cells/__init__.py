"""hf-cells: microscopy cell images on Hugging Face.

The public names are loaded when they are first touched: `import hf_cells` itself imports nothing heavy. Touching a
model's name (or importing `hf_cells.models`) registers the Auto classes and the `cell-segmentation` pipeline.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.loading import load_dataset
    from .errors import CellsError
    from .inference.cell_segmentator import CellSegmentator, label_cell, label_nuclei
    from .models import (
        CellClassificationConfig,
        CellClassificationImageProcessor,
        CellForImageClassification,
        CellInstanceImageProcessor,
        CellSemanticImageProcessor,
        CellUNetForInstanceSegmentation,
        CellUNetForSemanticSegmentation,
        CellUNetInstanceConfig,
        CellUNetSemanticConfig,
        pipeline,
        save_model_repository,
    )
    from .simulate import simulate_dsb2018

__version__ = "0.1.0"

_MODULE_OF = {
    "CellClassificationConfig": "models",
    "CellClassificationImageProcessor": "models",
    "CellForImageClassification": "models",
    "CellInstanceImageProcessor": "models",
    "CellSegmentator": "inference.cell_segmentator",
    "CellSemanticImageProcessor": "models",
    "CellUNetForInstanceSegmentation": "models",
    "CellUNetForSemanticSegmentation": "models",
    "CellUNetInstanceConfig": "models",
    "CellUNetSemanticConfig": "models",
    "CellsError": "errors",
    "label_cell": "inference.cell_segmentator",
    "label_nuclei": "inference.cell_segmentator",
    "load_dataset": "data.loading",
    "pipeline": "models",
    "save_model_repository": "models",
    "simulate_dsb2018": "simulate",
}

__all__ = [
    "CellClassificationConfig",
    "CellClassificationImageProcessor",
    "CellForImageClassification",
    "CellInstanceImageProcessor",
    "CellSegmentator",
    "CellSemanticImageProcessor",
    "CellUNetForInstanceSegmentation",
    "CellUNetForSemanticSegmentation",
    "CellUNetInstanceConfig",
    "CellUNetSemanticConfig",
    "CellsError",
    "__version__",
    "label_cell",
    "label_nuclei",
    "load_dataset",
    "pipeline",
    "save_model_repository",
    "simulate_dsb2018",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Blood smears put together from single cells: the sample library and the composer.

`dataset_scripts/blood_smear.py` reads what this writes. Samples are split by source image before anything
is composed, and every pasted cell keeps the name of its sample.
"""

from .build_library import build_library, simulate_library
from .classes import CLASS_COLORS, CLASS_NAMES
from .dataset import compose_dataset
from .library import Library, Sample, read_library

__all__ = [
    "CLASS_COLORS",
    "CLASS_NAMES",
    "Library",
    "Sample",
    "build_library",
    "compose_dataset",
    "read_library",
    "simulate_library",
]

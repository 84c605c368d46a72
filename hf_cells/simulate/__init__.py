"""A procedural microscope: simulated data in the original on-disk layouts, with exact ground truth."""

from collections.abc import Callable
from pathlib import Path

from .dsb2018 import simulate_dsb2018
from .glomeruli import simulate_glomeruli
from .hep2 import simulate_hep2
from .hpa import simulate_hpa_single_cell
from .nuclei import LOOKS, SimulatedImage, simulate_nuclei

SIMULATORS: dict[str, Callable[..., Path]] = {
    "dsb2018": simulate_dsb2018,
    "hep2": simulate_hep2,
    "glomeruli": simulate_glomeruli,
    "hpa_single_cell": simulate_hpa_single_cell,
}

__all__ = [
    "LOOKS",
    "SIMULATORS",
    "SimulatedImage",
    "simulate_dsb2018",
    "simulate_glomeruli",
    "simulate_hep2",
    "simulate_hpa_single_cell",
    "simulate_nuclei",
]

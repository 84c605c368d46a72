"""A procedural microscope: simulated data in the original on-disk layouts, with exact ground truth."""

from .dsb2018 import simulate_dsb2018
from .nuclei import LOOKS, SimulatedImage, simulate_nuclei

__all__ = ["LOOKS", "SimulatedImage", "simulate_dsb2018", "simulate_nuclei"]

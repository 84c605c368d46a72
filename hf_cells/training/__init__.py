"""Training: `main` is what `train.py`, `python -m hf_cells.training` and `hf-cells train` call."""

from .main import main

__all__ = ["main"]

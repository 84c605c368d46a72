"""`accelerate launch -m hf_cells.training`."""

from .main import main

main()

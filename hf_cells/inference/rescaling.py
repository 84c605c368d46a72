"""Another magnification than that of the training: enlarge or shrink before the network, and back after it."""

from typing import Any

from ..errors import CellsError

SMALLEST, LARGEST = 0.05, 20.0


def rescale_inputs(pipe: Any, factor: float) -> None:
    """Let a `cell-segmentation` pipeline see its images `factor` times as large; what it returns has their own size.

    A model trained on red cells of 36 pixels sees cells of 90 pixels as it knows them with a factor of 0.4.

    Raises:
        CellsError: The factor is out of range, or the model resizes every image to one size.
    """
    processor = pipe.image_processor
    if not SMALLEST <= factor <= LARGEST:
        raise CellsError(f"rescale={factor:g}: give a factor from {SMALLEST:g} to {LARGEST:g}")
    if processor.size is not None:
        raise CellsError("rescale: this model sees every image at one size; leave the factor out")
    processor.magnification *= factor

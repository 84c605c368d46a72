"""Where cells are pasted: apart from each other, in the gaps between red cells, some across the border."""

import numpy as np
from numpy.typing import NDArray

PARTIAL_SHARE = 0.25  # of white cells that the border cuts
TRIES = 12
STEP = 4  # coarse grid on which covered area is counted


def place(
    rng: np.random.Generator,
    taken: NDArray[np.uint8],
    size: tuple[int, int],
    partial: bool,
) -> tuple[int, int]:
    """Choose the left and top of a stamp.

    Of some random places the one that covers least is taken: a pasted cell counts ten times a red one.

    Args:
        rng: Source of randomness.
        taken: (H / STEP, W / STEP) 0 free, 1 red cell, 10 pasted cell.
        size: Width and height of the stamp.
        partial: The border cuts the cell: its centre lies within a quarter of its side from the border.
    """
    height, width = (side * STEP for side in taken.shape)
    best, fewest = (0, 0), np.inf
    bearable = 10 * 0.04 * size[0] * size[1] / STEP**2  # a twentieth of the cell lies over another
    for attempt in range(2 * TRIES):
        if attempt >= TRIES and fewest <= bearable:
            break
        left, top = (float(rng.uniform(0, max(1, side - own))) for side, own in zip((width, height), size))
        if partial and attempt < TRIES:  # where the border is full, it lies inside after all
            border = int(rng.integers(4))
            beyond = float(rng.uniform(-0.25, 0.25))  # of the side, where the centre lies from the border
            if border < 2:
                left = (0 if border == 0 else width) - size[0] * (0.5 + beyond)
            else:
                top = (0 if border == 2 else height) - size[1] * (0.5 + beyond)
        cost = taken[_cells(top, size[1]), _cells(left, size[0])].sum()
        if cost < fewest:
            best, fewest = (round(left), round(top)), cost
    return best


def occupy(taken: NDArray[np.uint8], left: int, top: int, size: tuple[int, int]) -> None:
    """Mark the ellipse in the box of a stamp as pasted."""
    rows, columns = _cells(top, size[1]), _cells(left, size[0])
    y, x = np.ogrid[: taken.shape[0], : taken.shape[1]]
    y, x = y[rows], x[:, columns]
    centre_y, centre_x = (top + size[1] / 2) / STEP, (left + size[0] / 2) / STEP
    round_ = ((y - centre_y) * 2 * STEP / size[1]) ** 2 + ((x - centre_x) * 2 * STEP / size[0]) ** 2 <= 1
    taken[rows, columns][round_] = 10


def _cells(start: float, length: int) -> slice:
    return slice(max(0, int(start // STEP)), max(0, int((start + length) // STEP)))

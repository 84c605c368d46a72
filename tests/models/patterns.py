"""Images of three textures: something that a small classifier learns in a second."""

import numpy as np

NAMES = {0: "flat", 1: "stripes", 2: "dots"}


def draw_pattern(label: int, seed: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Return a uint16 image: even grey, stripes of six pixels, or a lattice of dots, with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    phase = rng.integers(0, 6, 2)
    shape = {
        0: np.full(size, 0.5),
        1: (rows + phase[0]) // 3 % 2,
        2: ((rows + phase[0]) % 6 < 2) & ((columns + phase[1]) % 6 < 2),
    }[label]
    level = 8_000 + 30_000 * shape + rng.normal(0, 2_000, size)
    return level.clip(0, 65_535).astype(np.uint16)

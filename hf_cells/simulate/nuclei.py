"""`simulate_nuclei`: one image of nuclei with its exact truth, a pure function of (seed, index)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CellsError
from . import fluorescence, stains
from .optics import digitise

LOOKS: dict[str, fluorescence.FluorescenceLook | stains.StainLook] = {**fluorescence.LOOKS, **stains.LOOKS}
SMALLEST = 16


@dataclass(frozen=True)
class SimulatedImage:
    """A simulated microscope image.

    Attributes:
        image: uint8 or uint16, (H, W) for grey cameras or (H, W, 3).
        instance_labels: int32 (H, W), 0 background, 1..n nuclei without gaps in the numbering.
        look: Name of the look, one of LOOKS.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16]
    instance_labels: NDArray[np.int32]
    look: str


def looks_for(bit_depth: int) -> tuple[str, ...]:
    """Names of the looks that a camera of that depth has: 16-bit cameras are grey."""
    return tuple(name for name, look in LOOKS.items() if bit_depth == 8 or not _is_colour(look))


def _is_colour(look: fluorescence.FluorescenceLook | stains.StainLook) -> bool:
    return isinstance(look, stains.StainLook) and not look.grey


def check_request(size: tuple[int, int] | None, looks: tuple[str, ...], bit_depth: int) -> None:
    """Refuse what cannot be simulated.

    Raises:
        CellsError: Unknown look or bit depth, a size under 16 pixels, a colour look in 16 bits.
    """
    if bit_depth not in (8, 16):
        raise CellsError(f"bit_depth is {bit_depth}; use 8 or 16")
    if size is not None and (len(size) != 2 or min(size) < SMALLEST):
        raise CellsError(f"size is {size}; give (height, width) of at least {SMALLEST} pixels each")
    if not looks:
        raise CellsError(f"no look chosen; choose from {', '.join(LOOKS)}")
    for look in looks:
        if look not in LOOKS:
            raise CellsError(f"unknown look {look!r}; choose from {', '.join(LOOKS)}")
        if look not in looks_for(bit_depth):
            raise CellsError(f"look {look!r} is in colour, so 8-bit only; use bit_depth 8 or a grey look")


def simulate_nuclei(
    seed: int,
    index: int,
    size: tuple[int, int] | None = None,
    look: str | None = None,
    bit_depth: int = 8,
) -> SimulatedImage:
    """Simulate image number `index` of the endless series `seed`.

    The same arguments give the same pixels, in any order and on any worker.

    Args:
        seed: Series, >= 0.
        index: Number within the series, >= 0.
        size: (height, width) in pixels; None draws one of the look's usual sizes.
        look: One of LOOKS; None draws one.
        bit_depth: 8 or 16.

    Raises:
        CellsError: When the request makes no image (see `check_request`).
    """
    if seed < 0 or index < 0:
        raise CellsError(f"seed {seed} and index {index} must not be negative")
    check_request(size, looks_for(bit_depth) if look is None else (look,), bit_depth)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, index))))
    name = look or str(rng.choice(looks_for(bit_depth)))
    recipe = LOOKS[name]
    shape = size or recipe.sizes[int(rng.integers(len(recipe.sizes)))]
    if name == "inverted" and rng.random() < 0.3:
        source = fluorescence.LOOKS[str(rng.choice(list(fluorescence.LOOKS)))]
        image, labels = fluorescence.render_fluorescence(rng, shape, source)
        image = stains.negative(rng, image)
    elif isinstance(recipe, stains.StainLook):
        image, labels = stains.render_stained(rng, shape, recipe)
    else:
        image, labels = fluorescence.render_fluorescence(rng, shape, recipe)
        if bit_depth == 8 and rng.random() < 0.06:
            image = fluorescence.tint(rng, image)
    return SimulatedImage(digitise(rng, image, bit_depth), labels, name)

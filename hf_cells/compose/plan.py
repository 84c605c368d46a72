"""Which cells a sample shows: a cycle that goes through every combination of classes and backgrounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np

from .classes import CLASS_NAMES, PASTED, SPLITS

KINDS = ("infected", "healthy", "mixed")  # backgrounds
LAYOUTS = ("blank", "single", "double", "triple", "multi")
# How often each combination stands in the cycle, so that layouts come out alike in number.
_REPEATS = {"blank": 40, "single": 8, "double": 3, "triple": 1, "multi": 2}
MULTI = range(4, 8)  # different classes at once


@dataclass(frozen=True)
class Plan:
    """What to compose.

    Attributes:
        layout: One of LAYOUTS.
        kind: Background, one of KINDS.
        classes: Of the cells to paste, white cells first so that platelets stay on top.
    """

    layout: str
    kind: str
    classes: tuple[str, ...]


def generator(*key: int) -> np.random.Generator:
    """A generator for one thing, named by the seed and its place, on whatever worker."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def split_number(split: str) -> int:
    """Number of a split in the keys of generators."""
    return SPLITS.index(split)


def make_cycle(seed: int, split: str, leave_out: Sequence[str] = ()) -> list[Plan]:
    """All combinations in a random order; sample i of the split shows plan i modulo the length.

    Single, double and triple are all multisets of 1, 2 and 3 pasted classes, multi all sets of 4 to 7
    different ones, each on each kind of background.
    """
    pasted = [name for name in CLASS_NAMES if name in PASTED and name not in leave_out]
    kinds = [kind for kind in KINDS if not _missing(kind, leave_out)]
    chosen: dict[str, list[tuple[str, ...]]] = {
        "blank": [()],
        "single": [(name,) for name in pasted],
        "double": list(combinations_with_replacement(pasted, 2)),
        "triple": list(combinations_with_replacement(pasted, 3)),
        "multi": [group for size in MULTI for group in combinations(pasted, size)],
    }
    plans = [
        Plan(layout, kind, classes)
        for layout in LAYOUTS
        for classes in chosen[layout]
        for kind in kinds
        for _ in range(_REPEATS[layout])
    ]
    order = generator(seed, split_number(split), 1).permutation(len(plans))
    return [plans[i] for i in order]


def _missing(kind: str, leave_out: Sequence[str]) -> bool:
    needed = {
        "infected": {"infected_rbc"},
        "healthy": {"healthy_rbc"},
        "mixed": {"infected_rbc", "healthy_rbc"},
    }
    return bool(needed[kind] & set(leave_out))

"""Choosing decoding thresholds, on the validation split and nowhere else."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def choose_thresholds(
    candidates: Mapping[str, Sequence[Any]], score: Callable[[dict[str, Any]], float]
) -> tuple[dict[str, Any], float]:
    """Coordinate search: improve one threshold at a time until a whole sweep changes nothing.

    Deterministic: names in their order, values in theirs, and a value replaces the present one only when its
    score is strictly higher, so ties keep the default. No setting is scored twice.

    Args:
        candidates: Values to try for each threshold. THE FIRST VALUE OF EACH IS THE DEFAULT.
        score: Higher is better; NaN counts as worst. It must score the validation split: thresholds chosen on
            the test split make its number worthless.

    Returns:
        The chosen thresholds and their score.

    Raises:
        ValueError: When a threshold has no candidates.
    """
    for name, values in candidates.items():
        if not values:
            raise ValueError(f"threshold {name!r} has no candidates; list its default first")

    seen: dict[tuple[Any, ...], float] = {}

    def scored(setting: dict[str, Any]) -> float:
        key = tuple(setting.values())
        if key not in seen:
            value = float(score(dict(setting)))
            seen[key] = -math.inf if math.isnan(value) else value
        return seen[key]

    best = {name: values[0] for name, values in candidates.items()}
    best_score = scored(best)
    improved = True
    while improved:  # every round is strictly better than the last, so this ends
        improved = False
        for name, values in candidates.items():
            for value in values:
                trial = {**best, name: value}
                if scored(trial) > best_score:
                    best, best_score, improved = trial, scored(trial), True
    return best, best_score

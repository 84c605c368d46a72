"""Percentile bootstrap intervals over images, or over whole groups where groups are known."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

Row = TypeVar("Row")
Interval = tuple[float, float]

_MAX_ROW_VISITS = 1_000_000
_MIN_RESAMPLES = 200


def bootstrap_intervals(
    rows: Sequence[Row],
    aggregate: Callable[[Sequence[Row]], Mapping[str, Any]],
    *,
    groups: Sequence[Hashable | None] | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    max_row_visits: int = _MAX_ROW_VISITS,
) -> dict[str, Interval | None]:
    """Percentile bootstrap (Efron & Tibshirani 1993, ch. 13) of every number that `aggregate` returns.

    With `groups` it is the cluster bootstrap: whole groups are drawn with replacement, so images of one
    specimen do not count as independent. A row whose group is None is a group of its own. With few groups
    (under about 20) a percentile interval is too narrow; publish the number of groups beside it.

    Args:
        rows: One item per image, in any form that `aggregate` takes.
        aggregate: From a list of rows to named numbers; values that are not numbers are passed over.
        groups: One per row, or None for a bootstrap over rows.
        n_resamples: Upper limit. With many rows it is lowered to `max_row_visits` / rows, never under 200.
        confidence: Coverage of the two-sided interval, in (0, 1).
        seed: Equal seeds give equal intervals.
        keys: The names to report; all scalar ones by default.
        max_row_visits: A resample visits every row once. The limit counts rows and not seconds, so that the
            same data gives the same interval on a slow and on a fast machine.

    Returns:
        `(low, high)` per key. None where no interval exists: fewer than two groups (or rows), or a value that
        is not finite in more than half of the resamples. Other non-finite resamples are left out.

    Raises:
        ValueError: When `groups` and `rows` differ in length, or a parameter is out of its range.
    """
    if groups is not None and len(groups) != len(rows):
        raise ValueError(f"{len(groups)} groups for {len(rows)} rows; give one group per row")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; give 1 or more")
    if not rows:
        return dict.fromkeys(keys or ())

    names = list(keys) if keys is not None else scalar_keys(aggregate(rows))
    units = _units(len(rows), groups)
    if len(units) < 2:
        return dict.fromkeys(names)

    rng = np.random.default_rng(seed)
    count = min(n_resamples, max(_MIN_RESAMPLES, max_row_visits // len(rows)))
    values = np.empty((count, len(names)))
    for sample in range(count):
        drawn = rng.integers(len(units), size=len(units))
        metrics = aggregate([rows[index] for unit in drawn for index in units[unit]])
        values[sample] = [_number(metrics.get(name)) for name in names]

    tail = 50 * (1 - confidence)
    return {name: _percentiles(column, tail) for name, column in zip(names, values.T, strict=True)}


def scalar_keys(metrics: Mapping[str, Any]) -> list[str]:
    """The names whose value is one number (tables such as `per_class` are not)."""
    return [
        key
        for key, value in metrics.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
    ]


def _units(count: int, groups: Sequence[Hashable | None] | None) -> list[list[int]]:
    """Row indices of each resampling unit, in order of first appearance."""
    if groups is None:
        return [[index] for index in range(count)]
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        key = (index, "no group") if group is None else group
        members.setdefault(key, []).append(index)
    return list(members.values())


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _percentiles(values: np.ndarray, tail: float) -> Interval | None:
    finite = values[np.isfinite(values)]
    if 2 * len(finite) < len(values) or not len(finite):
        return None
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)

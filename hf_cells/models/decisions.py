"""From probabilities to labels, with the thresholds that a model carries."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def decide(
    probabilities: Any, thresholds: Mapping[str, float] | None, id2label: Mapping[Any, str], multi_label: bool
) -> np.ndarray:
    """Turn probabilities into decisions.

    One label an image: the class with the largest probability / threshold (1 where none is given). With two classes
    and thresholds 1 - t and t this is exactly "the second when its probability is at least t"; ties go to the later
    class then, and to the earlier one without thresholds. Several labels: each whose probability reaches its
    threshold (0.5 where none is given).

    Args:
        probabilities: `(N, K)` array.
        thresholds: By label name, each above 0; None for none.
        id2label: Names of the K classes.
        multi_label: Whether an image may have several labels.

    Returns:
        `(N,)` int64 class ids, or `(N, K)` bool.

    Raises:
        ValueError: A threshold is not above 0, or names no label.
    """
    values = np.asarray(probabilities, np.float64)
    names = [str(name) for _, name in sorted(id2label.items(), key=lambda item: int(item[0]))]
    known = dict(thresholds or {})
    if wrong := sorted(set(known) - set(names)):
        raise ValueError(f"decision_thresholds names {wrong[0]!r}; the labels are {', '.join(names)}")
    if any(not value > 0 for value in known.values()):
        raise ValueError(f"decision_thresholds must be above 0: {known}")
    cut = np.array([known.get(name, 0.5 if multi_label else 1.0) for name in names])
    if multi_label:
        return values >= cut
    ratios = values / cut
    if not known:
        return ratios.argmax(1)
    if len(names) == 2 and np.isclose(cut.sum(), 1):  # p and 1 - p are so only up to rounding
        return (values[:, 1] >= cut[1]).astype(np.int64)
    # A tie at the threshold counts as reached, and rounding must not undo it.
    best = ratios.max(1, keepdims=True) * (1 - 1e-9)
    return (values.shape[1] - 1 - (ratios >= best)[:, ::-1].argmax(1)).astype(np.int64)


__all__ = ["decide"]

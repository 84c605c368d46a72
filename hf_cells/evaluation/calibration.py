"""Temperature scaling: one number, fitted on the validation split, that makes probabilities honest."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from ..errors import CellsError

# Wide enough for any network worth calibrating; beyond, the fit has only run away from a degenerate split.
TEMPERATURES = (0.1, 10.0)


def fit_temperature(logits: Any, labels: Any, multi_label: bool = False) -> float:
    """Find the temperature T that minimises the negative log-likelihood of softmax(logits / T).

    Guo et al. 2017, "On calibration of modern neural networks"; with `multi_label`, of sigmoid(logits / T) over
    all (image, label) pairs. The order of classes never changes, so neither does the accuracy.

    Where no decision of the split is wrong, the likelihood alone would call every prediction certain. Platt's
    (1999) remedy is used then: targets one wrong decision in n + 2 away from certainty.

    Args:
        logits: (N, K) of the validation split, uncalibrated.
        labels: (N,) class ids, or (N, K) 0 or 1 with `multi_label`.
        multi_label: Whether an image may have several labels.

    Returns:
        T within `TEMPERATURES`; 1.0 where T makes no difference (all logits of an image equal).

    Raises:
        CellsError: When there is no image, shapes or labels do not fit, or a logit is not finite.
    """
    scores = np.asarray(logits, dtype=np.float64)
    targets = _targets(scores, np.asarray(labels), multi_label)
    if not len(scores):
        raise CellsError("no validation image to calibrate on; give the data a validation split")
    if not np.isfinite(scores).all():
        raise CellsError("the model's logits are not finite, so it cannot be calibrated; train again")
    if not (scores if multi_label else np.ptp(scores, axis=1)).any():
        return 1.0

    right = (scores > 0) == (targets > 0.5) if multi_label else scores.argmax(1) == targets.argmax(1)
    if right.all():
        doubt = 1 / (right.size + 2)
        targets = targets * (1 - doubt) + (1 - targets) * doubt / (1 if multi_label else scores.shape[1] - 1)

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        if multi_label:
            return -float(np.mean(targets * log_expit(scaled) + (1 - targets) * log_expit(-scaled)))
        return -float(np.mean((targets * log_softmax(scaled, axis=1)).sum(axis=1)))

    # Convex in 1 / T, hence with one minimum in log T too.
    found = minimize_scalar(
        loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def _targets(scores: np.ndarray, labels: np.ndarray, multi_label: bool) -> np.ndarray:
    """(N, K) float64, one-hot for single labels."""
    if scores.ndim != 2 or labels.shape != (scores.shape if multi_label else scores.shape[:1]):
        raise CellsError(
            f"logits {scores.shape} and labels {labels.shape} do not fit; "
            "give (N, K) logits with (N,) class ids, or (N, K) zeros and ones for several labels an image"
        )
    if multi_label:
        return labels.astype(np.float64)
    count = scores.shape[1]
    if labels.size and not (labels.min() >= 0 and labels.max() < count):
        raise CellsError(f"labels span {labels.min()}..{labels.max()}; {count} classes are numbered from 0")
    return np.eye(count)[labels.astype(np.int64)]

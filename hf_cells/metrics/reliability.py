"""Whether a stated probability comes true as often as it says."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BINS = 15


class ReliabilityBins(NamedTuple):
    """Forecasts sorted into equal-width bins, (n_bins,) each; the means of an empty bin are NaN."""

    counts: NDArray[np.int64]
    confidence: FloatArray
    frequency: FloatArray


def reliability_bins(probabilities: ArrayLike, outcomes: ArrayLike, n_bins: int = BINS) -> ReliabilityBins:
    """Mean stated probability and observed frequency in bins (0, 1/n], (1/n, 2/n], …; 0 is in the first.

    Args:
        probabilities: Values in [0, 1], any shape.
        outcomes: Same shape, true where the forecast event happened.
        n_bins: Bins of equal width over [0, 1].
    """
    stated = np.asarray(probabilities, dtype=np.float64).ravel()
    happened = np.asarray(outcomes, dtype=np.float64).ravel()
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.searchsorted(edges[1:-1], stated, side="left")
    counts = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        confidence = np.bincount(place, stated, n_bins) / counts
        frequency = np.bincount(place, happened, n_bins) / counts
    return ReliabilityBins(counts, confidence, frequency)


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, n_bins: int = BINS) -> float:
    """Mean over forecasts of |stated probability - observed frequency| of their bin (Guo et al. 2017, eq. 3).

    NaN without a forecast. Arguments as of `reliability_bins`.
    """
    bins = reliability_bins(probabilities, outcomes, n_bins)
    total = bins.counts.sum()
    gaps = np.nan_to_num(np.abs(bins.confidence - bins.frequency))
    return float(bins.counts @ gaps / total) if total else math.nan

"""What a field shows and what a cell shows, in one score.

The labels of the challenge are those of fields. A model of fields learns them as they are meant, and does not know
which cell shows what; a model of single cells sees that, and learns from labels that many cells do not have. The
winning solutions (Le et al. 2022, Nature Methods 19, 1221) therefore score every cell by both. Here it is the weighted
geometric mean of the two probabilities. Unlike the arithmetic one it is a gate: what the field denies no cell can have;
and within a field it leaves the cells in the order that the model of cells gives them.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import CellsError
from ..metrics.classification import multilabel_metrics

EVEN = 0.5
_WEIGHTS = np.linspace(0, 1, 21)


def fuse_scores(cell_scores: np.ndarray, image_scores: np.ndarray, weight: float = EVEN) -> np.ndarray:
    """Weighted geometric mean `cell_scores ** weight * image_scores ** (1 - weight)`.

    Args:
        cell_scores: (n, K) probabilities of cells.
        image_scores: (K,) probabilities of their field, or (n, K).
        weight: Of the cells, 0 to 1.

    Raises:
        ValueError: The weight is not within 0 and 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of the cells is {weight}; give 0 to 1")
    return np.asarray(cell_scores) ** weight * np.asarray(image_scores) ** (1 - weight)


def choose_weight(
    cell_scores: Sequence[np.ndarray], image_scores: np.ndarray, field_labels: np.ndarray
) -> float:
    """Choose the weight of the cells on validation fields, of whose cells no label is known.

    A field has a label when some of its cells have it, so that the best fused scores of its cells should tell its
    labels. Taken is the weight with the highest mean average precision of the mean of the best quarter, in which a
    single stray cell says little; of equal ones the most even.

    Args:
        cell_scores: (n, K) for each of N fields; fields without a cell do not count.
        image_scores: (N, K).
        field_labels: (N, K) 0 or 1.

    Raises:
        CellsError: No field has a cell, or no label is there and absent.
    """
    kept = [index for index, own in enumerate(cell_scores) if len(own)]
    names = [str(label) for label in range(np.shape(field_labels)[1])]
    truth = np.asarray(field_labels)[kept]
    precisions = []
    for weight in _WEIGHTS:
        pooled = [_best_quarter(fuse_scores(cell_scores[i], image_scores[i], weight)) for i in kept]
        scored = multilabel_metrics(truth, np.array(pooled), np.array(pooled) > 0.5, names) if kept else {}
        precisions.append(scored.get("mean_average_precision", np.nan))
    if not np.isfinite(precisions).any():
        raise CellsError("no validation field tells the weight of the cells; give more fields, or a weight")
    best = np.flatnonzero(np.array(precisions) >= np.nanmax(precisions) - 1e-9)
    return float(_WEIGHTS[best[np.abs(_WEIGHTS[best] - EVEN).argmin()]])


def _best_quarter(scores: np.ndarray) -> np.ndarray:
    """Mean of the best quarter of (n, K) for each label, of one cell at least."""
    return np.sort(scores, axis=0)[-max(1, len(scores) // 4) :].mean(0)

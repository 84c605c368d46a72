"""What a field shows and what a cell shows, in one score.

The labels of the challenge are those of fields. A model of fields learns them as they are meant, and does not know
which cell shows what; a model of single cells sees that, and learns from labels that many cells do not have. The
winning solutions (Le et al. 2022, Nature Methods 19, 1221) therefore score every cell by both. Here it is the weighted
geometric mean of the cell's probability and the field's. Unlike the arithmetic one it is a gate: what the field denies
no cell can have; and within a field it leaves the cells in the order that the model of cells gives them.

What a field shows is told by two witnesses: the model of fields, where there is one, and the cells of the field
together, which have most of their labels in common, and some of which show them better than others.

The field is the surer witness, so it has most of the weight. Labels of fields cannot choose the weight, because they do
not say which cells have them; simulated fields can, and benchmarks/hpa_weak_labels.py does it on validation fields. The
surest quarter, and that both witnesses of the field count alike, were compared once on the same fields with the mean,
the maximum, power means and other shares.
"""

import math

import numpy as np

CELL_WEIGHT = 0.2
_SUREST = 0.25


def fuse_scores(cell_scores: np.ndarray, field_scores: np.ndarray, weight: float = CELL_WEIGHT) -> np.ndarray:
    """Weighted geometric mean `cell_scores ** weight * field_scores ** (1 - weight)`.

    Args:
        cell_scores: (n, K) probabilities of cells; NaN, of a cell that has none, stays NaN.
        field_scores: (K,) probabilities of their field, or (n, K).
        weight: Of the cells, 0 to 1.

    Raises:
        ValueError: The weight is not within 0 and 1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of the cells is {weight}; give 0 to 1")
    cells = np.asarray(cell_scores)
    fused = cells**weight * np.asarray(field_scores) ** (1 - weight)
    return np.where(np.isnan(cells), np.nan, fused)  # NaN to the power of 0 would be 1


def scores_of_field(cell_scores: np.ndarray, image_scores: np.ndarray | None = None) -> np.ndarray:
    """Return (K,) what a field shows: the geometric mean of what its cells and what the model of fields say.

    The cells say the mean of the surest quarter of them for each label. A label of a field says that some of its cells
    have it, so a mean of all would miss what few show, and the maximum hangs on one.

    Args:
        cell_scores: (n, K) probabilities of its cells; those without a score (NaN) are left out.
        image_scores: (K,) probabilities of the model of fields; the cells speak alone without one.
    """
    scored = _scored(cell_scores)
    if not len(scored):
        return np.zeros(scored.shape[1])
    together = np.sort(scored, 0)[-math.ceil(_SUREST * len(scored)) :].mean(0)
    return together if image_scores is None else np.sqrt(together * np.asarray(image_scores))


def decide_cells(
    cell_scores: np.ndarray,
    image_scores: np.ndarray | None,
    cell_thresholds: np.ndarray,
    image_thresholds: np.ndarray | None,
    weight: float = CELL_WEIGHT,
) -> np.ndarray:
    """Return (n, K) bool: which labels the cells get; a cell at the thresholds of both models is at that of the fusion.

    The surest cells order cells of different fields well, but they pass a threshold by being many: it was chosen on
    single ones. So the field is here what its model says, or the mean of its cells.

    Args:
        cell_scores: (n, K) probabilities of the cells of a field, NaN for a cell that has none, which gets no label.
        image_scores: (K,) probabilities of the model of fields, or None.
        cell_thresholds: (K,) of the model of cells.
        image_thresholds: (K,) of the model of fields, or None.
        weight: Of the cells, 0 to 1.
    """
    scored = _scored(cell_scores)
    if image_scores is None or image_thresholds is None:
        image_scores = scored.mean(0) if len(scored) else np.zeros(scored.shape[1])
        image_thresholds = cell_thresholds
    fused = fuse_scores(cell_scores, image_scores, weight)
    return fused >= fuse_scores(cell_thresholds, image_thresholds, weight)


def _scored(cell_scores: np.ndarray) -> np.ndarray:
    cells = np.asarray(cell_scores)
    return cells[~np.isnan(cells).any(1)]

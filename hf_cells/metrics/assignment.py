"""One-to-one assignment of true to predicted objects on their sparse overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hf_cells.metrics.overlap import FloatArray, IntArray, Overlap

# Largest cost matrix solved in one piece (128 MB); beyond it each connected group of objects is solved alone.
_DENSE_ASSIGNMENT = 2**24


def assign(overlap: Overlap, gain: FloatArray) -> IntArray:
    """Choose pairs one to one with the highest sum of gain.

    The whole matrix goes to the solver in the order of the labels, as in the reference implementations, so
    that equally good assignments are decided as they decide them. Too large a matrix is split into its
    connected groups of objects: the same optimum, though a tie may fall differently.

    Args:
        overlap: of the image.
        gain: (n_pairs,) positive gain of every pair of `overlap`; objects that share no pixel gain nothing.

    Returns:
        (n_chosen,) indices into the pairs, ascending.
    """
    rows, cols = overlap.rows, overlap.cols
    if overlap.n_true * overlap.n_pred <= _DENSE_ASSIGNMENT:
        return np.flatnonzero(_solve(rows, cols, gain, overlap.n_true, overlap.n_pred))
    if len(rows) == 0:
        return np.empty(0, dtype=np.int64)
    graph = coo_array(
        (np.ones(len(rows), dtype=bool), (rows, cols + overlap.n_true)),
        shape=(overlap.n_true + overlap.n_pred,) * 2,
    )
    group = connected_components(graph, directed=False)[1][rows]
    # A pair without rivals is chosen outright: most objects of a good prediction.
    rivals = np.bincount(group)[group] > 1
    chosen = [np.flatnonzero(~rivals)]
    contested = np.flatnonzero(rivals)
    contested = contested[np.argsort(group[contested], kind="stable")]
    for members in np.split(contested, np.flatnonzero(np.diff(group[contested])) + 1) if rivals.any() else []:
        local_rows = np.unique(rows[members], return_inverse=True)[1]
        local_cols = np.unique(cols[members], return_inverse=True)[1]
        taken = _solve(local_rows, local_cols, gain[members], local_rows.max() + 1, local_cols.max() + 1)
        chosen.append(members[taken])
    return np.sort(np.concatenate(chosen))


def _solve(rows: IntArray, cols: IntArray, gain: FloatArray, n_rows: int, n_cols: int) -> NDArray[np.bool_]:
    """Solve one dense assignment and say of each pair whether it was chosen."""
    cost = np.zeros((n_rows, n_cols))
    cost[rows, cols] = -gain
    chosen_rows, chosen_cols = linear_sum_assignment(cost)
    partner = np.full(n_rows, -1)
    partner[chosen_rows] = chosen_cols
    return partner[rows] == cols

"""Folds for items with several labels: each fold has its share of every label, and no group is divided.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10) with whole groups
in the place of samples, and then exchanges, as whole groups do not come out even by themselves.
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from ..errors import CellsError

_MOST_MOVES = 2000
_MOST_SWAPPED = 400  # groups; pairs of more are too many to try, and moves alone come close enough


def assign_folds(
    groups: Sequence[str], labels: Sequence[Collection[str]], n_folds: int, seed: int = 0
) -> list[int]:
    """Give every item a fold, 0 to n_folds - 1, such that no group is in two and labels are spread evenly.

    The label with the fewest items left goes first; its groups, the largest first, go each to the fold that
    wants most of that label, then most items, then by a hash of seed and group. After that, groups move or change
    places while that brings the folds nearer to their shares. The outcome depends on the data and the seed alone.

    Args:
        groups: Group of each item; its own name for an item that stands alone.
        labels: Labels of each item, none, one or several.
        n_folds: Number of folds, 2 or more.
        seed: Another seed, another order among equals.

    Raises:
        CellsError: There are fewer groups than folds, or fewer than two folds.
    """
    names = sorted({label for own in labels for label in own})
    place = {name: index for index, name in enumerate(names)}
    # In the order of a hash, so that ties are settled by it and not by the order of the rows.
    order = sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    members = {group: index for index, group in enumerate(order)}
    if n_folds < 2:
        raise CellsError(f"n_folds is {n_folds}; use 2 or more")
    if len(members) < n_folds:
        raise CellsError(f"{len(members)} groups do not fill {n_folds} folds; lower n_folds or group less")
    # (groups, labels + 1); the last column counts items.
    counts = np.zeros((len(members), len(names) + 1), np.int64)
    for group, own in zip(groups, labels, strict=True):
        counts[members[group], [place[label] for label in set(own)]] += 1
        counts[members[group], -1] += 1
    wanted = np.repeat(counts.sum(0)[None] / n_folds, n_folds, axis=0)  # (folds, labels + 1)
    fold = np.full(len(members), -1)
    while (free := fold < 0).any():
        left = counts[free, :-1].sum(0)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin()) if (left > 0).any() else -1
        chosen = np.flatnonzero(free & (counts[:, rarest] > 0))
        for group in chosen[np.argsort(-counts[chosen, rarest], kind="stable")]:
            best = max(range(n_folds), key=lambda f: (wanted[f, rarest], wanted[f, -1], -f))
            fold[group] = best
            wanted[best] -= counts[group]
    _exchange(counts, fold, n_folds)
    return [int(fold[members[group]]) for group in groups]


def _exchange(counts: np.ndarray, fold: np.ndarray, n_folds: int) -> None:
    """Move groups, or swap two, while the chi square of the folds' shares falls; changes `fold` (groups,)."""
    share = np.maximum(counts.sum(0) / n_folds, 1e-9)
    scaled = counts / share
    squares = (counts * scaled).sum(1)  # (groups,)
    held = np.stack([counts[fold == f].sum(0) for f in range(n_folds)])  # (folds, labels + 1)
    groups = np.arange(len(fold))
    for _ in range(_MOST_MOVES):
        # Half of what chi square changes by when a group goes over: (groups, folds).
        in_fold = np.stack([(scaled * held[f]).sum(1) for f in range(n_folds)], axis=1)
        change = in_fold - in_fold[groups, fold][:, None] + squares[:, None]
        change[groups, fold] = 0
        change[np.bincount(fold, minlength=n_folds)[fold] < 2] = 0  # no fold is left without a group
        group, other = np.unravel_index(change.argmin(), change.shape)
        if change[group, other] > -1e-6:
            if not _swap(counts, scaled, fold, held):
                return
            continue
        held[fold[group]] -= counts[group]
        held[other] += counts[group]
        fold[group] = other


def _swap(counts: np.ndarray, scaled: np.ndarray, fold: np.ndarray, held: np.ndarray) -> bool:
    """Swap the two groups that gain most; False when there are none."""
    best, pair = -1e-6, None
    for group in range(len(fold) if len(fold) <= _MOST_SWAPPED else 0):
        difference = counts - counts[group]  # what the group's fold would gain
        apart = held[fold[group]] - held[fold]
        change = ((scaled - scaled[group]) * (apart + difference)).sum(1)
        change[fold == fold[group]] = 0
        if (least := change.min()) < best:
            best, pair = least, (group, int(change.argmin()))
    if pair is None:
        return False
    first, second = pair
    difference = counts[second] - counts[first]
    held[fold[first]] += difference
    held[fold[second]] -= difference
    fold[first], fold[second] = fold[second], fold[first]
    return True

"""Splits that keep groups whole and give every class its share, as far as the groups allow."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial

ROUNDS = 10  # more than were ever needed


def assign_stratified_splits(
    groups: Sequence[str],
    classes: Sequence[Collection[str]],
    fractions: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """Give every item a split such that no group is on two sides and each class has its share in each.

    It is `assign_splits` with the distance to the wanted share summed over classes: groups come in the
    order of a hash of seed and name, and a split takes one while that brings it nearer. Before that, the
    class with the fewest groups first, every class gets a group in every split; where a class has fewer
    groups than there are splits, `train` is served first, then the splits in the order of `fractions`.
    After that, groups move to another split while that brings the two nearer together.

    Args:
        groups: One group name per item (give each item its own for a plain random split).
        classes: The classes of each item, one or several.
        fractions: Share of the items per split, such as {"test": .2, "validation": .1}; `train` gets the rest.
        seed: Another seed, another order.

    Raises:
        ValueError: Fractions below 0 or not below 1 together.
    """
    if min(fractions.values(), default=0) < 0 or sum(fractions.values()) >= 1:
        raise ValueError(f"split fractions {dict(fractions)} must be 0 or more and below 1 together")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group, names in zip(groups, classes, strict=True):
        counts[group].update(set(names) or {""})  # an item without a class is to be spread as well
    totals = Counter[str]()
    for of_group in counts.values():
        totals.update(of_group)
    ordered = sorted(counts, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    share = {"train": 1 - sum(fractions.values()), **{s: f for s, f in fractions.items() if f > 0}}
    held: dict[str, Counter[str]] = {split: Counter() for split in share}
    side: dict[str, str] = {}

    def gain(split: str, group: str, sign: int = 1) -> float:
        """How much nearer it brings the split to add (1) or remove (-1) the group: the drop of chi square."""
        drop = 0.0
        for name, n in counts[group].items():
            wanted = share[split] * totals[name]
            drop += n * (2 * sign * (wanted - held[split][name]) - n) / wanted
        return drop

    def place(split: str, group: str) -> None:
        side[group] = split
        held[split].update(counts[group])

    def spare(group: str) -> bool:
        """Whether its split keeps every class without the group."""
        return all(held[side[group]][name] > n for name, n in counts[group].items())

    having = {name: [group for group in ordered if name in counts[group]] for name in totals}
    for name in sorted(totals, key=lambda name: (len(having[name]), name)):
        free = [group for group in having[name] if group not in side]
        lacking = [split for split in share if not held[split][name]][: len(free)]
        for split in reversed(lacking):  # small splits choose first: train can hold whatever is left
            fitting = (group for group in free if gain(split, group) > 0)
            chosen = next(fitting, None) or max(free, key=partial(gain, split))
            place(split, chosen)
            free.remove(chosen)
    for split in share:
        if split != "train":
            for group in ordered:
                if group not in side and gain(split, group) > 0:
                    place(split, group)
    for group in ordered:
        if group not in side:
            place("train", group)
    for _ in range(ROUNDS):
        before = dict(side)
        for group in filter(spare, ordered):
            here = side[group]
            best = max(
                (split for split in share if split != here), key=lambda s: gain(s, group), default=here
            )
            if gain(best, group) + gain(here, group, -1) > 1e-9:
                held[here].subtract(counts[group])
                place(best, group)
        if side == before:
            break
    return [side[group] for group in groups]

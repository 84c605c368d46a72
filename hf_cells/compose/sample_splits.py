"""Samples are divided by source image before anything is composed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

SHARE = 0.1  # of the samples of a class, for validation and for test each


def split_by_source_image(classes: Sequence[str], images: Sequence[str], seed: int = 0) -> list[str]:
    """Give every sample "train", "validation" or "test" (80/10/10) such that no source image is in two.

    The rarest class chooses first. A class with three source images of its own, or shared with one other
    class, has at least one in each split. Images are taken in the order of a hash, so the outcome depends
    on nothing but the names and the seed.

    Args:
        classes: Class of each sample.
        images: Source image of each sample.
        seed: Another seed, another order.
    """
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for class_name, image in zip(classes, images):
        count[class_name][image] += 1
    side: dict[str, str] = {}
    for class_name in sorted(count, key=lambda name: (len(count[name]), name)):
        _assign(count[class_name], side, seed)
    return [side.get(image, "train") for image in images]


def _assign(own: Counter[str], side: dict[str, str], seed: int) -> None:
    """Add source images of one class, {image: samples}, to `side` until test and validation have their share."""
    held: Counter[str] = Counter()
    for image, samples in own.items():
        if image in side:
            held[side[image]] += samples
    free = [image for image in own if image not in side]
    free.sort(key=lambda image: hashlib.sha256(f"{seed}:{image}".encode()).digest())
    wanted = max(1, round(SHARE * own.total()))
    for split, later in (("test", ("validation", "train")), ("validation", ("train",))):
        reserved = sum(not held[name] for name in later)
        while len(own) >= 3 and held[split] < wanted and len(free) > reserved:
            # Not an image so full that it takes far more than the share.
            fitting = [image for image in free if own[image] <= 2 * (wanted - held[split])]
            if held[split] and not fitting:
                break
            chosen = fitting[0] if fitting else min(free, key=own.__getitem__)
            free.remove(chosen)
            side[chosen] = split
            held[split] += own[chosen]
    if free and not held["train"]:
        side[max(free, key=own.__getitem__)] = "train"  # a commoner class must not take the only one

"""Samples are divided by source image before anything is composed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

SHARE = 0.1  # of the samples of a class, for validation and for test each


def split_by_source_image(classes: Sequence[str], images: Sequence[str], seed: int = 0) -> list[str]:
    """Give every sample "train", "validation" or "test" (80/10/10) such that no source image is in two.

    The rarest class chooses first. A class with samples in three source images has at least one in each
    split; images are taken in the order of a hash, so the outcome depends on nothing but the names and
    the seed.

    Args:
        classes: Class of each sample.
        images: Source image of each sample.
        seed: Another seed, another order.
    """
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for class_name, image in zip(classes, images):
        count[class_name][image] += 1
    order = sorted(count, key=lambda name: (len(count[name]), name))
    side: dict[str, str] = {}
    for class_name in order:
        own = count[class_name]
        free = [image for image in own if image not in side]
        free.sort(key=lambda image: hashlib.sha256(f"{seed}:{image}".encode()).digest())
        wanted = max(1, round(SHARE * own.total()))
        held = Counter({s: sum(own[i] for i in own if side.get(i) == s) for s in ("test", "validation")})
        trained = any(side.get(image) == "train" for image in own)
        if len(own) >= 3:
            for split in ("test", "validation"):
                while held[split] < wanted and len(free) > (0 if trained else 1) + (split == "test"):
                    # Not an image so full that it would take far more than the share.
                    fitting = [i for i in free if own[i] <= 2 * (wanted - held[split])]
                    chosen = fitting[0] if fitting else min(free, key=lambda i: own[i])
                    if held[split] and not fitting:
                        break
                    free.remove(chosen)
                    side[chosen] = split
                    held[split] += own[chosen]
        # The rest is train's: a commoner class must not take it for its own share.
        side.update(dict.fromkeys(free, "train"))
    return [side[image] for image in images]

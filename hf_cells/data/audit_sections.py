"""The sections of an audit's report, each with what it says about leaks. Groups are counted and never named."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import look_alikes
from .group_patterns import Grouping, Groups
from .image_scan import ImageScan

LISTED = 5000  # pairs in the report; all are counted
MUCH_MORE, SURELY = (
    1.5,
    5.0,
)  # ratio to chance, and standard deviations, of numbers that behave like specimens
KEPT_TOGETHER = 0.1  # of look-alikes with close ids, those in another split; blocks of ids have few
IMBALANCED = 10.0  # the largest class to the smallest
OF_TWO_SIZES = 1.3  # the largest median side of a class to the smallest

Label = tuple[str, ...] | None


@dataclass
class Findings:
    """What the sections look at, and what they found.

    Attributes:
        scan: Of the pixels of N images.
        sides: Split of each image.
        labels: Class names of each image; None where the data has no classes.
        classes: `labels` where each image has one; within these, images are compared.
        nearest: (N,) rows of the nearest look-alikes, or -1.
        report: Sections by name.
        leaks: How many groups and copies leak.
        leak_texts: What leaks, in sentences.
        warnings: What else to know, in sentences.
    """

    scan: ImageScan
    sides: list[str]
    labels: list[Label] | None
    classes: list[Label] | None
    nearest: np.ndarray
    report: dict[str, Any] = field(default_factory=dict)
    leaks: int = 0
    leak_texts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def place(self, row: int) -> list[str]:
        """Return split and image id of a row."""
        return [self.sides[row], self.scan.image_ids[row]]

    def across(self, rows: Sequence[int]) -> bool:
        """Tell whether rows are in more than one split."""
        return len({self.sides[row] for row in rows}) > 1

    def conflict(self, rows: Sequence[int]) -> bool:
        """Tell whether rows have different labels."""
        return self.labels is not None and len({self.labels[row] for row in rows} - {None}) > 1


def groups(found: Findings, groupings: list[Grouping]) -> None:
    """`groups`: by the first reading; `other_groupings`: the others, which only warn."""
    described = [_describe(found, one.source, one.groups) for one in groupings]
    first = described[0] if described else _describe(found, None, [None] * len(found.sides))
    found.report |= {"groups": first, "other_groupings": described[1:]}
    found.leaks += first["across_splits"]
    if first["across_splits"]:
        found.leak_texts.append(
            f"{first['across_splits']} of {first['count']} groups ({first['source']}) are in more than one split"
        )
    for other in described[1:]:
        if other["across_splits"] and not first["across_splits"]:
            found.warnings.append(
                f"{other['across_splits']} of {other['count']} groups by another reading ({other['source']}) "
                "are in more than one split; if these are the specimens, say so with --groups"
            )


def _describe(found: Findings, source: str | None, groups: Groups) -> dict[str, Any]:
    sizes = Counter(group for group in groups if group is not None)
    sides = defaultdict(set)
    for group, side in zip(groups, found.sides):
        sides[group].add(side)
    shared = [group for group in sizes if len(sides[group]) > 1]
    ordered = sorted(sizes.values()) or [0]
    return {
        "source": source,
        "count": len(sizes),
        "images_without": groups.count(None),
        "smallest": ordered[0],
        "median": float(np.median(ordered)),
        "largest": ordered[-1],
        "across_splits": len(shared),
        "images_across_splits": sum(sizes[group] for group in shared),
        "look_alikes": look_alikes.group_test(groups, found.nearest, found.classes),
    }


def exact_duplicates(found: Findings, copies: list[list[int]]) -> None:
    """`exact_duplicates`: the rows of each picture that is there more than once."""
    across = [members for members in copies if found.across(members)]
    conflicts = [members for members in copies if found.conflict(members)]
    found.report["exact_duplicates"] = {
        "sets": len(copies),
        "images": sum(map(len, copies)),
        "across_splits": len(across),
        "members": [[found.place(row) for row in members] for members in copies],
    }
    found.leaks += len({members[0] for members in across + conflicts})
    if across:
        found.leak_texts.append(
            f"{len(across)} of {len(copies)} pixel-identical pictures are in more than one split"
        )
    if conflicts:
        found.leak_texts.append(f"{len(conflicts)} pixel-identical pictures have different labels")


def near_duplicates(
    found: Findings, pairs: np.ndarray, similarities: np.ndarray, threshold: float, method: str
) -> None:
    """`near_duplicates`: (P, 2) rows and (P,) similarities, without exact copies."""
    across = sum(found.across(pair) for pair in pairs)
    found.report["near_duplicates"] = {
        "method": method,
        "threshold": round(float(threshold), 4),
        "pairs": len(pairs),
        "across_splits": across,
        "members": [
            [found.place(first), found.place(second), round(float(similarity), 4)]
            for (first, second), similarity in list(zip(pairs, similarities))[:LISTED]
        ],
    }
    if across:
        found.warnings.append(f"{across} of {len(pairs)} pairs of near duplicates are in two splits")


def label_conflicts(found: Findings, copies: list[list[int]], pairs: np.ndarray) -> None:
    """`label_conflicts`: different labels of exact copies and of near duplicates."""
    ids, labels = found.scan.image_ids, found.labels or []
    conflicts = {
        "exact": [members for members in copies if found.conflict(members)],
        "near": [pair for pair in pairs if found.conflict(pair)],
    }
    found.report["label_conflicts"] = {
        kind: [[[ids[row], ", ".join(labels[row] or ())] for row in members] for members in sets]
        for kind, sets in conflicts.items()
    }
    if conflicts["near"]:
        found.warnings.append(f"{len(conflicts['near'])} pairs of near duplicates have different labels")


def numbers(found: Findings, values: np.ndarray | None) -> None:
    """`running_numbers`: whether contiguous image ids behave like specimens; None where they are no numbers."""
    found.report["running_numbers"] = None
    if values is None:
        return
    test = look_alikes.number_test(values, found.nearest, found.classes)
    sides = np.array(found.sides)
    close = (found.nearest >= 0) & (np.abs(values - values[found.nearest]) <= test["window"])
    across = int((close & (sides != sides[found.nearest])).sum())
    specimens = bool((test["ratio"] or 0) >= MUCH_MORE and test["z"] >= SURELY)
    together = across <= KEPT_TOGETHER * close.sum()
    found.report["running_numbers"] = {
        "like_specimens": specimens,
        "kept_together": bool(together),
        "look_alikes_across_splits": across,
        **test,
    }
    if specimens:
        split = f"; {across:,} have it in another split, so split by blocks of ids"
        if together:
            split = f"; the splits keep all but {across:,} of these together" if across else ""
        found.warnings.append(
            f"contiguous image ids behave like specimens: {test['observed']:.0%} of images have their nearest "
            f"look-alike within {test['window']} ids, {test['ratio']:.1f} times chance{split}"
        )


def classes(found: Findings, names: Sequence[str]) -> None:
    """`classes`: images per class and split; None without labels."""
    found.report["classes"] = None
    if found.labels is None:
        return
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for label, side in zip(found.labels, found.sides):
        for name in label or ():
            counts[name][side] += 1
    totals = [sum(count.values()) for count in counts.values()] or [0]
    ratio = max(totals) / max(min(totals), 1)
    found.report["classes"] = {
        "counts": {name: dict(count) for name, count in counts.items()},
        "unlabelled": found.labels.count(None),
        "largest_to_smallest": round(ratio, 2),
    }
    if ratio >= IMBALANCED:
        found.warnings.append(f"the largest class has {ratio:.0f} times the images of the smallest")
    sides = dict.fromkeys(found.sides)
    absent = [f"{name} in {side}" for name, count in counts.items() for side in sides if not count[side]]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        found.warnings.append(f"no images of {', '.join(absent[:3])}{more}")


def sizes(found: Findings) -> None:
    """`sizes`: heights and widths in pixels as [smallest, median, largest], and the typical side by class."""
    heights, widths = found.scan.sizes.T
    by_class = defaultdict(list)
    for label, side in zip(found.classes or (), np.sqrt(heights * widths)):
        by_class[", ".join(label or ())].append(side)
    medians = {label: round(float(np.median(sides)), 1) for label, sides in by_class.items()}
    found.report["sizes"] = {
        "distinct": len(np.unique(found.scan.sizes, axis=0)),
        "height": [int(heights.min()), float(np.median(heights)), int(heights.max())],
        "width": [int(widths.min()), float(np.median(widths)), int(widths.max())],
        "median_side_by_class": medians,
    }
    if medians and max(medians.values()) > OF_TWO_SIZES * min(medians.values()):
        found.warnings.append(
            f"size tells the class: the median side is {min(medians.values()):.0f} px in one class and "
            f"{max(medians.values()):.0f} px in another"
        )


def unreadable(found: Findings) -> None:
    """`unreadable`: split, image id and reason."""
    found.report["unreadable"] = [list(item) for item in found.scan.unreadable]
    if found.scan.unreadable:
        found.warnings.append(f"{len(found.scan.unreadable)} images cannot be read and were left out")

"""Which images belong together, from columns and names: patients, slides, wells, fields, running numbers.

A candidate pattern takes the first tokens of a name, up to a separator, or one token. It is plausible when it
makes groups as specimens do: several of them, most with more than one image, none with most of the images.
A pattern never holds a piece of a name, so it may be printed where a name may not.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CellsError

SUFFIX = re.compile(r"\.(png|tiff?|jpe?g|bmp|gif|webp|npy)$", re.IGNORECASE)
SEPARATORS = "/ _-."  # the strongest first
MOST_TOKENS = 8  # of a name that are tried
FEWEST_GROUPS = 3
FEW_WORDS = 10  # fewer distinct values without numbers are a category: a stain, a centre, a split
DATE = re.compile(r"(.*\D)?(19|20)\d\d([01]\d[0-3]\d)?")
ONE_NUMBER = re.compile(r"\D*(\d{1,18})\D*")
NUMBERED_TOKENS = re.compile(r"(?:[A-Za-z]+\d+)+[A-Za-z]?")

SPECIMEN = re.compile(
    r"group|patient|subject|donor|case|specimen|serum|animal|mouse|slide|section|block|plate|well|field|fov|"
    r"batch|experiment|series|parent|source|video",
    re.IGNORECASE,
)

Groups = list[str | None]


@dataclass
class Grouping:
    """A way to say which images belong together.

    Attributes:
        source: Where it was read, such as "column group" or "names, ^([^_]+)_"; never a group's name.
        groups: The group of each image, or None.
    """

    source: str
    groups: Groups

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(set(self.groups) - {None})


def find_groupings(
    image_ids: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    labels: Sequence[Any] | None = None,
    asked: str | None = None,
) -> list[Grouping]:
    """Find how images belong together, the most plausible way first; each partition once.

    The column `group` comes first where it says anything. Then, those with the fewest groups first, columns
    that are named like a specimen (`slide`, `patient_id`) and patterns in the names, where plausible.

    Args:
        image_ids: N names.
        columns: Further columns, N values each.
        labels: Class of each image: what is only the class again is no group.
        asked: A column (`image_id`: every image is its own group), or a regular expression for the names; then
            nothing else is looked for.

    Raises:
        CellsError: As `match_groups`.
    """
    texts = {name: [None if v is None else str(v) for v in values] for name, values in columns.items()}
    texts["image_id"] = list(image_ids)
    if asked is not None:
        if asked in texts:
            return [Grouping(f"column {asked}", texts[asked])]
        return [Grouping(f"names, {asked}", match_groups(image_ids, asked))]
    found = [
        Grouping(f"column {name}", groups)
        for name, groups in texts.items()
        if name != "group" and SPECIMEN.search(name) and plausible(groups, labels)
    ]
    patterns = find_patterns(image_ids, labels)
    found += [Grouping(f"names, {pattern}", groups) for pattern, groups in patterns.items()]
    found.sort(key=lambda grouping: grouping.count)
    if any(texts.get("group", ())):
        found.insert(0, Grouping("column group", texts["group"]))
    return list({_partition(grouping.groups): grouping for grouping in reversed(found)}.values())[::-1]


def match_groups(names: Sequence[str], pattern: str) -> Groups:
    """Return what a regular expression finds in each name: its first bracket if it has one; None for nothing.

    Args:
        names: Such as image ids; folders and a file suffix may be part of them.
        pattern: Searched in the name without its suffix.

    Raises:
        CellsError: It is no regular expression, or finds nothing in any name.
    """
    try:
        groups = _search(pattern, [SUFFIX.sub("", name) for name in names])
    except re.error as error:
        raise CellsError(f"groups={pattern!r} is not a regular expression: {error}; mend it") from error
    if not any(groups):
        raise CellsError(
            f"groups={pattern!r} is no column, and as a regular expression finds nothing in any of "
            f"{len(names)} image ids; widen the expression"
        )
    return groups


def find_patterns(names: Sequence[str], labels: Sequence[Any] | None = None) -> dict[str, Groups]:
    """Return the plausible patterns with their groups, the most plausible first, each partition once.

    Few long groups come before many short ones: a patient holds slides, a slide fields, and only the outermost
    keeps both sides of a split apart.
    """
    stems = [SUFFIX.sub("", name) for name in names]
    for kind in (_prefixes, _single_tokens, _numbered_prefixes):
        found: dict[tuple[int, ...], tuple[str, Groups]] = {}
        for pattern in kind(stems):
            groups = _search(pattern, stems)
            if groups.count(None) <= 0.05 * len(stems) and plausible(groups, labels):
                found.setdefault(_partition(groups), (pattern, groups))
        if found:
            return dict(found.values())
    return {}


def plausible(groups: Sequence[str | None], labels: Sequence[Any] | None = None) -> bool:
    """Tell whether groups look like specimens, and not like classes, categories, dates or running numbers.

    Args:
        groups: One for each image, or None.
        labels: The class of each image, in the same order.
    """
    sizes = Counter(group for group in groups if group is not None)
    if len(sizes) < FEWEST_GROUPS or max(sizes.values()) > len(groups) / 2:
        return False
    if sum(size for size in sizes.values() if size > 1) < len(groups) / 2:
        return False
    if all(DATE.fullmatch(group) for group in sizes):
        return False
    without_numbers = {re.sub(r"\d+", "#", group) for group in sizes}
    if len(without_numbers) == len(sizes) < FEW_WORDS:
        return False
    # Groups that never hold part of a class are the classes again, or bundles of them.
    return labels is None or len(set(zip(groups, labels))) > len(set(labels))


def running_numbers(names: Sequence[str]) -> np.ndarray | None:
    """Return the one number in each name, int64 (N,), when nearly all are different; else None."""
    matches = [ONE_NUMBER.fullmatch(SUFFIX.sub("", name).rpartition("/")[2]) for name in names]
    numbers = [int(match.group(1)) for match in matches if match]
    if not numbers or len(numbers) < len(names) or len(set(numbers)) < 0.99 * len(numbers):
        return None
    return np.array(numbers, np.int64)


def _search(pattern: str, stems: Sequence[str]) -> Groups:
    expression = re.compile(pattern)
    bracket = min(1, expression.groups)
    return [match.group(bracket) if (match := expression.search(stem)) else None for stem in stems]


def _partition(groups: Groups) -> tuple[int, ...]:
    """Number the groups by first appearance, so that two namings of one partition are equal."""
    numbers: dict[str | None, int] = {}
    return tuple(numbers.setdefault(group, len(numbers)) for group in groups)


def _prefixes(stems: Sequence[str]) -> Iterator[str]:
    """The first tokens of A01_s3_cell7, up to a separator; strong separators first."""
    for separator in _separators(stems):
        token = f"[^{separator}]+"
        for count in range(MOST_TOKENS):
            yield f"^({token}{f'(?:{separator}{token}){{{count}}}' if count else ''}){separator}"


def _single_tokens(stems: Sequence[str]) -> Iterator[str]:
    """One later token of 0001_P12, with a letter and a digit: a digit alone is a counter."""
    for separator in _separators(stems):
        token = f"[^{separator}]"
        for count in range(1, MOST_TOKENS):
            mixed = f"(?={token}*[A-Za-z])(?={token}*\\d){token}+"
            yield f"^(?:{token}+{separator}){{{count}}}({mixed})"


def _numbered_prefixes(stems: Sequence[str]) -> Iterator[str]:
    """The first parts of C33P1F2. All names must have one shape, which hexadecimal hashes have not."""
    shapes = {re.sub(r"\d+", "#", stem) for stem in stems}
    if len(shapes) == 1 and all(NUMBERED_TOKENS.match(stem) for stem in stems):
        for count in range(1, MOST_TOKENS):
            yield f"^((?:[A-Za-z]+\\d+){{{count}}})[A-Za-z]"


def _separators(stems: Sequence[str]) -> list[str]:
    return [re.escape(s) for s in SEPARATORS if sum(s in stem for stem in stems) > 0.9 * len(stems)]

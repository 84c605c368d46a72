"""What can be wrong with the text of a card, given `results.json`; `card.check_card` puts it together."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from huggingface_hub import CardData

from .tables import format_number, reported_metrics


def sections(text: str) -> dict[str, str]:
    """Second-level sections by title, code blocks left out; the text before the first has the empty title."""
    parts = re.split(r"^## +(.+?)\s*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def local_links(text: str) -> list[str]:
    """Targets of the links and pictures of a card that should lie in the repository."""
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", _without_code(text))
    local = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|#|//", target)]
    return [unquote(target.partition("#")[0]) for target in local]


def metadata_problems(data: CardData, results: Mapping[str, Any]) -> Iterator[str]:
    """Missing or malformed metadata, and a model-index that differs from the measured metrics."""
    for key in ("license", "library_name", "pipeline_tag"):
        if not isinstance(data.get(key), str):
            yield f"metadata: {key} is missing or no text"
    for key in ("tags", "datasets", "metrics"):
        values = data.get(key, [] if key == "datasets" else None)  # own folders have no page to name
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            yield f"metadata: {key} is missing or no list of texts"
    widget = data.get("widget", [])
    if not isinstance(widget, list) or not all(isinstance(item, dict) and "src" in item for item in widget):
        yield "metadata: widget is no list of objects with a src"
    measured = reported_metrics(results["metrics"])
    reported = {result.metric_type: result.metric_value for result in data.get("eval_results", [])}
    for name in sorted(measured.keys() | reported.keys()):
        if measured.get(name) != reported.get(name):
            values = f"{reported.get(name)}, results.json as {measured.get(name)}"
            yield f"metadata: model-index gives {name} as {values}"


def table_problems(section: str, expected: list[list[str]]) -> Iterator[str]:
    """Table rows of a section that do not follow from results.json, and rows that are not there."""
    lines = [line.strip() for line in section.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {index for index, row in enumerate(rows) if all(re.fullmatch(":?-+:?", cell) for cell in row)}
    found = [
        row for index, row in enumerate(rows) if not {index, index + 1} & rules
    ]  # a rule follows a header
    for row in found:
        if row not in expected:
            yield f"table row {' | '.join(row)!r} is not what results.json says"
    for row in expected:
        if row not in found:
            yield f"table row {' | '.join(row)!r} of results.json is missing"


def prose_problems(section: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Decimal numbers outside code that are neither a number nor part of a text of results.json."""
    leaves = list(_leaves(results))
    numbers = {format_number(leaf) for leaf in leaves if not isinstance(leaf, str)}
    texts = " ".join(leaf for leaf in leaves if isinstance(leaf, str))
    for token in re.findall(r"(?<![\w.,])\d[\d,]*\.\d+(?![\w.]*\w)", _without_code(section)):
        if token not in numbers and token not in texts:
            yield f"{token} does not appear in results.json"


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value

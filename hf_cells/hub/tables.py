"""What `results.json` says, as the text of a card: every number formatted in one place, by one rule."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..evaluation.results import HEADLINES, WHOLE_SPLIT, WITHOUT_COPIES

_STRATUM_COLUMNS = 4


class Table(NamedTuple):
    """A table of a card. Every cell is text made from `results.json`."""

    title: str
    header: list[str]
    rows: list[list[str]]


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of the section "Results": all metrics, then thresholds, strata and classes where measured."""
    metrics = {name: entry for name, entry in results["metrics"].items() if isinstance(entry, Mapping)}
    rows = [[f"`{name}`", *metric_cells(entry)] for name, entry in metrics.items() if "value" in entry]
    tables = [Table("", ["Metric", "Value", "95 % interval", "n"], rows)]
    plain = {name: entry for name, entry in (results.get("argmax") or {}).items() if name in metrics}
    if any(entry["value"] != metrics[name]["value"] for name, entry in plain.items()):
        rows = [[f"`{name}`", estimate(entry), estimate(metrics[name])] for name, entry in plain.items()]
        tables.append(Table("What the thresholds change", ["Metric", "Without", "With thresholds"], rows))
    if strata := results.get("strata"):
        columns = headlines(strata.values())[:_STRATUM_COLUMNS]
        rows = [
            [_escape(name), _count(entries), *(estimate(entries.get(column)) for column in columns)]
            for name, entries in strata.items()
        ]
        tables.append(Table("Per stratum", ["Stratum", "n", *_code(columns)], rows))
    if beside := results.get("beside"):
        tables.append(_beside_table(beside))
    classes = {
        f"Per class: `{name}`": _with_intervals(entry["per_class"], entry.get("per_class_ci") or {})
        for name, entry in metrics.items()
        if "per_class" in entry
    }
    if "per_class" in results:
        classes["Per class"] = results["per_class"]
    rare = results.get("rare_classes") or {"counts": {}}
    for title, entries in classes.items():
        common = {name: entry for name, entry in entries.items() if name not in rare["counts"]}
        apart = {name: entry for name, entry in entries.items() if name in rare["counts"]}
        tables.append(_class_table(title, common))
        if apart:
            few = f"fewer than {rare['fewest']} test {rare['unit']}"
            tables.append(_class_table(f"{title}, {few}", apart))
    return tables


def _beside_table(beside: Iterable[Mapping[str, Any]]) -> Table:
    """Other splits of the same data; every run stands there, because folds differ widely."""
    rows = []
    for entry in beside:
        data = entry.get("data")
        for name, metric in entry["metrics"].items():
            mean, deviation = format_number(metric["mean"]), metric["standard_deviation"]
            rows.append(
                [
                    f"`{entry['config']}`, {entry['split']}" + (f", of {data}" if data else ""),
                    f"`{name}`",
                    mean if deviation is None else f"{mean} ± {format_number(deviation)}",
                    ", ".join(map(format_number, metric["values"])),
                    format_number(metric["difference"]),
                ]
            )
    header = ["Split", "Metric", "Mean ± sd", "Each run", "Difference from the numbers above"]
    return Table("On other splits of the same data", header, rows)


def format_number(value: Any) -> str:
    """`0.6123` is "0.612", counts are "1,234", what is unknown or undefined is "–"."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    whole = isinstance(value, int) or (float(value).is_integer() and abs(value) > 1)
    return f"{value:,.0f}" if whole else f"{value:,.3f}"


def metric_cells(entry: Mapping[str, Any]) -> list[str]:
    """Value, interval and n of one metric, as text."""
    interval = entry.get("ci")
    bounds = " to ".join(map(format_number, interval)) if interval else "–"
    return [format_number(entry["value"]), bounds, format_number(entry.get("n"))]


def estimate(entry: Any) -> str:
    """A value with its interval, `0.612 (0.580 to 0.640)`, from a metric's entry or a plain number."""
    if not isinstance(entry, Mapping):
        return format_number(entry)
    value, interval, _ = metric_cells(entry)
    return value if interval == "–" else f"{value} ({interval})"


def finite_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that have a value, with it."""
    values = {name: entry.get("value") for name, entry in metrics.items() if isinstance(entry, Mapping)}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def reported_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What goes into the metadata: scores and errors, not the counts of objects behind them nor what is no model's."""
    return {
        name: value
        for name, value in finite_values(metrics).items()
        if not name.startswith("objects_") and not name.endswith("_all_background")
    }


def headlines(groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """All names in `groups`, those that a reader looks for first at the front."""
    names = list(dict.fromkeys(name for entries in groups for name in entries))
    return sorted(names, key=lambda name: HEADLINES.index(name) if name in HEADLINES else len(HEADLINES))


def weakest_stratum(results: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Stratum, metric and estimate where the headline metric is lowest; None with fewer than two."""
    metric = headlines([finite_values(results["metrics"])])[0]
    strata = {
        name: finite_values(entries)
        for name, entries in (results.get("strata") or {}).items()
        if name not in (WHOLE_SPLIT, WITHOUT_COPIES)
    }
    known = {name: values[metric] for name, values in strata.items() if metric in values}
    if len(known) < 2:
        return None
    name = min(known, key=known.__getitem__)
    return name, metric, estimate(results["strata"][name][metric])


def _with_intervals(classes: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of each class as entries, where an interval stands beside them."""
    return {
        name: {
            key: {"value": value, "ci": intervals[name].get(key)} if name in intervals else value
            for key, value in values.items()
        }
        if _is_group(values)
        else values
        for name, values in classes.items()
    }


def _class_table(title: str, classes: Mapping[str, Any]) -> Table:
    named = {name: entry if _is_group(entry) else {"value": entry} for name, entry in classes.items()}
    columns = list(dict.fromkeys(column for entries in named.values() for column in entries))
    rows = [[_escape(name), *(estimate(entries.get(c)) for c in columns)] for name, entries in named.items()]
    return Table(title, ["Class", *_code(columns)], rows)


def _is_group(entry: Any) -> bool:
    """True for several metrics of a class, false for one metric's entry and for a number."""
    return isinstance(entry, Mapping) and "value" not in entry


def _count(entries: Mapping[str, Any]) -> str:
    counts = [entry["n"] for entry in entries.values() if isinstance(entry, Mapping) and entry.get("n")]
    return format_number(max(counts, default=None))


def _code(names: Iterable[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def _escape(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")

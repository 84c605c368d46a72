"""The verb `audit`: what makes a number measured on a dataset too good."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CellsError
from ..files import atomic_write
from .arguments import Config, DataDir, Settings, config_and_options, make_folder


def audit(
    name: Annotated[str, typer.Argument(help="Name of a dataset, an own folder, or Parquet files.")],
    config: Config = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            metavar="REGEX|COLUMN",
            help="What images of one specimen share: a column, or an expression for the image ids; "
            "found from both by default. image_id makes every image its own.",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Folder for audit.json and audit.png.")
    ] = Path("audit"),
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="MODEL",
            help="Compare by the features of a model: a folder, a repository, or a name of timm.",
        ),
    ] = None,
    similarity: Annotated[
        float | None,
        typer.Option(
            "--similarity", min=0.0, max=1.0, help="From which on two images are near duplicates; about 0.9."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 when something leaks.")
    ] = False,
) -> None:
    """Find leaks, duplicates, label conflicts and imbalance in a dataset.

    Groups are counted and never named. audit.json names images and audit.png shows some: keep both where
    the data may be.

    \b
    Example:
      hf-cells audit hep2 --data_dir hep2.zip --strict
    """  # noqa: D301
    config, options = config_and_options(name, config, settings)
    make_folder(output_dir)

    import datasets

    from ..data.audit import published_leak
    from ..data.audit_figure import plot_audit
    from ..data.audit_report import audit_dataset
    from ..data.loading import load_dataset
    from ..quiet import quiet_libraries

    quiet_libraries()
    splits = load_dataset(name, config, data_dir=data_dir, **options)
    assert isinstance(splits, datasets.DatasetDict)
    found = audit_dataset(
        splits,
        groups=groups,
        embedding=embedding,
        similarity=similarity,
        published=published_leak(name, config),
    )
    report = {"dataset": Path(name).name, "config": config or _default_config(name), **found.report}
    with atomic_write(output_dir / "audit.json") as path:
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    plot_audit(found, splits, output_dir / "audit.png")
    _print_table(report)
    typer.echo(f"see {output_dir / 'audit.json'} and {output_dir / 'audit.png'}")
    if strict and report["leaks"]:
        raise CellsError(f"{report['leaks']} leaks: {'; '.join(report['leak_texts'])}")


def _default_config(name: str) -> str | None:
    from ..data.registry import builder_class, dataset_names

    return builder_class(name).DEFAULT_CONFIG_NAME if name in dataset_names() else None


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    images = ", ".join(f"{count:,} {split}" for split, count in report["images"].items())
    name = f"{report['dataset']}, {report['config']}" if report["config"] else report["dataset"]
    table = Table(
        "check", "found", "across splits", "verdict", title=f"{escape(name)}: {images}", title_justify="left"
    )
    styles = {"leak": "bold red", "warning": "yellow"}
    for check, text, across, verdict in _rows(report):
        table.add_row(check, escape(text), across, verdict, style=styles.get(verdict))
    # In a pipe every row and sentence keeps its line.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False)
    console.print(table)
    for text in report["leak_texts"]:
        console.print(f"[bold red]leak[/]: {escape(text)}")
    for text in report["warnings"]:
        console.print(f"[yellow]note[/]: {escape(text)}")


def _rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Check, what was found, how much of it is in several splits, and "ok", "warning", "leak" or nothing."""
    groups, exact, near = report["groups"], report["exact_duplicates"], report["near_duplicates"]
    conflicts, numbers, classes = report["label_conflicts"], report["running_numbers"], report["classes"]
    shared = groups["across_splits"]
    rows = [("groups", *_group_cells(groups), "leak" if shared else "ok" if groups["count"] else "warning")]
    for other in report["other_groupings"]:
        verdict = "ok" if not other["across_splits"] else "" if shared else "warning"
        rows.append(("  another reading", *_group_cells(other), verdict))
    text = f"{_count(exact['sets'], 'picture')} in {_count(exact['images'], 'image')}"
    text = text if exact["sets"] else "none"
    across = exact["across_splits"]
    rows.append(("exact duplicates", text, f"{across:,}", "leak" if across else "ok"))
    text, across = (
        f"{_count(near['pairs'], 'pair')}, similarity ≥ {near['threshold']:.2f}",
        near["across_splits"],
    )
    rows.append(("near duplicates", text, f"{across:,}", "warning" if across else "ok"))
    if classes:
        text = f"{len(conflicts['exact']):,} among exact, {len(conflicts['near']):,} among near duplicates"
        verdict = "leak" if conflicts["exact"] else "warning" if conflicts["near"] else "ok"
        rows.append(("label conflicts", text, "", verdict))
    if numbers:
        near_by, chance = f"{numbers['observed']:.1%}", f"{numbers['chance']:.1%}"
        text = f"look-alike within {numbers['window']} ids: {near_by}, chance {chance}"
        verdict = "warning" if numbers["like_specimens"] and not numbers["kept_together"] else "ok"
        rows.append(("image ids", text, f"{numbers['look_alikes_across_splits']:,}", verdict))
    if classes:
        totals = [sum(count.values()) for count in classes["counts"].values()] or [0]
        text = f"{len(totals)}, of {min(totals):,} to {max(totals):,} images"
        text += f", {_count(classes['unlabelled'], 'image')} without" if classes["unlabelled"] else ""
        rows.append(("classes", text, "", "ok" if min(totals) else "warning"))
    (low, _, high), (left, _, right) = report["sizes"]["height"], report["sizes"]["width"]
    text = f"{low} × {left}" + (f" to {high} × {right} px" if (low, left) != (high, right) else " px")
    rows.append(("image sizes", text, "", "ok"))
    if report["unreadable"]:
        rows.append(("unreadable", _count(len(report["unreadable"]), "image"), "", "warning"))
    return rows


def _group_cells(groups: dict[str, Any]) -> tuple[str, str]:
    if not groups["count"]:
        return "none known by column or name; --groups tells them", ""
    text = (
        f"{groups['count']:,} by {groups['source']}; "
        f"{groups['smallest']:,} to {groups['largest']:,} images, median {groups['median']:g}"
    )
    ratio = groups["look_alikes"]["ratio"]
    return text + (f"; look-alikes {ratio:.1f} × chance" if ratio else ""), f"{groups['across_splits']:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"

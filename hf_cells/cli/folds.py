"""Verb `folds`: cross-validation folds for images or cells with several labels."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def folds(
    train_csv: Annotated[
        Path, typer.Option("--train_csv", help="Table of fields (ID,Label) or of cells with parent_image_id.")
    ],
    output_csv: Annotated[Path, typer.Option("--output_csv", help="The same table with a column fold.")],
    n_folds: Annotated[int, typer.Option("--n_folds", help="Number of folds.")] = 5,
    group_column: Annotated[
        str | None, typer.Option("--group_column", help="Column of the table whose values stay whole too.")
    ] = None,
    groups_csv: Annotated[
        Path | None,
        typer.Option("--groups_csv", help="Table ID,antibody; antibodies.csv beside the table by default."),
    ] = None,
    folds_of: Annotated[
        Path | None,
        typer.Option("--folds_of", help="Table ID,fold of the fields: cells take the fold of their field."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other folds.")] = 0,
) -> None:
    """Divide fields or cells into folds that have their share of every label.

    Labels are the numbers 0 to 18 with | between them. Cells of one field, and fields of one antibody where a table
    gives it, are never in two folds.

    \b
    Example:
      hf-cells folds --train_csv hpa/train.csv --output_csv hpa/folds.csv --n_folds 5
      hf-cells folds --train_csv single_cells/cells.csv --output_csv single_cells/folds.csv --folds_of hpa/folds.csv
    """  # noqa: D301
    from rich.console import Console
    from rich.table import Table

    from ..data.folds import label_deviation, write_folds

    made = write_folds(
        train_csv,
        output_csv,
        n_folds,
        group_column=group_column,
        groups_csv=groups_csv,
        folds_of=folds_of,
        seed=seed,
    )
    table = Table(
        "label", "all", *(f"fold {fold}" for fold in range(n_folds)), "off", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    deviation = label_deviation(made.balance)
    for label, counts in made.balance.items():
        table.add_row(_name(label), str(sum(counts)), *map(str, counts), f"{100 * deviation[label]:.0f} %")
    table.add_row("rows", str(sum(made.rows)), *map(str, made.rows), "")
    table.add_row("groups", str(sum(made.groups)), *map(str, made.groups), "")
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    typer.echo(f"no {made.grouped_by} is in two folds; the table is {output_csv}")


def _name(label: str) -> str:
    """Number and name of a label of the single-cell challenge."""
    from ..dataset_scripts._hpa_items import CLASS_NAMES

    return f"{label} {CLASS_NAMES[int(label)]}"

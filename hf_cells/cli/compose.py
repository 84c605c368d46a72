"""`compose library` and `compose dataset`: blood smears put together from single cells."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import CellsError

compose = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put blood smears together from single cells: a library of samples, then a dataset.",
)

Paths = list[Path] | None


@compose.command()
def library(
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")],
    masks: Annotated[
        Paths, typer.Option("--masks", help="Folder or zip of white cells with masks; may be repeated.")
    ] = None,
    boxes: Annotated[
        Paths,
        typer.Option("--boxes", help="Folder or zip of smears with boxes of red cells; may be repeated."),
    ] = None,
    single_cells: Annotated[
        Paths,
        typer.Option("--single_cells", help="Folder or zip of images with one red cell; may be repeated."),
    ] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Draw cells instead.")] = False,
    per_class: Annotated[int, typer.Option("--per_class", help="Simulated samples of each class.")] = 40,
    seed: Annotated[int, typer.Option("--seed", help="Of the split, of clumps and of simulated cells.")] = 0,
) -> None:
    """Cut single-cell samples out of source images, or draw them, and split them by source image.

    \b
    Example:
      hf-cells compose library --simulated --output_dir library
      hf-cells compose library --masks wbc.zip --boxes malaria.zip --boxes platelets.zip --output_dir library
    """  # noqa: D301
    from ..compose import build_library, read_library, simulate_library

    sources = {"masks": masks or (), "boxes": boxes or (), "single_cells": single_cells or ()}
    if simulated and any(sources.values()):
        raise CellsError("--simulated takes no source images; leave out one or the other")
    if simulated:
        folder = simulate_library(output_dir, per_class=per_class, seed=seed)
    else:
        folder = build_library(output_dir, seed=seed, **sources)
    samples = read_library(folder)
    for name, counts in samples.counts().items():
        line = "  ".join(f"{split} {counts[split]}" for split in ("train", "validation", "test"))
        typer.echo(f"{name:15} {line}")
    typer.echo(f"{len(samples.samples)} samples are in {folder}")


@compose.command()
def dataset(
    library: Annotated[Path, typer.Option("--library", help="Folder of `compose library`.")],
    out: Annotated[Path, typer.Option("--out", "--output_dir", help="Folder to write.")],
    train: Annotated[int, typer.Option("--train", min=0, help="Training samples.")] = 65_350,
    validation: Annotated[int, typer.Option("--validation", min=0, help="Validation samples.")] = 6_560,
    test: Annotated[int, typer.Option("--test", min=0, help="Test samples.")] = 6_560,
    backgrounds: Annotated[
        int | None,
        typer.Option(
            "--backgrounds", min=1, help="Backgrounds; by default one for 52 samples, 1500 for the full set."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes; the bytes do not depend on it.")] = 1,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave_out", help="Class to do without; may be repeated.")
    ] = None,
) -> None:
    """Compose 224x224 smears with exact masks; an interrupted run is continued by the same command.

    \b
    Example:
      hf-cells compose dataset --library library --out smears --train 2000 --validation 200 --test 200 --workers 2
    """  # noqa: D301
    from ..compose import compose_dataset

    folder = compose_dataset(
        library,
        out,
        train=train,
        validation=validation,
        test=test,
        backgrounds=backgrounds,
        seed=seed,
        workers=workers,
        leave_out=tuple(leave_out or ()),
    )
    typer.echo(f"{train + validation + test} samples are in {folder}")

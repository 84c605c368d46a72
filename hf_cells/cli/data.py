"""Verbs on data: `datasets`, `simulate`, `prepare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CellsError
from .arguments import dataset_options


def list_datasets() -> None:
    """List the datasets that every verb knows by name.

    \b
    Example:
      hf-cells datasets
    """  # noqa: D301
    from rich.console import Console
    from rich.table import Table

    from ..data.registry import builder_class, dataset_names

    table = Table("name", "configurations", "licence", "homepage", box=None, pad_edge=False)
    for name in dataset_names():
        builder = builder_class(name)
        configurations = ", ".join(config.name for config in builder.BUILDER_CONFIGS)
        table.add_row(name, configurations, builder.license, builder.homepage)
    # In a pipe every dataset keeps its line, however long.
    Console(width=None if sys.stdout.isatty() else 500).print(table)


def simulate(
    name: Annotated[str, typer.Argument(help="Dataset whose files to imitate: dsb2018.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")],
    n_train: Annotated[int, typer.Option("--n_train", help="Training images.")] = 64,
    n_test: Annotated[int, typer.Option("--n_test", help="Test images.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same images.")] = 0,
    size: Annotated[
        str, typer.Option("--size", help="Side in pixels, or HEIGHTxWIDTH, or 'mixed' as in the original.")
    ] = "256",
    looks: Annotated[
        str | None, typer.Option("--looks", help="Kinds of image, with commas between; all by default.")
    ] = None,
    bit_depth: Annotated[int, typer.Option("--bit_depth", help="8 or 16.")] = 8,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
) -> None:
    """Write simulated images in the layout of a real dataset.

    The truth is exact, and the same seed gives the same bytes.

    \b
    Example:
      hf-cells simulate dsb2018 --output_dir nuclei --n_train 64 --n_test 16
    """  # noqa: D301
    from ..simulate import simulate_dsb2018

    simulators = {"dsb2018": simulate_dsb2018}
    if name not in simulators:
        raise CellsError(f"no simulator for {name!r}; choose from: {', '.join(simulators)}")
    folder = simulators[name](
        output_dir,
        n_train=n_train,
        n_test=n_test,
        seed=seed,
        size=_size(size),
        looks=[look.strip() for look in looks.split(",")] if looks is not None else None,
        bit_depth=bit_depth,
        workers=workers,
    )
    typer.echo(f"{n_train} training and {n_test} test images are in {folder}")


def _size(text: str) -> tuple[int, int] | None:
    if text == "mixed":
        return None
    try:
        sides = [int(side) for side in text.lower().split("x")]
        height, width = sides * 2 if len(sides) == 1 else sides
    except ValueError:
        raise CellsError(f"--size {text} is no size; give 256, 256x320 (height x width) or mixed") from None
    return height, width


def prepare(
    name: Annotated[str, typer.Argument(help="Name of a dataset, or a folder with images/ and masks/.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")],
    config: Annotated[str | None, typer.Argument(help="Configuration, such as instance.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Options of the dataset, such as split_seed=1."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data_dir", help="Folder or zip of the raw files; some are downloaded without."),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes that decode.")] = None,
) -> None:
    """Write a dataset as Parquet files with a card.

    Plain `datasets.load_dataset` reads the folder, and so does every verb that takes a dataset.

    \b
    Example:
      hf-cells prepare dsb2018 instance --data_dir stage1_train.zip --output_dir nuclei split_seed=1
    """  # noqa: D301
    from ..data.prepare import prepare as write_parquet
    from ..quiet import quiet_libraries

    quiet_libraries()
    given = [*([config] if config else []), *(settings or [])]
    config = given.pop(0) if given and "=" not in given[0] else None  # it may be left out before key=value
    options = dataset_options(name, given)
    folder = write_parquet(
        name, config, data_dir=data_dir, output_dir=output_dir, num_proc=workers, **options
    )
    typer.echo(f"Parquet files and their card are in {folder}")

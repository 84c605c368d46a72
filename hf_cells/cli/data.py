"""Verbs on data: `datasets`, `simulate`, `prepare`."""

import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CellsError
from .arguments import Config, DataDir, Settings, config_and_options


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
    name: Annotated[
        str,
        typer.Argument(help="Dataset whose files to imitate: dsb2018, hep2, glomeruli or hpa_single_cell."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Further settings of the simulator, such as layout=folders."
        ),
    ] = None,
    n_train: Annotated[int | None, typer.Option("--n_train", help="Training images.")] = None,
    n_test: Annotated[int | None, typer.Option("--n_test", help="Test images.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same images; 0 by default.")] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Side in pixels, or HEIGHTxWIDTH, or 'mixed' as in the original."),
    ] = None,
    looks: Annotated[
        str | None, typer.Option("--looks", help="Kinds of image, with commas between; all by default.")
    ] = None,
    bit_depth: Annotated[int | None, typer.Option("--bit_depth", help="8 or 16.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; 1 by default.")] = None,
) -> None:
    """Write simulated images in the layout of a real dataset.

    The truth is exact, and the same seed gives the same bytes.

    \b
    Example:
      hf-cells simulate dsb2018 --output_dir nuclei --n_train 64 --n_test 16
      hf-cells simulate hep2 --output_dir hep2 --n_train 1000 layout=folders
      hf-cells simulate glomeruli --output_dir glomeruli --n_train 200 "size_range=[64, 160]"
      hf-cells simulate hpa_single_cell --output_dir hpa --n_train 60 --size 512 --looks U2OS,HeLa
    """  # noqa: D301
    from ..simulate import SIMULATORS

    if name not in SIMULATORS:
        raise CellsError(f"no simulator for {name!r}; choose from: {', '.join(SIMULATORS)}")
    options = {
        "n_train": n_train,
        "n_test": n_test,
        "seed": seed,
        "size": size,
        "looks": looks,
        "bit_depth": bit_depth,
        "workers": workers,
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None] + (settings or [])
    folder = SIMULATORS[name](output_dir, **_simulator_settings(name, SIMULATORS[name], given))
    with (folder / "simulated.csv").open(encoding="utf-8") as table:
        typer.echo(f"{sum(1 for _ in table) - 1} simulated images are in {folder}")


def _simulator_settings(name: str, simulator: Callable[..., Path], given: list[str]) -> dict[str, Any]:
    """Read `key=value` settings by the types of the simulator's parameters."""
    hints = typing.get_type_hints(simulator)
    known = [key for key in inspect.signature(simulator).parameters if key != "output_dir"]
    settings = {}
    for setting in given:
        key, equals, text = setting.partition("=")
        if not equals or not key.isidentifier():
            raise CellsError(f"{setting!r} is not of the form key=value, such as seed=1")
        if key not in known:
            raise CellsError(f"the simulator of {name} has no setting {key!r}; it knows: {', '.join(known)}")
        settings[key] = _simulator_value(key, text, hints[key])
    return settings


def _simulator_value(key: str, text: str, hint: Any) -> Any:
    import yaml

    if key == "size":
        return _size(text)
    if key == "looks":
        return [look.strip() for look in text.split(",")]
    if hint is str:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CellsError(f"{key}={text}: the value is no YAML; put it into quotes") from error
    kinds = typing.get_args(hint) or (hint,)
    if typing.get_origin(hint) is tuple:  # the simulator checks its content
        return value
    if not isinstance(value, (int, float) if float in kinds else kinds) or isinstance(value, bool):
        raise CellsError(f"{key}={text}: give a {'' if float in kinds else 'whole '}number")
    return value


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
    config: Config = None,
    settings: Settings = None,
    data_dir: DataDir = None,
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
    config, options = config_and_options(name, config, settings)
    folder = write_parquet(
        name, config, data_dir=data_dir, output_dir=output_dir, num_proc=workers, **options
    )
    typer.echo(f"Parquet files and their card are in {folder}")

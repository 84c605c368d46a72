"""What several verbs share: reading `key=value` settings, and refusing early what cannot be written."""

import os
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CellsError
from ..files import file_in_the_way

# What every verb that reads a dataset by its name takes.
Config = Annotated[str | None, typer.Argument(help="Configuration, such as instance.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Options of the dataset, such as split_seed=1."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data_dir", help="Folder or zip of the raw files; some are downloaded without."),
]


def dataset_options(name: str, settings: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` options of a dataset: values are YAML, but for options that are text by their type.

    Args:
        name: Dataset, as in `load_dataset`.
        settings: Such as "split_seed=1", "test_groups=[a, b]", "groups=^([a-z]+)_".

    Raises:
        CellsError: A setting is not of the form key=value, or its value is no YAML.
    """
    import yaml

    from ..data.folders import CellFolderConfig
    from ..data.labelled_folders import LabelledFolderConfig
    from ..data.registry import builder_class, dataset_names

    own = (CellFolderConfig, LabelledFolderConfig)
    known = (builder_class(name).BUILDER_CONFIG_CLASS,) if name in dataset_names() else own
    hints = {key: hint for config in known for key, hint in typing.get_type_hints(config).items()}
    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.isidentifier():
            raise CellsError(f"{setting!r} is not of the form key=value, such as split_seed=1")
        is_text = hints.get(key) in (str, str | None)
        try:
            options[key] = value if is_text else yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise CellsError(f"{setting!r}: the value is no YAML; put it into quotes") from error
    return options


def config_and_options(
    name: str, config: str | None, settings: Iterable[str] | None
) -> tuple[str | None, dict[str, Any]]:
    """Read `NAME [CONFIG] [KEY=VALUE …]`: the configuration may be left out before the first option.

    Raises:
        CellsError: As `dataset_options`.
    """
    given = [*([config] if config else []), *(settings or [])]
    chosen = given.pop(0) if given and "=" not in given[0] else None
    return chosen, dataset_options(name, given)


def make_folder(folder: Path) -> None:
    """Make a folder for outputs, before the long work and not after it.

    Raises:
        CellsError: It cannot be made or written to.
    """
    reason = "no permission"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    if place := file_in_the_way(folder):
        raise CellsError(f"cannot write into {folder}: {place} is a file; give a folder")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CellsError(f"cannot write into {folder}: {reason}; choose another place")

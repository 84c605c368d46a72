"""The one registry of dataset names: a dataset is a file in `dataset_scripts` and needs no entry anywhere."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import datasets

import hf_cells.dataset_scripts as dataset_scripts

from ..errors import CellsError


@cache
def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows, which are the stems of the scripts."""
    modules = (module.name for module in pkgutil.iter_modules(dataset_scripts.__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


@cache
def builder_class(name: str) -> type[datasets.GeneratorBasedBuilder]:
    """Return the builder of a dataset.

    Raises:
        CellsError: The name is not registered.
    """
    if name not in dataset_names():
        raise CellsError(f"no dataset is called {name!r}; choose from: {', '.join(dataset_names())}")
    module = importlib.import_module(f"{dataset_scripts.__name__}.{name}")
    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, datasets.GeneratorBasedBuilder) and member.__module__ == module.__name__:
            return member
    raise CellsError(f"{module.__file__}: defines no GeneratorBasedBuilder; add one")


def script_sources(builder: type[datasets.DatasetBuilder]) -> list[Path]:
    """Return the files whose code decides the rows of a builder: its module and what scripts share."""
    shared = [path for folder in dataset_scripts.__path__ for path in Path(folder).glob("_[!_]*.py")]
    return [Path(inspect.getfile(builder)), *sorted(shared)]

"""`load_dataset`: a name of the registry, a user's own folder, a Parquet folder, or a Hub repository.

Rows come from a cache that is keyed by the code that made them, the configuration, and the size and
time of every data file: a change in any of them makes new rows, never stale ones.
"""

import fnmatch
import inspect
import os
import re
from collections.abc import Collection
from typing import Any

import datasets
import xxhash
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher

from ..dataset_scripts._reading import FolderSource
from ..errors import CellsError
from .folders import CellFolder, looks_like_cell_folder
from .labelled_folders import LabelledFolder, looks_like_labelled_folder
from .labelled_items import TABLE_OPTIONS
from .registry import builder_class, dataset_names, script_sources
from .simulated import is_simulated, mark_simulated

BAD_DATA = (ValueError, OSError, DatasetGenerationError, datasets.exceptions.DatasetsError)


def load_dataset(
    name: str | os.PathLike[str],
    config: str | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    split: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    num_proc: int | None = None,
    **config_kwargs: Any,
) -> datasets.DatasetDict | datasets.Dataset:
    """Load a dataset with the columns of this package.

    Args:
        name: A registered name (`dsb2018`), the path of a folder with `images/` and `masks/`, with class
            folders, or with images and a table of labels, the path of a Parquet folder written by `prepare`,
            or a Hub repository `org/name`.
        config: Configuration, such as "semantic" or "instance"; the builder's default when None.
        data_dir: Where the raw files of a registered dataset are; some are downloaded when None.
        split: None for all splits as a `DatasetDict`, "all" for all of them in one `Dataset`, or one
            split, slices like "train[:10%]" included.
        cache_dir: Where Arrow files go; the Hugging Face cache when None.
        num_proc: Processes that decode; one when None.
        **config_kwargs: Options of the configuration, such as `split_by="modality"` or `split_seed=1`.

    Raises:
        CellsError: Unknown name, configuration, option or split, or bad data; names the file.
    """
    name = os.fspath(name)
    try:
        if name in dataset_names():
            builder: Any = builder_class(name)
        elif os.path.isdir(name):
            if data_dir is not None:
                raise CellsError(f"{name} is a folder and takes no data_dir; leave data_dir out")
            builder, data_dir = own_builder(name, config, config_kwargs), name
            if builder is None:
                return _load_stored(name, config, split, cache_dir, config_kwargs)
        else:
            return _load_stored(name, config, split, cache_dir, config_kwargs)
        return _build(builder, config, data_dir, split, cache_dir, num_proc, config_kwargs)
    except BAD_DATA as error:
        raise CellsError(_explain(error)) from error


def own_builder(
    path: str | os.PathLike[str], config: str | None = None, options: Collection[str] = ()
) -> type[CellFolder] | type[LabelledFolder] | None:
    """Return the builder of a user's own folder: of masks or of labels; None when it is no such folder.

    Args:
        path: The folder; one with Parquet files is read as it is.
        config: A configuration; one that only labels have, such as "classification", decides.
        options: Names of options; one that only labels have, such as `label_column`, decides.
    """
    if looks_like_labelled_folder(path):
        return LabelledFolder
    of_labels = config in [known.name for known in LabelledFolder.BUILDER_CONFIGS]
    if (of_labels or not {"labels", *TABLE_OPTIONS}.isdisjoint(options)) and not _parquet_files(path):
        return LabelledFolder
    return CellFolder if looks_like_cell_folder(path) else None


def source_fingerprint(
    builder: type[datasets.DatasetBuilder],
    data_dir: str | os.PathLike[str] | None,
    config_kwargs: dict[str, Any],
) -> str:
    """Return a hash of the builder's source, its options, and the listing of its data files."""
    code = [path.read_text() for path in script_sources(builder)]
    code += [inspect.getsource(module) for module in getattr(builder, "helpers", ())]
    files = [value for value in config_kwargs.values() if isinstance(value, str) and os.path.isfile(value)]
    roots = [*files, *([os.fspath(data_dir)] if data_dir else [])]
    return Hasher.hash((code, sorted(config_kwargs.items()), [hash_listing(root) for root in roots]))


def hash_listing(root: str) -> str:
    """Hash name, size and modification time (ns) of a file, or of all files that a script sees in a folder.

    A solution CSV may lie beside `root`, so those count too. 30,000 files take about half a second.
    """
    root = os.path.abspath(root)
    folder, name = os.path.split(root)
    names = [name]
    if os.path.isdir(root):
        names = [os.path.join(name, inner) for inner in FolderSource(root).names()]
    digest = xxhash.xxh3_128()
    for name in [*sorted(fnmatch.filter(os.listdir(folder), "*solution*.csv*")), *names]:
        status = os.stat(os.path.join(folder, name))
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _build(
    builder_type: type[datasets.GeneratorBasedBuilder],
    config: str | None,
    data_dir: str | os.PathLike[str] | None,
    split: str | None,
    cache_dir: str | os.PathLike[str] | None,
    num_proc: int | None,
    config_kwargs: dict[str, Any],
) -> datasets.DatasetDict | datasets.Dataset:
    known = {config.name: config for config in builder_type.BUILDER_CONFIGS}
    if config is not None and config not in known:
        raise CellsError(f"no configuration {config!r}; choose from: {', '.join(known)}")
    options = vars(next(iter(known.values()))).keys() - vars(datasets.BuilderConfig()).keys()
    if wrong := sorted(config_kwargs.keys() - options):
        raise CellsError(f"no option {wrong[0]!r}; choose from: {', '.join(sorted(options))}")
    if data_dir is not None:
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        if not os.path.exists(data_dir):
            raise CellsError(f"{data_dir}: no such file or folder; check data_dir")
    builder = builder_type(
        cache_dir=os.fspath(cache_dir) if cache_dir is not None else None,
        config_name=config,
        data_dir=data_dir,
        hash=source_fingerprint(builder_type, data_dir, config_kwargs),
        **config_kwargs,
    )
    if is_simulated(data_dir):
        mark_simulated(builder.info, builder.dataset_name)
    builder.download_and_prepare(num_proc=num_proc)
    if split is None:
        return builder.as_dataset()
    return concatenate(builder.as_dataset()) if split == "all" else builder.as_dataset(split=split)


def _load_stored(
    name: str, config: str | None, split: str | None, cache_dir: Any, kwargs: dict[str, Any]
) -> datasets.DatasetDict | datasets.Dataset:
    """Load Parquet, from a folder or the Hub, with `datasets` itself."""
    if os.path.isdir(name):
        if not _parquet_files(name):
            raise CellsError(
                f"{name}: holds neither images/ with masks/ nor Parquet files, and neither images in class "
                "folders <Class>/*.png nor images with a table labels.csv; for a raw dataset "
                f"use its name ({', '.join(dataset_names())}) with data_dir={name}"
            )
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise CellsError(
            f"{name}: no such dataset or folder; choose from {', '.join(dataset_names())}, "
            "or give a folder, or a Hub repository as org/name"
        )
    cache = os.fspath(cache_dir) if cache_dir is not None else None
    if os.path.isdir(name):
        # `datasets` knows the files that a card names by their patterns only: each state has a cache of its own.
        cache = os.path.join(cache or datasets.config.HF_DATASETS_CACHE, f"stored_{hash_listing(name)[:16]}")
    wanted = None if split == "all" else split
    data = datasets.load_dataset(name, config, split=wanted, cache_dir=cache, **kwargs)
    return concatenate(data) if split == "all" else data


def _parquet_files(folder: str | os.PathLike[str]) -> list[str]:
    return [name for name in FolderSource(os.fspath(folder)).names() if name.endswith(".parquet")]


def concatenate(splits: datasets.DatasetDict) -> datasets.Dataset:
    """Return all splits in one dataset, in the order train, validation, test."""
    return datasets.concatenate_datasets(list(splits.values()))


def _explain(error: BaseException) -> str:
    """Return the message of the first cause: what the script itself said about the file."""
    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ConnectionError):
        message += "; check the network, or get the files yourself and pass data_dir"
    return message

"""Write a dataset as Parquet that plain `datasets.load_dataset(folder)` reads, with a dataset card."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import yaml

from ..errors import CellsError
from ..files import atomic_folder
from ..progress import track
from .folders import CellFolder
from .labelled_folders import LabelledFolder
from .loading import load_dataset
from .registry import builder_class, dataset_names


def prepare(
    name: str | os.PathLike[str],
    config: str | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None = None,
    num_proc: int | None = None,
    shard_megabytes: int = 400,
    **config_kwargs: Any,
) -> Path:
    """Write `data/<split>-00000-of-0000n.parquet` for every split, and a README.md that describes them.

    The folder appears at once when all is written; an earlier one of the same kind is replaced.

    Args:
        name: As in `load_dataset`.
        config: As in `load_dataset`.
        data_dir: As in `load_dataset`.
        output_dir: The folder to write.
        cache_dir: As in `load_dataset`.
        num_proc: As in `load_dataset`.
        shard_megabytes: Largest size of one Parquet file, in megabytes of Arrow data.
        **config_kwargs: As in `load_dataset`.

    Returns:
        The folder.

    Raises:
        CellsError: The data is bad, or `output_dir` holds something that this function did not write.
    """
    output = Path(output_dir)
    if output.is_file() or (output.is_dir() and any(output.iterdir()) and not _is_prepared(output)):
        raise CellsError(f"{output}: exists and holds other files; choose an empty or new folder")
    splits = load_dataset(
        name, config, data_dir=data_dir, cache_dir=cache_dir, num_proc=num_proc, **config_kwargs
    )
    assert isinstance(splits, datasets.DatasetDict)
    with atomic_folder(output) as folder:
        (folder / "data").mkdir()
        for split, dataset in splits.items():
            count = max(1, -(-dataset.data.nbytes // (shard_megabytes * 1_000_000)))
            for index in track(range(count), f"Writing {split}", total=count):
                path = folder / "data" / f"{split}-{index:05d}-of-{count:05d}.parquet"
                dataset.shard(count, index, contiguous=True).to_parquet(path)
        (folder / "README.md").write_text(render_card(os.fspath(name), splits), encoding="utf-8")
    return output


def render_card(name: str, splits: datasets.DatasetDict) -> str:
    """Return a dataset card: YAML for the Hub, then splits, classes, features, licence and citation."""
    first = next(iter(splits.values()))
    labelled = bool({"label", "labels"} & first.features.keys())
    own = LabelledFolder if labelled else CellFolder
    builder = builder_class(name) if name in dataset_names() else own
    title = name if name in dataset_names() else Path(os.path.abspath(name)).name
    config = first.info.config_name or "default"
    files = [{"split": str(split), "path": f"data/{split}-*.parquet"} for split in splits]
    metadata = {
        "license": builder.license,
        "task_categories": ["image-classification" if labelled else "image-segmentation"],
        "tags": ["biology", "microscopy", "cells", "hf-cells"],
        "configs": [{"config_name": config, "data_files": files}],
    }
    lines = [f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n", f"# {title} ({config})\n"]
    lines += [first.info.description or "Microscopy images with masks.", "", "## Splits\n"]
    lines += ["| split | images | groups |", "|---|---|---|"]
    for split, dataset in splits.items():
        groups = {group for group in dataset["group"] if group} if "group" in dataset.column_names else set()
        lines.append(f"| {split} | {len(dataset)} | {len(groups) or 'not known'} |")
    if labelled:
        lines += ["", "## Classes\n", *_class_table(splits)]
    lines += ["", "## Features\n", "| column | type |", "|---|---|"]
    lines += [f"| `{column}` | {type(f).__name__} |" for column, f in first.features.items()]
    terms = "" if builder.redistributable else " Not cleared for redistribution: keep it where it is."
    source = f" Source: {builder.homepage}." if builder.homepage else ""
    lines += ["", "## Licence and citation\n", f"Licence: {builder.license}.{terms}{source}"]
    if builder.citation:
        lines += ["", f"```bibtex\n{builder.citation}\n```"]
    lines += ["", "Research use only. Written by `hf-cells prepare`.", ""]
    return "\n".join(lines)


def _class_table(splits: datasets.DatasetDict) -> list[str]:
    """Count the images of every class in every split."""
    features = next(iter(splits.values())).features
    several = "labels" in features
    names = features["labels"].feature.names if several else features["label"].names
    counts = [
        Counter(label for row in data["labels"] for label in row) if several else Counter(data["label"])
        for data in splits.values()
    ]
    rows = [f"| {' | '.join(['class', *map(str, splits)])} |", "|---" * (len(splits) + 1) + "|"]
    for index, name in enumerate(names):
        cells = [name.replace("|", "\\|"), *(str(count[index]) for count in counts)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _is_prepared(folder: Path) -> bool:
    card = folder / "README.md"
    return (folder / "data").is_dir() and card.is_file() and "hf-cells" in card.read_text(errors="replace")

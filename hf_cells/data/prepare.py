"""Write a dataset as Parquet that plain `datasets.load_dataset(folder)` reads, with a dataset card."""

import inspect
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import yaml

from ..errors import CellsError
from ..files import atomic_folder, file_in_the_way, place_of, refuse_other
from ..progress import track
from .empty_masks import told_of_empty_masks
from .labelled_folders import LabelledFolder
from .loading import load_dataset
from .registry import builder_class, dataset_names

logger = datasets.logging.get_logger(__name__)

# At the end of the card, unseen: what the folder was written with.
_RECORD = "<!-- hf-cells prepare {} -->\n"


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

    The folder appears at once when all is written; what an earlier call of the same settings wrote is replaced.

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
        CellsError: The data is bad, or `output_dir` holds something that the same call did not write.
    """
    output, settings = Path(output_dir), _settings(os.fspath(name), config, data_dir, config_kwargs)
    _check_free(output, settings)
    splits = load_dataset(
        name, config, data_dir=data_dir, cache_dir=cache_dir, num_proc=num_proc, **config_kwargs
    )
    assert isinstance(splits, datasets.DatasetDict)
    if empty := told_of_empty_masks(splits.values()):
        logger.warning(f"warning: {os.fspath(name)}: {empty}")
    with atomic_folder(output) as folder:
        (folder / "data").mkdir()
        for split, dataset in splits.items():
            count = max(1, -(-dataset.data.nbytes // (shard_megabytes * 1_000_000)))
            for index in track(range(count), f"Writing {split}", total=count):
                path = folder / "data" / f"{split}-{index:05d}-of-{count:05d}.parquet"
                dataset.shard(count, index, contiguous=True).to_parquet(path)
        card = render_card(os.fspath(name), splits) + _RECORD.format(_as_comment(settings))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return output


class Terms(NamedTuple):
    """Under what terms a dataset is there.

    Attributes:
        license: As the Hub spells it.
        redistributable: Whether everybody may pass it on.
        homepage: Where it comes from; may be empty.
        citation: BibTeX; may be empty.
        registered: Whether it is one of this package; otherwise somebody's own folder.
    """

    license: str
    redistributable: bool
    homepage: str
    citation: str
    registered: bool


def terms_of(name: str) -> Terms:
    """Return the terms of a dataset, as its builder knows them."""
    registered = name in dataset_names()
    builder: Any = builder_class(name) if registered else LabelledFolder
    return Terms(builder.license, builder.redistributable, builder.homepage, builder.citation, registered)


def render_card(
    name: str,
    splits: datasets.DatasetDict,
    *,
    config: str | None = None,
    terms: Terms | None = None,
    audit: Mapping[str, Any] | None = None,
    picture: str | None = None,
    repo_id: str | None = None,
) -> str:
    """Return a dataset card: YAML for the Hub, then splits, classes, audit, features, licence and citation.

    Args:
        name: Of the dataset, or the path of an own folder.
        splits: Its rows.
        config: Name of the configuration; by default what the rows say.
        terms: In place of those that the dataset has.
        audit: As of `leak_report`, with `published`, as of `published_leak`.
        picture: Path of a sample picture beside the card.
        repo_id: `owner/name`, for the line that loads it.
    """
    first, terms = next(iter(splits.values())), terms or terms_of(name)
    labelled = bool({"label", "labels"} & first.features.keys())
    title = name if terms.registered else Path(os.path.abspath(name)).name
    config = config or first.info.config_name or "default"
    files = [{"split": str(split), "path": f"data/{split}-*.parquet"} for split in splits]
    total = sum(len(dataset) for dataset in splits.values())
    metadata = {
        "license": terms.license,
        "pretty_name": title,
        "task_categories": ["image-classification" if labelled else "image-segmentation"],
        "tags": ["biology", "microscopy", "cells", "hf-cells"],
        "size_categories": [_size_category(total)],
        "configs": [{"config_name": config, "data_files": files}],
    }
    lines = [f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n", f"# {title} ({config})\n"]
    lines += [_description(name, first, terms)]
    lines += ["", f"![Some images of the dataset]({picture})"] if picture else []
    if repo_id:
        lines += ["", f'```python\nimport datasets\n\nsplits = datasets.load_dataset("{repo_id}")\n```']
    objects = "instance_labels" in first.features and audit is not None
    lines += ["", "## Splits\n", "| split | images | groups |" + " objects |" * objects]
    lines.append("|---|---|---|" + "---|" * objects)
    for split, dataset in splits.items():
        groups = {group for group in dataset["group"] if group} if "group" in dataset.column_names else set()
        row = f"| {split} | {len(dataset)} | {len(groups) or 'not known'} |"
        lines.append(row + (f" {_count_objects(dataset)} |" if objects else ""))
    if labelled:
        lines += ["", "## Classes\n", *_class_table(splits)]
    if audit is not None:
        lines += ["", "## Leak audit\n", *_audit_lines(audit)]
    lines += ["", "## Features\n", "| column | type |", "|---|---|"]
    lines += [f"| `{column}` | {type(f).__name__} |" for column, f in first.features.items()]
    clause = "" if terms.redistributable else " Not cleared for redistribution: keep it where it is."
    source = f" Source: {terms.homepage}." if terms.homepage else ""
    lines += ["", "## Licence and citation\n", f"Licence: {terms.license}.{clause}{source}"]
    if terms.citation:
        lines += ["", f"```bibtex\n{terms.citation}\n```"]
    lines += ["", "Research use only. Written by `hf-cells prepare`.", ""]
    return "\n".join(lines)


def _description(name: str, first: datasets.Dataset, terms: Terms) -> str:
    """What the rows say of themselves, or else the first line of the dataset's script."""
    if first.info.description:
        return first.info.description
    if terms.registered:
        document = inspect.getdoc(inspect.getmodule(builder_class(name))) or ""
        return document.partition("\n")[0]
    return "Microscopy images with masks."


def _audit_lines(audit: Mapping[str, Any]) -> list[str]:
    verdict = (
        "**Something leaks between the splits**" if audit["leaks"] else "Nothing leaks between the splits"
    )
    lines = [f"{verdict}: {audit['summary']}. Images were compared pixel by pixel."]
    if audit.get("published"):
        lines.append(f"\nThis is a published split that is known to leak: {audit['published']}.")
    return lines


def _count_objects(dataset: datasets.Dataset) -> int:
    from .samples import ImageRows, truth_of

    rows = ImageRows(dataset.select_columns(["instance_labels"]))
    return sum(int(np.count_nonzero(np.unique(truth_of(rows[index])))) for index in range(len(rows)))


def _size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    names = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in names if rows < limit), "n>1M")


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


def _settings(
    name: str, config: str | None, data_dir: str | os.PathLike[str] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What tells one prepared dataset from another, without the paths of this machine: the card may be published."""
    own = name not in dataset_names() and os.path.isdir(name)
    return {
        "dataset": place_of(name) if own else name,
        "config": config,
        "data_dir": None if data_dir is None else place_of(os.path.expanduser(data_dir)),
        "options": {
            key: place_of(value) if isinstance(value, str) and os.path.isfile(value) else value
            for key, value in sorted(options.items())
        },
    }


def _as_comment(settings: Mapping[str, Any]) -> str:
    """JSON that cannot end the comment around it."""
    return json.dumps(settings, default=str).replace(">", "\\u003e")


def _check_free(output: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but what the same call wrote, before the long work."""
    if place := file_in_the_way(output):
        raise CellsError(f"cannot write into {output}: {place} is a file; give a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    card = output / "README.md"
    text = card.read_text("utf-8", errors="replace") if card.is_file() else ""
    if not (output / "data").is_dir() or "hf-cells" not in text:
        raise CellsError(f"{output}: exists and holds other files; choose an empty or new folder")
    refuse_other(output, "dataset", _recorded(text), json.loads(_as_comment(settings)))


def _recorded(card: str) -> dict[str, Any] | None:
    """The settings in a card; None where somebody took them out."""
    found = re.search(_RECORD.format("({.*})"), card)
    try:
        return json.loads(found.group(1)) if found else None
    except ValueError:
        return None

"""The verb `evaluate`: a split in, results.json and a table of images out."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CellsError
from ..files import atomic_write
from .arguments import dataset_options, make_folder

if TYPE_CHECKING:
    import datasets

    from ..evaluation import ClassificationEvaluation, Evaluation

# The leak check decodes every image of every split: up to so many stored bytes, seconds to a minute.
_CHEAP_TO_AUDIT = 256e6
_CLASSIFICATION, _SEGMENTATION = "cell-classification", "cell-segmentation"  # tasks of pipelines


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    dataset: Annotated[
        str, typer.Option("--dataset", help="Name, see `hf-cells datasets`, or an own folder.")
    ],
    config: Annotated[
        str | None, typer.Option("--config", help="Configuration; by default that of the training.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data_dir", help="Folder or zip of the raw files of a named dataset.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation, test or all.")] = "test",
    output: Annotated[
        Path, typer.Option("--output", help="JSON to write; <name>_per_image.csv goes beside it.")
    ] = Path("results.json"),
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="Of the dataset, such as split_seed=1; repeatable."
        ),
    ] = None,
    test_time_augmentation: Annotated[
        bool, typer.Option("--test_time_augmentation", help="Average over flips and turns: 8 x slower.")
    ] = False,
    figures: Annotated[Path | None, typer.Option("--figures", help="Folder for PNG figures.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:1.")] = None,
) -> None:
    """Measure a model on a split that is checked for leaks.

    Every metric has a 95 % interval. An image that cannot be read stops it: none is left out of a score.
    Without --config and --option the data are split as they were for the training, where the model tells.

    \b
    Example:
      hf-cells evaluate runs/nuclei/model --dataset dsb2018 --data_dir nuclei --split test --output results.json
    """  # noqa: D301
    options = dataset_options(dataset, option or [])
    if output.is_dir():
        raise CellsError(f"{output} is a folder; name a file in it, such as {output / 'results.json'}")
    for folder in [output.parent, *([figures] if figures else [])]:
        make_folder(folder)

    from .. import evaluation as ev
    from ..data.empty_masks import told_of_empty_masks
    from ..data.loading import load_dataset
    from ..quiet import quiet_libraries

    quiet_libraries()
    pipe = ev.load_pipeline(model, device, test_time_augmentation=test_time_augmentation)
    trained = _own_results(model)
    if not config and not options:
        config, options = _as_trained(trained, dataset)
    config = config or _default_config(dataset, pipe.model.config.model_type)
    _check_kind(model, pipe.task, dataset, _kind_of_own(dataset, config, options))
    splits = load_dataset(dataset, config, data_dir=data_dir, **options)
    _check_kind(model, pipe.task, dataset, _kind_of_rows(splits))
    images = _choose(splits, split)
    limit = limit if limit and limit < len(images) else None
    images, name = (images.select(range(limit)), f"{split}[:{limit}]") if limit else (images, split)
    audit, copies = ({}, []) if split == "all" or len(splits) < 2 else _audit(splits, dataset, config, split)
    context = {
        "dataset": _describe(dataset, data_dir),
        "split": {"options": options, "limit": limit, **audit},
    }
    measured: Evaluation | ClassificationEvaluation
    if pipe.task == "cell-classification":
        measured = ev.evaluate_classification(pipe, images, split_name=name, context=context, copies=copies)
    else:
        measured = ev.evaluate_segmentation(pipe, images, split_name=name, context=context)
    results = _with_training(measured.results, trained)
    results["evaluation"]["test_time_augmentation"] = test_time_augmentation
    ev.write_results(output, results)
    table = _write_rows(measured.rows, output.with_name(f"{output.stem}_per_image.csv"))
    if figures:
        ev.draw_figures(measured, pipe, images, figures, splits=splits)
    typer.echo(ev.metrics_line(results))
    typer.echo(f"see {output} and {table}" + (f", figures in {figures}" if figures else ""))
    if empty := told_of_empty_masks([images]):
        typer.echo(f"warning: {empty}", err=True)
    if results["split"]["leaks"]:
        typer.echo(f"warning: {results['split']['audit']}: the numbers are too high", err=True)


def _own_results(model: str) -> dict[str, Any]:
    """The results.json that the model came with; empty where there is none that can be read."""
    from transformers.utils import cached_file

    try:
        path = cached_file(model, "results.json", _raise_exceptions_for_missing_entries=False)
        found = json.loads(Path(path).read_text("utf-8")) if path else {}
    except (OSError, ValueError, TypeError):
        return {}  # a broken file, or none within reach, says nothing of the training
    return found if isinstance(found, dict) else {}


def _as_trained(trained: dict[str, Any], dataset: str) -> tuple[str | None, dict[str, Any]]:
    """Configuration and options under which the model's test split is what it has not seen."""
    data, split = trained.get("dataset") or {}, trained.get("split") or {}
    if data.get("name") != dataset:
        return None, {}
    known = {name: value for name, value in (split.get("options") or {}).items() if value is not None}
    words = [data["config"]] if data.get("config") else []
    words += [f"{name}={value}" for name, value in known.items()]
    typer.echo(f"split as for the training: {', '.join(words) or 'the default'}")
    return data.get("config"), known


def _default_config(dataset: str, model_type: str) -> str | None:
    """The configuration that bears the name of the model's kind, where the dataset has it."""
    from ..data.folders import CellFolder, looks_like_cell_folder
    from ..data.registry import builder_class, dataset_names
    from ..training.task import task_of

    task = task_of(model_type)
    kind = task.splits_need if task else None
    if dataset in dataset_names():
        known = builder_class(dataset).BUILDER_CONFIGS
    else:
        known = CellFolder.BUILDER_CONFIGS if looks_like_cell_folder(dataset) else []
    return kind if kind in [one.name for one in known] else None


def _kind_of_own(dataset: str, config: str | None, options: dict[str, Any]) -> str | None:
    """The task that an own folder's truth is for, known before its rows are read: they may not load as another's."""
    from ..data.labelled_folders import LabelledFolder
    from ..data.loading import own_builder
    from ..data.registry import dataset_names

    if dataset in dataset_names() or not Path(dataset).is_dir():
        return None
    own = own_builder(dataset, config, options)
    return None if own is None else _CLASSIFICATION if own is LabelledFolder else _SEGMENTATION


def _kind_of_rows(splits: "datasets.DatasetDict") -> str | None:
    """The one task that the rows have the truth for; None where they have it for both, or for neither."""
    columns = {name for rows in splits.values() for name in rows.column_names}
    labels, masks = columns & {"label", "labels"}, columns & {"instance_labels", "semantic_mask"}
    return None if bool(labels) == bool(masks) else _CLASSIFICATION if labels else _SEGMENTATION


def _check_kind(model: str, task: str, dataset: str, kind: str | None) -> None:
    """Refuse data for the other kind of model, as `train` does."""
    if kind in (None, task):
        return
    if kind == _CLASSIFICATION:
        raise CellsError(
            f"{model} segments, and {dataset} holds labelled images; evaluate a classifier on them, "
            "or give images with masks"
        )
    raise CellsError(
        f"{model} is a classifier, and {dataset} holds images with masks; evaluate a segmentation model on them, "
        "or give labelled images"
    )


def _choose(splits: "datasets.DatasetDict", split: str) -> "datasets.Dataset":
    from ..data.loading import concatenate

    if split == "all":
        return concatenate(splits)
    if split not in splits:
        raise CellsError(f"no split {split!r} in this data; choose from: {', '.join(splits)}, all")
    return splits[split]


def _describe(dataset: str, data_dir: Path | None) -> dict[str, Any]:
    """What the results say of the data: a name that is no path, the terms, and whether it is simulated."""
    from ..data.registry import builder_class, dataset_names

    if dataset not in dataset_names():
        return {"name": Path(dataset).resolve().name} if Path(dataset).is_dir() else {"name": dataset}
    builder = builder_class(dataset)
    terms = {"license": builder.license, "homepage": builder.homepage, "citation": builder.citation}
    places = [data_dir, data_dir.parent] if data_dir else []  # the folder itself, or one of its stages
    return {
        "name": dataset,
        **terms,
        "simulated": any((place / "simulated.csv").exists() for place in places),
    }


def _audit(
    splits: "datasets.DatasetDict", dataset: str, config: str | None, split: str
) -> tuple[dict[str, Any], list[str]]:
    """What leaks between the splits, and the images of this one that have a copy in another."""
    from ..data.audit import leak_report, published_leak
    from ..data.splits import shared_groups

    reason = published_leak(dataset, config)
    published = f"published split, known to leak ({reason}): " if reason else ""
    if sum(images.data.nbytes for images in splits.values()) > _CHEAP_TO_AUDIT:
        groups = len(shared_groups(splits))
        text = f"{published}{groups} groups are in more than one split; pixels not compared"
        return {"leaks": groups or None, "audit": text}, []
    report = leak_report(splits)
    copies = [image for found in report["duplicate_images"] for side, image in found if side == split]
    return {"leaks": report["leaks"], "audit": f"{published}{report['summary']}"}, copies


def _with_training(results: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """Keep what the model's own results say of its training as `run`; this measurement becomes `evaluation`."""
    here, known = results["run"], trained.get("run")
    measured = {name: here[name] for name in ("seconds", "hardware", "versions")}
    # The time of this measurement is not the cost of a training that is not known.
    run = {**here, "seconds": None, "hardware": None, **(known if isinstance(known, dict) else {})}
    return {**results, "run": run, "evaluation": measured}


def _write_rows(rows: list[dict[str, Any]], path: Path) -> Path:
    """One line per image: who it is, and what was measured (scores, or the probability of each class)."""

    def flat(row: dict[str, Any]) -> dict[str, Any]:
        scores = row.get("metrics") or {f"probability_{k}": v for k, v in row["probabilities"].items()}
        return {**{k: v for k, v in row.items() if k not in ("metrics", "probabilities")}, **scores}

    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(flat(rows[0])))
        table.writeheader()
        table.writerows(map(flat, rows))
    return path

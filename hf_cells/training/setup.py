"""From a recipe to everything the loop needs: data, processor, model, precision."""

import time
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env, set_seed
from transformers import CONFIG_MAPPING

from ..data.audit import published_leak, refuse_leaks
from ..data.loading import load_dataset
from ..data.samples import EpochBatches, EpochOrder, ImageRows, balanced_weights
from ..errors import CellsError
from ..models import CellUNetConfig
from ..simulate import SIMULATORS
from .checkpoints import list_checkpoints
from .launch import check_launch, keep_memory, set_threads
from .loop import Setup
from .precision import check_precision, choose_precision
from .recipe import save_recipe
from .statistics import resolve_normalisation
from .task import Task, task_names, task_of


def make_run_dir(recipe: dict[str, Any], state: PartialState) -> Path:
    """Return the run folder, the same on all processes: `runs/<recipe>/<time>` unless the recipe names one."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    chosen = [str(recipe["output_dir"] or Path("runs") / recipe["name"] / stamp)]
    broadcast_object_list(chosen)
    path = Path(chosen[0])
    if state.is_main_process:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CellsError(
                f"cannot make the run folder {path}: {error.strerror}; choose another output_dir"
            ) from error
        if list_checkpoints(path / "checkpoints"):  # the two runs would delete each other's
            raise CellsError(
                f"{path} holds a run already; continue it with --resume {path}, or choose another output_dir"
            )
    state.wait_for_everyone()
    return path


def load_splits(
    recipe: dict[str, Any], task: Task, run_dir: Path, state: PartialState
) -> tuple[datasets.DatasetDict, dict[str, Any]]:
    """Load the recipe's dataset and audit its splits; the main process prepares the cache, the others read it.

    Returns:
        The splits, and the report of `refuse_leaks`.

    Raises:
        CellsError: No training split, no truth for this model, or a split that leaks and is no published one.
    """
    data = recipe["data"]
    with state.main_process_first():
        data_dir = data["data_dir"]
        if data_dir is None and data["simulate"]:
            data_dir = run_dir / "simulated"
            if not (data_dir / "simulated.csv").exists():  # written last
                _simulate(data["name"], data_dir, {"seed": recipe["seed"], **data["simulate"]})
        splits = load_dataset(data["name"], data["config"], data_dir=data_dir, **data["options"])
    assert isinstance(splits, datasets.DatasetDict)
    if "train" not in splits:
        raise CellsError(f"{data_dir or data['name']} has no training split; it has {', '.join(splits)}")
    task.check_truth(recipe, splits)
    audit = refuse_leaks(splits, published=published_leak(data["name"], data["config"]))
    if audit["warning"] and state.is_main_process:
        print(f"warning: {audit['warning']}", flush=True)
    return splits, audit


def _simulate(name: str, folder: Path, settings: dict[str, Any]) -> None:
    if name not in SIMULATORS:
        raise CellsError(f"data.simulate: no simulator for {name!r}; choose from: {', '.join(SIMULATORS)}")
    try:
        SIMULATORS[name](folder, **settings)
    except TypeError as error:
        raise CellsError(f"data.simulate: {error}") from error


def prepare(recipe: dict[str, Any], resume: Path | None) -> tuple[Setup, datasets.DatasetDict]:
    """Build the loop's setup and return the splits beside it."""
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    check_launch(state.num_processes)
    settings = recipe["training"]
    check_precision(settings["precision"], settings["memory_format"])
    set_threads(settings["threads"], state)
    keep_memory()
    set_seed(recipe["seed"])
    task = _task(recipe)
    run_dir = resume or make_run_dir(recipe, state)
    splits, audit = load_splits(recipe, task, run_dir, state)
    if settings["refit"]:  # the second training: `one_run` has done the first
        splits = _with_validation_in_train(splits)
    rows = ImageRows(splits["train"])
    model, processor = build_model(recipe, task, splits)
    recipe["evaluation"]["metric"] = _metric(recipe["evaluation"]["metric"], task, splits)
    samples = task.samples(recipe, rows, processor)
    rows.extra += task.extra_rows(recipe)  # takes a while: a slip in the recipe is told before
    real = len(splits["train"])
    order = EpochOrder(
        len(rows), settings["samples_per_epoch"] or real, _weights(recipe["data"], rows, real), recipe["seed"]
    )
    accumulation = settings["gradient_accumulation_steps"]
    batches = EpochBatches(
        order, settings["batch_size"], state.process_index, state.num_processes, accumulation
    )
    _choose_speed(settings, model, samples, order, state)
    try:
        accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(settings["precision"], settings["precision"]),
            gradient_accumulation_steps=accumulation,
            log_with=settings["trackers"] or None,
            project_dir=str(run_dir),
        )
    except ValueError as error:
        raise CellsError(f"training.trackers or the launcher's settings: {error}") from error
    torch.manual_seed(recipe["seed"] + state.process_index)  # dropout of its own in every process
    if accelerator.is_main_process:
        save_recipe({**recipe, "output_dir": None}, run_dir / "recipe.yaml")
    setup = Setup(
        recipe=recipe,
        run_dir=run_dir,
        accelerator=accelerator,
        model=model,
        processor=processor,
        samples=samples,
        batches=batches,
        validation=ImageRows(splits["validation"]) if "validation" in splits else None,
        task=task,
        audit=audit,
        memory_format=settings["memory_format"],
        resume_from=_latest(resume) if resume else None,
    )
    return setup, splits


def _with_validation_in_train(splits: datasets.DatasetDict) -> datasets.DatasetDict:
    joined = datasets.concatenate_datasets([splits["train"], splits["validation"]])
    rest = {name: rows for name, rows in splits.items() if name not in ("train", "validation")}
    return datasets.DatasetDict({"train": joined, **rest})


def _task(recipe: dict[str, Any]) -> Task:
    task = task_of(recipe["model"]["type"])
    if task is None:
        raise CellsError(
            f"model.type={recipe['model']['type']!r} is unknown; choose from: {', '.join(task_names())}"
        )
    recipe["data"]["config"] = recipe["data"]["config"] or task.splits_need
    return task


def _metric(name: str | None, task: Task, splits: datasets.DatasetDict) -> str:
    known = task.metric_names()
    if name and name not in known:
        raise CellsError(f"evaluation.metric={name!r} is unknown; choose from: {', '.join(known)}")
    several = "labels" in splits["train"].column_names  # of an image; no class accuracy then
    return name or ("mean_average_precision" if several else task.default_metric)


def build_model(recipe: dict[str, Any], task: Task, splits: datasets.DatasetDict) -> tuple[Any, Any]:
    """Return the model and its image processor; what the data decides goes into the recipe."""
    settings = recipe["model"]
    model_class, processor_class = task.classes()
    config_class, further = model_class.config_class, getattr(model_class, "further_settings", {})
    known = {**vars(config_class()), **further, "num_labels": 0}
    _refuse_unknown("processor", recipe["processor"], vars(processor_class()))
    _refuse_unknown("model.config", settings["config"], known)
    try:
        _refuse_unknown_backbone(settings["config"].get("backbone_config"))
        recipe["processor"] = resolve_normalisation(
            processor_class, recipe["processor"], ImageRows(splits["train"]), recipe["seed"]
        )
        processor = processor_class(**recipe["processor"])
        channels = {"num_channels": processor.num_channels} if "num_channels" in known else {}
        given = {**channels, **further, **task.config(recipe, splits), **settings["config"]}
        given["id2label"] = {int(k): v for k, v in given["id2label"].items()}
        given.pop("num_labels", None)
        config = config_class(**given, label2id={v: k for k, v in given["id2label"].items()})
        model = _network(model_class, config, settings)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        raise CellsError(f"model or processor of the recipe: {' '.join(str(error).split())}") from error
    settings["config"] = {**settings["config"], "num_labels": config.num_labels}
    _freeze(model, recipe["training"]["freeze"])
    return model, processor


def _network(model_class: Any, config: Any, settings: dict[str, Any]) -> Any:
    if settings["init_from"]:
        return _continued(model_class, config, settings["init_from"])
    if settings["pretrained_backbone"]:
        return model_class.from_backbone(config, settings["pretrained_backbone"])
    return model_class(config)


# What of a configuration belongs to the data and the training, not to the network.
_OF_TRAINING = ["id2label", "label2id", "problem_type", "class_weights", "loss_name", "focal_gamma"]
_OF_TRAINING += ["focal_alpha", "tversky_alpha", "tversky_beta"]
_OF_TRAINING += ["label_smoothing", "calibration_temperature", "decision_thresholds", "thresholds_chosen_on"]
_OF_TRAINING += ["class_colors", "class_groups", "use_auxiliary_head"]


def _continued(model_class: Any, config: Any, source: str) -> Any:
    """A saved model's network and weights; all but U-Nets get today's classes, and a new last layer where they differ
    in number.
    """
    saved = model_class.config_class.from_pretrained(source)
    for name in _OF_TRAINING if not isinstance(saved, CellUNetConfig) else []:
        if hasattr(saved, name) or hasattr(config, name):
            setattr(saved, name, getattr(config, name, None))
    return model_class.from_pretrained(source, config=saved, ignore_mismatched_sizes=True)


def _freeze(model: Any, what: str | int | None) -> None:
    if what is None or what == 0:
        return
    if not hasattr(model, "freeze"):
        raise CellsError("training.freeze needs a classifier; leave it out")
    if what != "backbone" and not isinstance(what, int):
        raise CellsError(f"training.freeze={what!r}: give backbone, or how many of the first layers")
    if isinstance(what, int) and not 0 < what <= len(model.layers()):
        raise CellsError(f"training.freeze={what}: the backbone has {len(model.layers())} layers")
    model.freeze(None if what == "backbone" else what)


def _refuse_unknown(section: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Transformers takes any keyword and says nothing, so that a slip of the pen would train another model."""
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, 3) or sorted(k for k in known if not k.startswith("_"))
            raise CellsError(f"{section}.{name} is unknown; choose from: {', '.join(close)}")


def _refuse_unknown_backbone(given: Any) -> None:
    """The same for the configuration of transformers inside that of a network over a backbone."""
    if given is not None:
        section = "model.config.backbone_config"
        kind = str(given.get("model_type") if isinstance(given, Mapping) else None)
        if kind not in CONFIG_MAPPING:
            raise CellsError(
                f"{section}.model_type={kind!r} is no model of transformers; give convnext or swin"
            )
        further = dict.fromkeys(["model_type", "out_features", "out_indices"])
        _refuse_unknown(section, given, {**vars(CONFIG_MAPPING[kind]()), **further})


def _weights(data: dict[str, Any], rows: ImageRows, real: int) -> np.ndarray | None:
    """Probability of each row: rare values of the `balance` column more often, simulated rows by their share."""
    extra = len(rows) - real
    if not data["balance"] and not extra:
        return None
    column = data["balance"]
    if column and column not in rows.dataset.column_names:
        raise CellsError(
            f"data.balance={column!r} is no column; choose from: {', '.join(rows.dataset.column_names)}"
        )
    values = rows.dataset[column] if column else [""] * real
    share = data["simulated_share"] if extra else 0.0
    weights = balanced_weights(values, data["balance_power"]) * (1 - share)
    return np.concatenate([weights, np.full(extra, share / max(extra, 1))])


def _choose_speed(
    settings: dict[str, Any], model: Any, samples: Any, order: EpochOrder, state: PartialState
) -> None:
    """Replace `auto` in the settings by what the clock says; all processes take the main one's choice."""
    batch = samples_batch(samples, order, settings["batch_size"])
    begun = time.monotonic()
    precision, memory_format, speeds = choose_precision(
        model, batch, state.device, settings["precision"], settings["memory_format"]
    )
    chosen = [precision, memory_format]
    broadcast_object_list(chosen)
    settings["precision"], settings["memory_format"] = chosen
    if speeds and state.is_main_process:
        timed = ", ".join(f"{name} {speed}" for name, speed in speeds.items())
        seconds = time.monotonic() - begun
        print(f"training in {' '.join(chosen)} (timed images/s: {timed}; {seconds:.0f} s)", flush=True)


def samples_batch(samples: Any, order: EpochOrder, size: int) -> dict[str, torch.Tensor]:
    """Return one augmented batch, as the loader would make it."""
    keys = [(0, position, int(row)) for position, row in enumerate(order.rows(0, size))]
    if hasattr(samples, "__getitems__"):
        return samples.__getitems__(keys)
    items = [samples[key] for key in keys]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def _latest(run_dir: Path) -> Path:
    found = list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise CellsError(
            f"{run_dir} holds no whole checkpoint to resume from; start it anew without --resume"
        )
    return found[-1]

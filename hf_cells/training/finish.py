"""After the last epoch: choose thresholds on validation, save the model, measure it once, draw, and write the card."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import torch

from .. import evaluation as ev
from ..data.registry import builder_class, dataset_names
from ..data.samples import ImageRows
from ..data.simulated import is_simulated
from ..hub.card import write_card
from ..hub.widget_examples import write_widget_examples
from ..models.saving import save_model_repository
from .energy import energy_estimate
from .loop import Setup, State
from .recipe import is_changed, save_recipe

GALLERIES = ("predictions.png", "wrong_predictions.png")  # figures that show images of the data
SELECTION = "selection"  # folder of a run's first training, where it is trained twice
_UNITS = {"random": "image", "modality": "modality and size", "project": "imaging project"}


def finish(setup: Setup, splits: datasets.DatasetDict, state: State) -> dict[str, Any] | None:
    """Save and measure on the main process; returns the results there."""
    setup.accelerator.wait_for_everyone()
    if not setup.accelerator.is_main_process:
        return None
    model = setup.accelerator.unwrap_model(setup.model, keep_fp32_wrapper=False)
    model = model.float().to("cpu", memory_format=torch.contiguous_format).eval()
    wishes, run_dir = setup.recipe["evaluation"], setup.run_dir
    if wishes["tune"] and setup.validation is not None and (said := setup.task.tune(setup, model)):
        print(said, flush=True)
    if setup.recipe["training"]["refit"]:
        setup.task.adopt(setup, model, run_dir / SELECTION / "model")
    folder = save_model_repository(model, setup.processor, run_dir / "model")
    split = "test" if wishes["test"] and "test" in splits else "validation"
    if split not in splits:
        return None
    options: dict[str, Any] = {"test_time_augmentation": True} if wishes["test_time_augmentation"] else {}
    pipe = ev.load_pipeline(folder, device=setup.accelerator.device, **options)
    context = run_context(setup, splits, state)
    results = setup.task.evaluate(setup, pipe, splits, split, context, run_dir / "figures")
    ev.write_results(run_dir / "results.json", results)
    if (run_dir / "history.csv").exists():
        ev.plot_curves(run_dir / "history.csv", run_dir / "figures" / "curves.png")
    if setup.recipe["training"]["refit"]:
        curves = run_dir / SELECTION / "figures" / "curves.png"
        shutil.copyfile(curves, run_dir / "figures" / "curves_of_the_first_training.png")
    if _may_be_shown(setup.recipe):
        write_widget_examples(ImageRows(splits[split]), folder)
    publish_files(run_dir, setup.recipe)
    return results


def run_context(setup: Setup, splits: datasets.DatasetDict, state: State) -> dict[str, dict[str, Any]]:
    """What the evaluation cannot know: the split's audit, and how the model was trained."""
    recipe, audit, processes = setup.recipe, setup.audit, setup.accelerator.num_processes
    options = recipe["data"]["options"]
    first = _run_of_selection(setup) if recipe["training"]["refit"] else {}
    unit = {"unit": _UNITS[options.get("split_by", "random")]} if _chooses_unit(recipe) else {}
    return {
        "dataset": {"name": _public_name(recipe), "simulated": _simulated(recipe)},
        "split": {
            **unit,
            "leaks": audit["leaks"],
            "audit": audit["warning"] or audit["summary"],
            "options": options,
            "report": audit,
        },
        "run": {
            "recipe": recipe["name"],
            "recipe_changed": is_changed(recipe),
            "seed": recipe["seed"],
            "seconds": round(state.seconds + first.get("seconds", 0.0), 1),
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "refit": recipe["training"]["refit"],
            "precision": f"{recipe['training']['precision']} {recipe['training']['memory_format']}",
            "parameters": sum(p.numel() for p in setup.model.parameters()),
            "train_images": len(splits["train"]),
            "processes": processes,
            "energy": energy_estimate(
                state.seconds + first.get("seconds", 0.0),
                torch.get_num_threads() * processes,
                gpus=processes if setup.accelerator.device.type == "cuda" else 0,
            ),
        },
    }


def _run_of_selection(setup: Setup) -> dict[str, Any]:
    return ev.read_results(setup.run_dir / SELECTION / "results.json")["run"]


def publish_files(run_dir: Path, recipe: dict[str, Any]) -> None:
    """Put results, recipe, history and figures into the model repository and write its card."""
    model = run_dir / "model"
    for name in ("results.json", "history.csv"):
        if (run_dir / name).exists():
            shutil.copyfile(run_dir / name, model / name)
    data = {**recipe["data"], "data_dir": None, "name": _public_name(recipe)}  # no path of this machine
    save_recipe({**recipe, "output_dir": None, "data": data}, model / "recipe.yaml")
    kept = () if _may_be_shown(recipe) else shutil.ignore_patterns(*GALLERIES)
    shutil.copytree(run_dir / "figures", model / "figures", dirs_exist_ok=True, ignore=kept or None)
    write_card(model)


def _may_be_shown(recipe: dict[str, Any]) -> bool:
    """Whether pictures of the data may leave the run folder: simulated ones, and those whose terms allow it."""
    name, place = recipe["data"]["name"], recipe["data"]["data_dir"]
    return (_simulated(recipe) or is_simulated(place)) or (
        name in dataset_names() and builder_class(name).redistributable
    )


def _chooses_unit(recipe: dict[str, Any]) -> bool:
    """Whether an option of the dataset says what its splits keep whole; elsewhere its groups do."""
    name = recipe["data"]["name"]
    return name in dataset_names() and hasattr(builder_class(name).BUILDER_CONFIGS[0], "split_by")


def _public_name(recipe: dict[str, Any]) -> str:
    name = recipe["data"]["name"]
    return Path(name).name if Path(name).is_dir() else name


def _simulated(recipe: dict[str, Any]) -> bool:
    return recipe["data"]["data_dir"] is None and bool(recipe["data"]["simulate"])

"""After the last epoch: choose thresholds on validation, save the model, measure it once, draw, and write the card."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import torch

from .. import evaluation as ev
from ..data.audit import leak_report
from ..data.samples import truth_of
from ..hub.card import write_card
from ..metrics import aggregate_instances, score_instances
from ..models.image_reading import read_image
from ..models.instance_decoding import DECODING_DEFAULTS, decode_instances
from ..models.saving import save_model_repository
from ..progress import track
from .loop import Setup, State
from .recipe import save_recipe

# First the default, as `choose_thresholds` wants it.
CANDIDATES = {
    "merge_depth": (0.2, 0.1, 0.15, 0.3),
    "foreground": (0.5, 0.4, 0.45, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
    "boundary_weight": (0.5, 0.0, 1.0),
    "min_score": (0.0, 0.6, 0.7, 0.8, 0.85, 0.9),
    "min_size": (12.0, 6.0, 20.0, 30.0),
}


def finish(setup: Setup, splits: datasets.DatasetDict, state: State) -> dict[str, Any] | None:
    """Save and measure on the main process; returns the results there."""
    setup.accelerator.wait_for_everyone()
    if not setup.accelerator.is_main_process:
        return None
    model = setup.accelerator.unwrap_model(setup.model, keep_fp32_wrapper=False)
    model = model.float().to("cpu", memory_format=torch.contiguous_format).eval()
    recipe, run_dir = setup.recipe, setup.run_dir
    if setup.instances and recipe["evaluation"]["tune"] and setup.validation is not None:
        chosen, score = tune_decoding(setup, model)
        setup.processor.decision_thresholds |= chosen
        setup.processor.thresholds_chosen_on = "validation"
        print(f"decoding chosen on validation ({score:.4f}): {chosen}", flush=True)
    folder = save_model_repository(model, setup.processor, run_dir / "model")
    split = "test" if recipe["evaluation"]["test"] and "test" in splits else "validation"
    if split not in splits:
        return None
    pipe = ev.load_pipeline(
        folder,
        device=setup.accelerator.device,
        test_time_augmentation=recipe["evaluation"]["test_time_augmentation"],
    )
    measured = ev.evaluate_segmentation(
        pipe,
        splits[split],
        split_name=split,
        n_resamples=recipe["evaluation"]["n_resamples"],
        context=run_context(setup, splits, state),
    )
    ev.write_results(run_dir / "results.json", measured.results)
    ev.draw_figures(measured, pipe, splits[split], run_dir / "figures")
    if (run_dir / "history.csv").exists():
        ev.plot_curves(run_dir / "history.csv", run_dir / "figures" / "curves.png")
    publish_files(run_dir, recipe)
    return measured.results


def tune_decoding(setup: Setup, model: Any) -> tuple[dict[str, float], float]:
    """Coordinate search over `CANDIDATES` on the validation split, with the maps computed once."""
    assert setup.validation is not None
    maps, truths = [], []
    device = setup.accelerator.device
    model = model.to(device)
    with torch.inference_mode():
        for row in track([setup.validation[i] for i in range(len(setup.validation))], "choosing thresholds"):
            pixel_values = setup.processor(read_image(row["image"]))["pixel_values"].to(device)
            truths.append(truth_of(row))
            maps.append(
                setup.processor.to_original_size(
                    model(pixel_values).logits[0].float().cpu(), truths[-1].shape
                ).numpy()
            )
    model.to("cpu")

    def score(settings: dict[str, float]) -> float:
        found = [decode_instances(item, settings)[0] for item in maps]
        return aggregate_instances([score_instances(t, f) for t, f in zip(truths, found)])["dsb_score"]

    assert CANDIDATES.keys() <= DECODING_DEFAULTS.keys()
    return ev.choose_thresholds(CANDIDATES, score)


def run_context(setup: Setup, splits: datasets.DatasetDict, state: State) -> dict[str, dict[str, Any]]:
    """What the evaluation cannot know: the split's audit, and how the model was trained."""
    recipe = setup.recipe
    audit = leak_report(splits)
    options = recipe["data"]["options"]
    unit = {"random": "image", "modality": "modality and size", "project": "imaging project"}
    return {
        "dataset": {"name": _public_name(recipe), "simulated": _simulated(recipe)},
        "split": {
            "leaks": audit["leaks"],
            "audit": audit["summary"],
            "unit": unit.get(options.get("split_by", "random"), "image"),
            "options": options,
        },
        "run": {
            "recipe": recipe["name"],
            "seed": recipe["seed"],
            "seconds": round(state.seconds, 1),
            "epochs": state.epoch,
            "best_epoch": state.best_epoch,
            "precision": f"{recipe['training']['precision']} {recipe['training']['memory_format']}",
            "parameters": sum(p.numel() for p in setup.model.parameters()),
            "train_images": len(splits["train"]),
            "processes": setup.accelerator.num_processes,
        },
    }


def publish_files(run_dir: Path, recipe: dict[str, Any]) -> None:
    """Put results, recipe, history and figures into the model repository and write its card."""
    model = run_dir / "model"
    for name in ("results.json", "history.csv"):
        if (run_dir / name).exists():
            shutil.copyfile(run_dir / name, model / name)
    data = {**recipe["data"], "data_dir": None, "name": _public_name(recipe)}  # no path of this machine
    save_recipe({**recipe, "output_dir": None, "data": data}, model / "recipe.yaml")
    shutil.copytree(run_dir / "figures", model / "figures", dirs_exist_ok=True)
    write_card(model)


def _public_name(recipe: dict[str, Any]) -> str:
    name = recipe["data"]["name"]
    return Path(name).name if Path(name).is_dir() else name


def _simulated(recipe: dict[str, Any]) -> bool:
    return recipe["data"]["data_dir"] is None and bool(recipe["data"]["simulate"])

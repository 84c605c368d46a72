"""The command line of training."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CellsError
from .launch import print_error

EXAMPLES = """examples:
  accelerate launch train.py                                    simulate nuclei, train, evaluate: three minutes on a CPU
  accelerate launch train.py --recipe dsb2018_instance --data_dir stage1_train.zip
  accelerate launch train.py --recipe dsb2018_instance --data_dir my_images training.epochs=10    (images/ + masks/)
  accelerate launch train.py --recipe hep2_best --data_dir hep2 --seeds 5 --output_dir runs/five_seeds
  accelerate launch train.py --resume runs/dsb2018_instance/2026-01-31_120000
  accelerate launch --num_processes 8 --multi_gpu train.py --recipe dsb2018_instance_gpu --data_dir stage1_train.zip
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, train, evaluate, and print one line that says where everything is."""
    options = make_parser().parse_intermixed_args(arguments)  # settings may stand before and after options
    try:
        run(options)
    except CellsError as error:
        if options.debug:
            raise
        print_error(error)
        raise SystemExit(1) from None


def make_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = argparse.ArgumentParser(
        description="Train a model from a recipe.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="recipe settings: training.epochs=5 …"
    )
    parser.add_argument(
        "--recipe", default="quickstart", help="name of a recipe, or a .yaml file [quickstart]"
    )
    parser.add_argument(
        "--data_dir", help="folder or zip of the raw data, or your own images/ + masks/ folder"
    )
    parser.add_argument("--output_dir", help="run folder [runs/<recipe>/<time>]")
    parser.add_argument("--resume", metavar="RUN", help="run folder to continue from its latest checkpoint")
    parser.add_argument("--seed", type=int, help="random seed of the experiment")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train N times, from the seed on, and report mean and spread"
    )
    parser.add_argument("--list", action="store_true", help="list the recipes and leave")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(options: argparse.Namespace) -> None:
    """Do what the options say."""
    from .recipe import load_recipe, recipe_names

    if options.list:
        for name in recipe_names():
            print(f"{name:24} {load_recipe(name)['description']}")
        return
    resume = Path(options.resume) if options.resume else None
    if resume and not (resume / "recipe.yaml").exists():
        raise CellsError(f"{resume} is no run folder: it has no recipe.yaml")
    recipe = load_recipe(resume / "recipe.yaml" if resume else options.recipe, options.overrides)
    if options.data_dir:
        use_data(recipe, options.data_dir, options.overrides)
    if options.output_dir:
        recipe["output_dir"] = options.output_dir
    if options.seed is not None:
        recipe["seed"] = options.seed
    several = options.seeds is not None or bool(recipe["study"])
    if resume and several:
        raise CellsError(
            f"--resume continues a single run; the same command with --output_dir {resume} continues several"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorBoard's import is chatty

    from ..evaluation import metrics_line
    from ..quiet import quiet_libraries
    from .one_run import train_recipe
    from .repeat import repeat

    quiet_libraries()
    if several:
        repeat(recipe, options.seeds)
        return
    setup, results = train_recipe(recipe, resume)
    if results:
        print(metrics_line(results))
    if setup.accelerator.is_main_process:
        print(
            f"everything is in {setup.run_dir} (model{' and card' if results else ''}: {setup.run_dir}/model)"
        )
    setup.accelerator.state.destroy_process_group()


def use_data(recipe: dict[str, Any], data_dir: str, overrides: Sequence[str] = ()) -> None:
    """Point a recipe at the raw data of its dataset, or at an own folder of masks or of labelled images.

    Simulated images stay out of the training on an own folder, unless `overrides` ask for them.
    """
    from ..data.labelled_folders import LabelledFolder, holds_classes_of
    from ..data.loading import own_builder
    from ..data.registry import builder_class, dataset_names

    if not Path(data_dir).exists():
        raise CellsError(f"{data_dir}: no such file or folder; check --data_dir")
    data, path = recipe["data"], os.path.abspath(data_dir)  # --resume may come from another folder
    options, classifier = data["options"], recipe["model"]["type"].endswith("classification")
    named = builder_class(data["name"]) if data["name"] in dataset_names() else None
    own = own_builder(path, options=options) if os.path.isdir(path) else None
    recognises = getattr(named, "recognises", None)  # raw files may lie as own labelled images may lie
    if named and (
        own is None
        or (recognises and recognises(path))
        or (own is LabelledFolder and classifier and holds_classes_of(path, named))
    ):
        data["data_dir"] = path
        return
    if own and classifier != (own is LabelledFolder):
        fits = {LabelledFolder: ("labelled images", "cells_classification")}
        what, fitting = fits.get(own, ("images with masks", "dsb2018_instance"))
        raise CellsError(
            f"{data_dir}: holds {what}, which the recipe {recipe['name']} cannot learn from; "
            f"take one that can, such as --recipe {fitting}"
        )
    data |= {"name": path, "data_dir": None, "simulate": None}
    if not any(override.startswith("data.simulated_extra=") for override in overrides):
        data["simulated_extra"] = 0  # they look like the recipe's own dataset, not like somebody's images
    if own:
        known = vars(own.BUILDER_CONFIGS[0]).keys()
        of_named = vars(named.BUILDER_CONFIGS[0]).keys() if named else set()
        data["options"] = {k: v for k, v in options.items() if k in known or k not in of_named}
        if own is LabelledFolder:
            data["config"] = own.DEFAULT_CONFIG_NAME
            table = options.get("labels")
            if table and os.path.isfile(table) and not os.path.isfile(os.path.join(path, table)):
                data["options"]["labels"] = os.path.abspath(table)

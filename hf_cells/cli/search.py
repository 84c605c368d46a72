"""The verb `search`: short trainings that look for better settings, then the winner on all data."""

from pathlib import Path
from typing import Annotated

import typer


def search(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a .yaml file.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Recipe settings, such as training.batch_size=32."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option("--data_dir", help="Folder or zip of the raw data, or an own folder.")
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Trials in all, the recipe itself first.")
    ] = 20,
    share: Annotated[
        float,
        typer.Option(
            "--share", min=0.0, max=1.0, help="Of the training images, in a trial; groups stay whole."
        ),
    ] = 0.25,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of a trial, over its share.")] = 5,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder of the search.")] = Path("search"),
    timeout_minutes: Annotated[
        float | None, typer.Option("--timeout_minutes", min=0.0, help="Begin no trial after this time.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option("--space", help="YAML of what may change; by default what fits the recipe.")
    ] = None,
    final: Annotated[
        bool,
        typer.Option("--final/--no-final", help="Train the winner on all data, the recipe's epochs long."),
    ] = True,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed of the search and its trainings.")
    ] = None,
) -> None:
    """Search for better settings of a recipe.

    Network, activation, loss, head and optimiser are tried on a part of the training images and judged on the
    validation images; the test images are scored once, by the winner. The same command continues a search.

    A space file names settings with values, ranges, or bundles under a name of your own:

    \b
      model.config.kernel_size: [3, 5]
      training.optimizer.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
      size: {small: {model.config.hidden_sizes: [16, 32]}, large: {model.config.hidden_sizes: [64, 128]}}

    \b
    Example:
      hf-cells search hep2_best --data_dir hep2 --trials 20 --share 0.25 --epochs 5 --output_dir search
      hf-cells search glomeruli_resnet18_frozen --data_dir crops --space space.yaml --no-final
    """  # noqa: D301
    from ..quiet import quiet_libraries
    from ..training.main import use_data
    from ..training.recipe import load_recipe

    resolved = load_recipe(recipe, settings or [])
    if data_dir:
        use_data(resolved, data_dir)
    if seed is not None:
        resolved["seed"] = seed
    resolved["output_dir"] = str(output_dir)

    from ..training.search import search as run
    from ..training.search_space import read_space

    quiet_libraries()
    best = run(
        resolved,
        space=read_space(space) if space else None,
        trials=trials,
        share=share,
        epochs=epochs,
        timeout_minutes=timeout_minutes,
        final=final,
    )
    if not final:
        typer.echo(f"train the winner: hf-cells train --recipe {best}")
    typer.echo(f"everything is in {output_dir}")

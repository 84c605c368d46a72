"""The verb `space`."""

from pathlib import Path
from typing import Annotated

import typer


def space(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")],
    repo_id: Annotated[
        str | None,
        typer.Option(
            "--repo_id",
            help="owner/name of the model on the Hub; a folder's files go into the Space without it.",
        ),
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples/--no_examples", help="Add the model's examples, or simulated ones.")
    ] = True,
) -> None:
    """Write a Gradio Space: a page on which people try the model with images of their own.

    app.py, requirements.txt, the card and example images; it runs without this package. Needs
    pip install "hf-cells[demo]".

    \b
    Example:
      hf-cells space runs/nuclei/model --repo_id my-lab/nuclei --output_dir nuclei-space
      hf repos create my-lab/nuclei-demo --repo-type space --space-sdk gradio --private
      hf upload my-lab/nuclei-demo nuclei-space . --repo-type space
    """  # noqa: D301
    from ..hub.space import write_space
    from ..quiet import quiet_libraries

    quiet_libraries()
    folder = write_space(model, output_dir, repo_id=repo_id, examples=examples)
    typer.echo(f"the Space is {folder}; try it with `hf-cells demo {model}`")

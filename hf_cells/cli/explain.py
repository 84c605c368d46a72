"""The verb `explain`."""

from pathlib import Path
from typing import Annotated

import typer


def explain(
    model: Annotated[str, typer.Argument(help="Folder of a classifier, or its name on the Hub.")],
    paths: Annotated[
        list[str], typer.Argument(help="Images, folders (with all below them), or patterns in quotes.")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")] = Path("explained"),
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Explain this class in every image; by default those predicted."),
    ] = None,
    gif: Annotated[
        bool, typer.Option("--gif/--no-gif", help="Write explain.gif, at most 120 frames of 480 pixels.")
    ] = True,
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:1.")] = None,
) -> None:
    """Show where a classifier looks: what in an image speaks for a class.

    Writes explanations/ (labelled: the predicted labels on the image; heat_maps and superposed: for each class; rows:
    all of it in one picture, with a box), explain.csv (class, probability, box and strongest point in pixels),
    explain.gif and summary.json. Where the classifier is linear after pooling the maps are class activation maps,
    else Grad-CAM; the output says which.

    A file that cannot be explained is named and left out, and the exit status is then 1.

    \b
    Example:
      hf-cells explain runs/blood_gmp/model smears/test/images --output_dir explained
      hf-cells explain runs/blood_gmp/model "smears/*.png" --class lymphocyte --no-gif
    """  # noqa: D301
    from ..inference.paths import iter_image_paths

    images = iter_image_paths(paths)  # a misspelt path is told before anything is loaded

    from ..errors import CellsError
    from ..inference.explain import explain_files
    from ..models.loading import pipeline
    from ..quiet import quiet_libraries

    quiet_libraries()
    pipe = pipeline(model, device)
    if pipe.task != "cell-classification":
        raise CellsError(
            f"{model} is a segmentation model; explain is for classifiers, use `hf-cells predict`"
        )
    summary = explain_files(pipe, images, output_dir, class_name=class_name, gif=gif)
    typer.echo(str(summary).splitlines()[0])
    for failure in summary.failures:
        typer.echo(f"error: {failure.reason}", err=True)
    if summary.failures:
        raise typer.Exit(1)

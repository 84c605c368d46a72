"""The verb `predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def predict(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    paths: Annotated[
        list[str], typer.Argument(help="Images, folders (with all below them), or patterns in quotes.")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")] = Path("predictions"),
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Draw what was found.")] = True,
    rle: Annotated[bool, typer.Option("--rle", help="Also write rle.csv, the contest form.")] = False,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=1, help="Leave out objects of a lower score.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option("--tile", min=64, help="Cut longer images into tiles of this side [1024].")
    ] = None,
    test_time_augmentation: Annotated[
        bool, typer.Option("--test_time_augmentation", help="Average over flips and turns: 8 x slower.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:1.")] = None,
) -> None:
    """Find the cells in images, files and folders of them.

    Writes label images, overlays, objects.csv and summary.json. A file that cannot be predicted is named and left
    out, and the exit status is then 1.

    \b
    Example:
      hf-cells predict runs/nuclei/model photo.png "plates/*.tif" --output_dir predictions
    """  # noqa: D301
    from ..inference.paths import iter_image_paths

    images = iter_image_paths(paths)  # a misspelt path is told before anything is loaded

    from ..inference.predict import predict_files
    from ..models.loading import pipeline
    from ..quiet import quiet_libraries

    quiet_libraries()
    given = {"threshold": threshold, "tile": tile}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    pipe = pipeline(model, device, test_time_augmentation=test_time_augmentation, **options)
    summary = predict_files(pipe, images, output_dir, overlays=overlays, rle=rle)
    typer.echo(str(summary).splitlines()[0])
    for failure in summary.failures:
        typer.echo(f"error: {failure.reason}", err=True)
    if summary.failures:
        raise typer.Exit(1)

"""The verb `segment`."""

from pathlib import Path
from typing import Annotated

import typer


def segment(
    input_dir: Annotated[
        Path,
        typer.Option(
            "--input_dir", help="Folder with <ID>_{red,green,blue,yellow}.png or .tif, 8 or 16 bit."
        ),
    ],
    train_csv: Annotated[
        Path | None,
        typer.Option(
            "--train_csv", help="CSV with the columns ID,Label; without it, all fields of the folder."
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")] = Path("single_cells"),
    nuclei_model: Annotated[
        str,
        typer.Option(
            "--nuclei_model", help="classical, or the folder or Hub name of an instance model (blue)."
        ),
    ] = "classical",
    cell_model: Annotated[
        str,
        typer.Option("--cell_model", help="The same for cells (red, yellow, blue)."),
    ] = "classical",
    scale_factor: Annotated[
        float | None,
        typer.Option(
            "--scale_factor",
            min=0.01,
            max=1,
            help="Working scale, such as 0.25 [chosen by size of the nuclei].",
        ),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops/--no-crops", help="Write the single cells.")] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    device: Annotated[str | None, typer.Option("--device", help="For models, such as cpu or cuda:1.")] = None,
) -> None:
    """Find nuclei and whole cells in fields of the Human Protein Atlas and cut out the single cells.

    Writes label images, crops per colour, overlays, cells.csv and summary.json. The cells get the labels of their
    field. A run that was stopped is taken up where it was when the same line is run again. Fields that cannot be
    segmented are named and left out, what an earlier run wrote of them is removed, and the exit status is then 1.

    \b
    Example:
      hf-cells segment --input_dir hpa/train --train_csv hpa/train.csv --output_dir single_cells --workers 2
      hf-cells segment --input_dir hpa/train --nuclei_model runs/nuclei/model --cell_model runs/cells/model
    """  # noqa: D301
    from ..inference.segment_files import Settings, segment_files
    from ..quiet import quiet_libraries

    quiet_libraries()
    summary = segment_files(
        input_dir,
        output_dir,
        train_csv,
        settings=Settings(nuclei_model, cell_model, scale_factor),
        device=device,
        crops=crops,
        workers=workers,
    )
    typer.echo(str(summary).splitlines()[0])
    for name in summary.empty:
        typer.echo(f"warning: {name}: no cell found", err=True)
    for failure in summary.failures:
        typer.echo(f"error: {failure.reason}", err=True)
    if summary.failures:
        raise typer.Exit(1)

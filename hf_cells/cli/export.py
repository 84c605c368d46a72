"""The verb `export`."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    format: Annotated[
        str,
        typer.Option("--format", help="timm_wrapper, onnx, torch_export or bioimageio."),
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Folder to write.")] = Path("exported"),
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Image to compare on; give it again for more [the model's examples]."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Largest difference of a logit.")
    ] = 1e-4,
) -> None:
    """Write a model in a format that loads without any code of ours.

    What was written is loaded again by the format's own library and compared with the original, logit by logit, before
    anything is kept. The card says how to load it and what the format cannot hold.

    \b
    Example:
      hf-cells export model_cards/dsb2018_instance --format onnx --output_dir nuclei_onnx --image photo.png
    """  # noqa: D301
    from ..hub.export import export_model
    from ..quiet import quiet_libraries

    quiet_libraries()
    made = export_model(model, format, output_dir, images or (), tolerance)
    typer.echo(f"{made.format} of {model} is in {made.folder}")
    for name, difference in made.differences.items():
        typer.echo(f"largest difference of a logit on {name}: {difference:.2g}")
    for note in made.notes:
        typer.echo(f"note: {note}")

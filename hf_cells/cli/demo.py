"""The verb `demo`."""

from typing import Annotated

import typer


def demo(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets other machines in, unasked.")
    ] = "127.0.0.1",
    examples: Annotated[
        bool, typer.Option("--examples/--no_examples", help="Show the model's examples, or simulated ones.")
    ] = True,
) -> None:
    """Try a model in the browser: the page of its Space, on this machine.

    Drop an image, see classes with calibrated probabilities and a heat map, or objects with counts and sizes, and
    take label image and table home. Needs pip install "hf-cells[demo]".

    \b
    Example:
      hf-cells demo runs/nuclei/model --port 7860
    """  # noqa: D301
    from ..hub.demo import run_demo
    from ..quiet import quiet_libraries

    quiet_libraries()
    run_demo(model, host, port, examples=examples, say=typer.echo)

"""The verb `serve`."""

from typing import Annotated

import typer


def serve(
    model: Annotated[str, typer.Argument(help="Folder of a model, or its name on the Hub.")],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets other machines in, unasked.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:1.")] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32 (exact), bf16, or auto: bf16 where it is built in.")
    ] = "auto",
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            "--max_batch_size", min=1, help="Images computed together [16; segmentation: 1, on a GPU 8]."
        ),
    ] = None,
    max_wait_ms: Annotated[
        float,
        typer.Option("--max_wait_ms", min=0, help="The longest an image waits for others on their way."),
    ] = 5.0,
    max_body_mb: Annotated[
        float, typer.Option("--max_body_mb", min=0.001, help="Megabytes of a request.")
    ] = 64.0,
    max_pixels: Annotated[int, typer.Option("--max_pixels", min=1, help="Pixels of an image.")] = 25_000_000,
    max_concurrency: Annotated[
        int, typer.Option("--max_concurrency", min=1, help="Requests at one time; more are sent away (503).")
    ] = 64,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds until an answer is given up (504).")
    ] = 60.0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Batches at one time [1; on a CPU in fp32 2].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Cores for each of them [all, shared].")
    ] = None,
) -> None:
    """Answer requests over HTTP, as the Hub's inference API does.

    `huggingface_hub.InferenceClient(model="http://127.0.0.1:8000")` can call it with image_classification or
    image_segmentation; POST /predict answers with more (decisions, label image, counts); /docs describes it all.
    Nobody is asked for a password: behind --host 0.0.0.0 put a proxy that does. Needs pip install "hf-cells[serve]".

    \b
    Example:
      hf-cells serve runs/nuclei/model --port 8000
      curl --data-binary @photo.png http://127.0.0.1:8000/predict
    """  # noqa: D301
    from ..errors import CellsError

    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise CellsError(f'serve needs {error.name}: pip install "hf-cells[serve]"') from error

    from ..models.loading import pipeline
    from ..quiet import quiet_libraries
    from ..serving.server import listen, serve
    from ..serving.settings import Settings
    from ..training.launch import keep_memory

    settings = Settings(
        max_batch_size,
        max_wait_ms,
        max_body_mb,
        max_pixels,
        max_concurrency,
        timeout,
        workers,
        threads,
        precision,
    )
    quiet_libraries()
    keep_memory()
    with listen(host, port) as listener:  # before the model is loaded: an address in use is told at once
        serve(pipeline(model, device), model, listener, settings, typer.echo)

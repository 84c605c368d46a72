"""The page of a model's Space on this machine."""

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import CellsError
from .space import gradio_version, write_demo


def run_demo(
    model: str | Path,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    examples: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        model: Folder of a model, or its name on the Hub.
        host: Address to listen on.
        port: 0 takes a free one.
        examples: Whether to show example images.
        say: Told the address when the page answers.

    Raises:
        CellsError: No model, gradio is missing, or the address is in use.
    """
    gradio_version()
    port = _free_port(host, port)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # a page for images tells nobody that it runs
    from .demo_app.interface import run
    from .demo_app.loading import load

    with tempfile.TemporaryDirectory(prefix="cells-demo-") as name:
        folder = Path(name)
        settings = write_demo(model, folder, examples=examples)
        pipe = load(settings, folder)
        _, address, _ = run(
            settings, pipe, folder, server_name=host, server_port=port, prevent_thread_lock=True, quiet=True
        )
        say(f"{settings.title} is at {address} (Ctrl-C ends it)")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("ended")


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; found out before the model is loaded."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CellsError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error

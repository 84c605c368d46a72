"""Run the server until it is told to stop; then finish what is under way."""

import gc
import socket
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from ..errors import CellsError
from .app import create_app
from .service import Service
from .settings import Settings


def serve(
    pipe: Any, model: str, listener: socket.socket, settings: Settings | None = None, announce: Any = print
) -> None:
    """Answer requests until SIGTERM or SIGINT; a second signal ends it at once.

    After the first, requests under way are finished, and new ones are answered with 503.

    Args:
        pipe: From `hf_cells.pipeline`.
        model: Folder or repository that it comes from.
        listener: From `listen`.
        settings: The limits.
        announce: Called with one line when the server is ready.
    """
    service = Service(pipe, _name(model), settings or Settings())
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    # The libraries' million objects stay to the end: to look through them for garbage now and then would hold up
    # requests for a good part of a second.
    gc.collect()
    gc.freeze()
    try:
        _Server(config, service, announce).run(sockets=[listener])
    finally:
        gc.unfreeze()


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before a model is loaded for long.

    Raises:
        CellsError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CellsError(
            f"cannot listen on {host}:{port}: {reason}; choose another --host or --port"
        ) from error


class _Server(uvicorn.Server):
    """uvicorn, which would refuse connections at the first signal, made to go on answering while it finishes."""

    def __init__(self, config: uvicorn.Config, service: Service, announce: Any):
        super().__init__(config)
        self.service, self.announce = service, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where to find the server."""
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        what = f"{self.service.name} ({self.service.task})"
        self.announce(f"{what} answers at {url}, described at {url}/docs; stop it with Ctrl+C")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, exit at the second."""
        self.should_exit = self.force_exit = self.service.draining
        self.service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Exit when the last request is answered."""
        if self.service.draining and not self.service.active:
            self.should_exit = True
        return await super().on_tick(counter)


def _name(model: str) -> str:
    """Repository name; of a folder no more than its last two parts, since strangers will read it."""
    folder = Path(model)
    return "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else model

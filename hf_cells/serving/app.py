"""The routes of the server."""

import asyncio
import json
import platform
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.requests import ClientDisconnect

from .. import __version__
from ..models.handler import CLASSIFICATION
from . import documentation
from .page import render_page
from .requests import Refusal, RefusalResponse, parse, read_body
from .service import Service, log

_LARGE = 1_000_000  # bytes of a body or pieces of an answer that are worth a thread


def create_app(service: Service) -> FastAPI:
    """Return the application that answers with this service, and closes it in the end."""
    classifies = service.task == CLASSIFICATION

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title=f"hf-cells: {service.name}",
        version=__version__,
        description=documentation.description(service),
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page needs a script from the internet, which a laboratory may not have
        redoc_url=None,
    )

    async def answer(request: Request, full: bool) -> Response:
        settings = service.settings
        with service.admitted():
            body = await read_body(request, settings.max_body_bytes, settings.timeout)
            arguments = (body, request.headers.get("content-type", ""), dict(request.query_params))
            image, parameters = await _perhaps_in_thread(len(body), parse, *arguments)
            found = await service.answer(image, parameters, full)
            content = await _perhaps_in_thread(0 if classifies else _LARGE, _json, found)
        service.answered[200] += 1
        return Response(content, media_type="application/json")

    async def hub_answer(request: Request) -> Response:
        """Predict, in the form of the Hub's inference API."""
        return await answer(request, full=False)

    async def task_answer(request: Request, task: str) -> Response:
        """Predict like POST /, and be sure that the model does this task."""
        if task != service.task:
            raise Refusal(400, f"this model does {service.task}, not {task[:60]}")
        return await answer(request, full=False)

    async def full_answer(request: Request) -> Response:
        """Predict, with all that the model finds."""
        return await answer(request, full=True)

    hub, full = (documentation.route(service, full=full) for full in (False, True))
    app.post("/", summary="The Hub's inference API", **hub)(hub_answer)
    app.post("/pipeline/{task}", summary="The same, with the task named", **hub)(task_answer)
    app.post("/predict", summary="All that the model finds", **full)(full_answer)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return RedirectResponse("docs")

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs() -> str:
        return render_page(app.openapi(), "top_k=3" if classifies else "threshold=0.5")

    @app.get("/health", summary="Whether new requests are taken")
    async def health() -> Response:
        if service.draining:
            raise Refusal(503, "the server is shutting down", retry_after=5)
        return JSONResponse({"status": "ok"})

    @app.get("/info", summary="Model, labels, limits, versions")
    async def info() -> dict[str, Any]:
        return describe(service)

    @app.get("/metrics", summary="Counters, as Prometheus reads them", response_class=PlainTextResponse)
    async def metrics() -> str:
        return counters(service)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        service.answered[refusal.status] += 1
        return RefusalResponse(refusal)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_such_route(request: Request, error: Any) -> Response:
        line = f"no {request.method} {request.url.path[:60]}; see /docs"
        return RefusalResponse(Refusal(error.status_code, line))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: Exception) -> Response:
        service.answered[499] += 1
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        service.answered[500] += 1
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse({"error": f"{type(error).__name__} in the server; its log says more"}, 500)

    return app


def describe(service: Service) -> dict[str, Any]:
    """What GET /info answers."""
    config, settings = service.config, service.settings
    return {
        "model_id": service.name,
        "task": service.task,
        "pipeline_tag": service.task,
        "model_type": config.model_type,
        "labels": [config.id2label[i] for i in sorted(config.id2label)],
        "multi_label": getattr(config, "multi_label", None),
        "decision_thresholds": getattr(config, "decision_thresholds", None)
        or getattr(service.pipe.image_processor, "decision_thresholds", None),
        "channels": service.pipe.image_processor.num_channels,
        "device": str(service.pipe.device),
        "precision": service.precision,
        "limits": {
            "max_batch_size": service.batch_size,
            "max_wait_ms": settings.max_wait_ms,
            "max_body_mb": settings.max_body_mb,
            "max_pixels": service.max_pixels,
            "max_concurrency": settings.max_concurrency,
            "timeout": settings.timeout,
        },
        "versions": {
            "hf-cells": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
        },
    }


def counters(service: Service) -> str:
    """What GET /metrics answers: the text form of Prometheus."""
    batcher = service.batcher
    statuses: list[tuple[str, float]] = [
        (f'{{status="{status}"}}', count) for status, count in sorted(service.answered.items())
    ]
    families: list[tuple[str, str, list[tuple[str, float]]]] = [
        ("requests_total", "counter", statuses),
        ("request_seconds_sum", "counter", [("", service.seconds)]),
        ("requests_active", "gauge", [("", service.active)]),
        ("images_waiting", "gauge", [("", batcher.waiting)]),
        ("images_total", "counter", [("", batcher.images)]),
        ("batches_total", "counter", [("", batcher.batches)]),
    ]
    lines = []
    for name, kind, values in families:
        lines.append(f"# TYPE hf_cells_{name} {kind}")
        lines += [f"hf_cells_{name}{labels} {value:g}" for labels, value in values]
    return "\n".join(lines) + "\n"


def _json(found: Any) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()


async def _perhaps_in_thread(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Keep long work off the event loop; a change of threads costs more than short work."""
    return await asyncio.to_thread(function, *arguments) if size >= _LARGE else function(*arguments)

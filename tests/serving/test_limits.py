"""Too much at once, too large, too slow, and shutting down: each with its status, and nothing is left behind."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from served_images import Serving, png

from hf_cells.errors import CellsError
from hf_cells.serving import requests
from hf_cells.serving.app import create_app
from hf_cells.serving.service import Service
from hf_cells.serving.settings import Settings


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hold(service: Service, gate: threading.Event) -> None:
    """Let no image through the network until the gate opens."""
    forward = service.batcher.forward

    def held(pixel_values: Any) -> Any:
        assert gate.wait(20)
        return forward(pixel_values)

    service.batcher.forward = held


def test_beyond_the_places_503_with_a_time_to_come_back(
    classifier: Any, cell: bytes, serving: Serving, gate: threading.Event
) -> None:
    with serving(classifier, max_concurrency=2) as client, ThreadPoolExecutor(2) as pool:
        hold(client.service, gate)
        waiting = [pool.submit(client.post, "/", content=cell) for _ in range(2)]
        until(lambda: client.service.active == 2)
        refused = client.post("/", content=cell)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert "--max_concurrency" in refused.json()["error"]
        assert client.get("/health").status_code == 200
        gate.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert client.post("/", content=cell).status_code == 200 and client.service.active == 0


def test_waiting_images_are_computed_together(
    classifier: Any, serving: Serving, gate: threading.Event
) -> None:
    images = [png(np.random.default_rng(i).integers(0, 65_536, (24, 24), dtype=np.uint16)) for i in range(9)]
    expected = [{e["label"]: e["score"] for e in classifier(image)} for image in images]
    with serving(classifier, max_batch_size=4, workers=1) as client, ThreadPoolExecutor(9) as pool:
        hold(client.service, gate)
        sent = [pool.submit(client.post, "/", content=image) for image in images]
        # Eight have room at once. The batch before the gate holds one to four of them, so four at least queue up.
        until(lambda: client.service.batcher.waiting >= 4)
        gate.set()
        found = [{e["label"]: e["score"] for e in each.result().json()} for each in sent]
        assert client.service.batcher.images == 9 and client.service.batcher.batches < 7
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_too_slow_is_504_and_its_image_never_computed(
    classifier: Any, cell: bytes, serving: Serving, gate: threading.Event
) -> None:
    with serving(classifier, timeout=0.3, workers=1) as client, ThreadPoolExecutor(2) as pool:
        hold(client.service, gate)
        sent = [pool.submit(client.post, "/", content=cell) for _ in range(2)]
        answers = [each.result() for each in sent]
        assert [answer.status_code for answer in answers] == [504, 504]
        assert "--timeout" in answers[0].json()["error"]
        gate.set()
        assert client.post("/", content=cell).status_code == 200
        assert client.service.active == 0
        assert client.service.batcher.images <= 3


def test_a_body_over_the_limit_is_413(classifier: Any, cell: bytes, serving: Serving) -> None:
    with serving(classifier, max_body_mb=0.01) as client:
        refused = client.post("/", content=b"x" * 10_001)
        assert refused.status_code == 413 and "0.01 MB" in refused.json()["error"]
        assert client.post("/", content=cell).status_code == 200
        assert client.post("/", content=b"x" * 10_000).status_code == 422  # read, and no image


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


def called(
    pipe: Any, headers: list[tuple[bytes, bytes]], delay: float = 0.0, **settings: Any
) -> tuple[int, int, int]:
    """Send a body without end; return the status, and the pieces read before the answer and in all."""
    service = Service(pipe, "lab/model", Settings(**settings, precision="fp32"))
    pieces, answered = [0], []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(delay)
        pieces[0] += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.append((message["status"], pieces[0]))

    asyncio.run(create_app(service)(scope(*headers), receive, send))
    service.close()
    assert service.active == 0
    return *answered[0], pieces[0]


def test_a_body_without_end_is_refused_while_it_comes(
    classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_LINGER_SECONDS", 0.05)
    status, before, in_all = called(classifier, [], max_body_mb=0.01)  # chunked: no length is announced
    assert (status, before) == (413, 11) and in_all > before
    announced = (b"content-length", b"1000000000")
    status, before, in_all = called(classifier, [announced])
    assert (status, before) == (413, 0) and in_all > 0  # read and thrown away, lest the connection be reset
    assert called(classifier, [announced, (b"expect", b"100-continue")]) == (413, 0, 0)


def test_a_body_that_comes_too_slowly_is_408(classifier: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_LINGER_SECONDS", 0.05)
    status, before, _ = called(classifier, [], delay=0.02, timeout=0.1)
    assert status == 408 and before < 10


def test_while_it_shuts_down_what_is_under_way_is_finished(
    classifier: Any, cell: bytes, serving: Serving, gate: threading.Event
) -> None:
    with serving(classifier) as client, ThreadPoolExecutor(1) as pool:
        hold(client.service, gate)
        waiting = pool.submit(client.post, "/", content=cell)
        until(lambda: client.service.active == 1)
        client.service.draining = True
        refused = client.post("/", content=cell)
        assert refused.status_code == 503 and "shutting down" in refused.json()["error"]
        assert client.get("/health").status_code == 503
        gate.set()
        assert waiting.result().status_code == 200


def test_limits_are_above_zero() -> None:
    with pytest.raises(CellsError, match="--timeout 0 is no limit"):
        Settings(timeout=0)
    with pytest.raises(CellsError, match="--max_wait_ms -1"):
        Settings(max_wait_ms=-1)
    with pytest.raises(CellsError, match="--precision fp8 is unknown; choose auto, fp32 or bf16"):
        Settings(precision="fp8")
    assert Settings(max_wait_ms=0).max_body_bytes == 64_000_000

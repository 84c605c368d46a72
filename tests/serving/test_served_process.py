"""The real thing: `hf-cells serve` in a process of its own, asked by the Hub's client over HTTP."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import uvicorn
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from served_images import png
from typer.testing import CliRunner

from hf_cells.cli import app as program
from hf_cells.serving.app import create_app
from hf_cells.serving.server import listen
from hf_cells.serving.service import Service
from hf_cells.serving.settings import Settings

SERVE = "import sys; from hf_cells.cli import main; sys.argv[0] = 'hf-cells'; main()"


@pytest.fixture(scope="module")
def server(classifier_folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [
        sys.executable,
        "-c",
        SERVE,
        "serve",
        str(classifier_folder),
        "--port",
        "0",
        "--max_body_mb",
        "2",
        "--precision",
        "fp32",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        line = process.stdout.readline()  # type: ignore[union-attr]
        assert "(image-classification) answers at http://127.0.0.1:" in line
        yield process, line.split(" answers at ")[1].partition(",")[0]
    finally:
        process.kill()
        process.wait(20)


def test_the_hubs_client_classifies(
    server: tuple[Any, str], classifier: Any, cell: bytes, tmp_path: Path
) -> None:
    _, url = server
    (tmp_path / "cell.png").write_bytes(cell)
    expected = [(e["label"], pytest.approx(e["score"], abs=1e-5)) for e in classifier(cell)]
    client = InferenceClient(model=url)
    for image in (cell, tmp_path / "cell.png", str(tmp_path / "cell.png")):
        assert [(e.label, e.score) for e in client.image_classification(image)] == expected
    best = client.image_classification(cell, top_k=1, function_to_apply="softmax")
    assert [(e.label, e.score) for e in best] == expected[:1]
    with pytest.raises(HfHubHTTPError, match="is not an image") as caught:
        client.image_classification(b"what is this?")
    assert caught.value.response.status_code == 422
    with pytest.raises(HfHubHTTPError, match="this model does image-classification"):
        client.image_segmentation(cell, threshold=0.5)


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_upload_gets_its_413_and_takes_no_memory(server: tuple[Any, str], announced: bool) -> None:
    process, url = server
    status = Path(f"/proc/{process.pid}/status")

    def peak() -> int:
        lines = status.read_text().splitlines() if status.exists() else ["VmHWM: 0 kB"]
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024

    before, megabytes = peak(), 150
    connection = http.client.HTTPConnection(urlparse(url).netloc, timeout=60)
    headers = (
        {"Content-Length": str(megabytes * 1_000_000)} if announced else {"Transfer-Encoding": "chunked"}
    )
    body = (b"x" * 1_000_000 for _ in range(megabytes))
    connection.request("POST", "/", body, headers, encode_chunked=not announced)
    answer = connection.getresponse()
    assert answer.status == 413 and b"limit of 2 MB" in answer.read()
    connection.close()
    assert peak() - before < 40


def test_sigterm_finishes_what_is_under_way_and_refuses_the_rest(
    server: tuple[subprocess.Popen[str], str], cell: bytes
) -> None:
    process, url = server
    place = urlparse(url)
    head = f"POST / HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(cell)}\r\n\r\n".encode()
    with socket.create_connection((place.hostname, place.port), timeout=30) as half:
        half.sendall(head + cell[:100])
        time.sleep(0.3)  # the request has begun
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        other = http.client.HTTPConnection(place.netloc, timeout=30)
        other.request("POST", "/", cell)
        refused = other.getresponse()
        assert refused.status == 503 and b"shutting down" in refused.read()
        other.close()
        assert process.poll() is None
        half.sendall(cell[100:])
        assert half.recv(65_536).startswith(b"HTTP/1.1 200")
    assert process.wait(30) == 0


def test_the_hubs_client_segments(nuclei: Any, field: np.ndarray, tmp_path: Path) -> None:
    service = Service(nuclei, "lab/nuclei", Settings(precision="fp32"))
    with listen("127.0.0.1", 0) as listener:
        running = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            client = InferenceClient(model=f"http://127.0.0.1:{listener.getsockname()[1]}")
            (tmp_path / "field.png").write_bytes(png(field))
            found = client.image_segmentation(tmp_path / "field.png")
            some = client.image_segmentation(png(field), threshold=0.999)
            one = client.image_segmentation(png(field), subtask="instance", mask_threshold=0.5)
        finally:
            running.should_exit = True
            thread.join(30)
    expected = nuclei(field)
    assert len(found) == len(expected["scores"]) > 3 and len(one) > 0
    for number, (element, score) in enumerate(zip(found, expected["scores"]), start=1):
        assert element.label == "nucleus" and element.score == pytest.approx(float(score), abs=1e-4)
        assert np.array_equal(np.asarray(element.mask) > 0, expected["instance_labels"] == number)
    assert len(some) == (expected["scores"] >= 0.999).sum()


def test_what_cannot_be_served_is_told_in_one_line(classifier_folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(program, ["serve", str(classifier_folder), "--port", port])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    result = CliRunner().invoke(program, ["serve", str(tmp_path), "--port", "0"])
    assert result.exit_code == 1 and "'bert' is none of" in result.stderr

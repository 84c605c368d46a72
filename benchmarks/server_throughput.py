"""The server with many clients against one pipeline call after another: same model, same images, same cores.

    python benchmarks/server_throughput.py runs/hep2/model --data_dir hep2.zip [--seconds 10] [--clients 32]
    python benchmarks/server_throughput.py model_cards/dsb2018_instance --data_dir stage1_train.zip --route /predict

Images are those of a folder or a zip; without --data_dir simulated ones that suit the model. The pipeline calls use all
cores. The server runs as `hf-cells serve` starts it, in a process of its own, and its clients in another one, on the
same cores; each keeps its connection and sends its next image when the answer is there. Both are timed in turns, twice,
and the better half of each counts, so that other work on the machine weighs less. In the end so many --requests go to
the server as to see its memory: resident megabytes after each tenth of them.
"""

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from side_by_side import in_own_process, print_table

import hf_cells
from hf_cells.simulate import simulate_nuclei

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".bmp")
SERVE = "import sys; from hf_cells.cli import main; sys.argv[0] = 'hf-cells'; main()"


def load_images(data_dir: str | None, pattern: str, count: int = 256) -> list[bytes]:
    """Files of a folder or zip, or simulated nuclei."""
    if data_dir is None:
        return [_png(simulate_nuclei(0, i, size=(128, 128)).image) for i in range(32)]
    if data_dir.endswith(".zip"):
        with zipfile.ZipFile(data_dir) as archive:
            names = [name for name in archive.namelist() if name.endswith(SUFFIXES) and pattern in name]
            return [archive.read(name) for name in names[:count]]
    found = [
        path for path in sorted(Path(data_dir).rglob("*")) if path.suffix in SUFFIXES and pattern in str(path)
    ]
    return [path.read_bytes() for path in found[:count]]


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def pipeline_speed(model: str, images: list[bytes], seconds: float) -> tuple[float, float]:
    """Images per second, and milliseconds of processor time for each, of one `pipe(image)` after another.

    Runs in a process of its own, with all cores.
    """
    pipe = hf_cells.pipeline(model, "cpu")
    for image in images[:5]:
        pipe(image)
    begun, worked, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        pipe(images[done % len(images)])
        done += 1
    return done / (time.perf_counter() - begun), 1000 * (time.process_time() - worked) / done


def load_server(
    port: int, route: str, images: list[bytes], clients: int, seconds: float, requests: int | None
) -> dict[str, Any]:
    """Send requests from so many clients at once, for a time or up to a number; runs in a process of its own."""
    return asyncio.run(_load_server(port, route, images, clients, seconds, requests))


async def _load_server(
    port: int, route: str, images: list[bytes], clients: int, seconds: float, requests: int | None
) -> dict[str, Any]:
    # Bytes are written by hand: a comfortable client would take a core for itself.
    messages = [
        f"POST {route} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image
        for image in images
    ]
    waits: list[float] = []
    statuses: dict[int, int] = {}
    begun, sent = time.perf_counter(), 0

    async def client() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
        while sent < requests if requests else time.perf_counter() - begun < seconds:
            start, message = time.perf_counter(), messages[sent % len(messages)]
            sent += 1
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await reader.readexactly(length)
            waits.append(time.perf_counter() - start)
            status = int(head.split(" ", 2)[1])
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - begun
    p50, p99 = np.percentile(waits, [50, 99]).tolist()
    wrong = sum(count for status, count in statuses.items() if status != 200)
    return {"speed": len(waits) / took, "p50": p50, "p99": p99, "wrong": wrong, "sent": len(waits)}


class Server:
    """`hf-cells serve` in a process of its own."""

    def __init__(self, model: str, options: list[str]):
        command = [sys.executable, "-c", SERVE, "serve", model, "--port", "0", "--device", "cpu", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Server":
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        self.port = int(line.split(" answers at ")[1].partition(",")[0].rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def worked(self) -> float:
        """Seconds of processor time so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Resident memory (Linux)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def memory(server: Server, ask: Callable[..., dict[str, Any]], requests: int) -> Iterator[float]:
    """Megabytes after each tenth of the requests."""
    for part in range(10):
        found = ask(max(1, requests // 10))
        if found["wrong"]:
            raise SystemExit(f"{found['wrong']} requests failed")
        yield server.megabytes()
        print(f"{(part + 1) * requests // 10} requests: {server.megabytes():.0f} MB", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("--data_dir", help="folder or zip of images")
    parser.add_argument("--pattern", default="", help="only files with this in their path, such as /images/")
    parser.add_argument("--route", default="/", help="/ (the Hub's form) or /predict")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10, help="of each of the four measurements")
    parser.add_argument("--requests", type=int, default=0, help="for the memory, such as 10000")
    parser.add_argument("--serve_options", default="", help="more options of `hf-cells serve`, in quotes")
    options = parser.parse_args()
    images = load_images(options.data_dir, options.pattern)
    plain: list[tuple[float, float]] = []
    served: list[dict[str, Any]] = []
    with Server(options.model, options.serve_options.split()) as server:

        def ask(requests: int | None = None) -> dict[str, Any]:
            asked = (options.route, images, options.clients, options.seconds, requests)
            before = server.worked()
            found = in_own_process(load_server, server.port, *asked)
            return {**found, "cpu": 1000 * (server.worked() - before) / found["sent"]}

        ask(4 * options.clients)  # warm
        for _ in range(2):
            plain.append(in_own_process(pipeline_speed, options.model, images, options.seconds))
            served.append(ask())
            print(
                f"pipeline {plain[-1][0]:.1f}/s, {plain[-1][1]:.1f} ms; server {json.dumps(served[-1])}",
                flush=True,
            )
        used = list(memory(server, ask, options.requests)) if options.requests else []
    best, (speed, cost) = max(served, key=lambda found: found["speed"]), max(plain)
    times = f"p50 {1000 * best['p50']:.0f} ms, p99 {1000 * best['p99']:.0f} ms"
    grown = f"; memory {used[0]:.0f} MB after a tenth, {used[-1]:.0f} MB in the end" if used else ""
    print_table(
        f"{options.model}, {len(images)} images, {options.clients} clients, POST {options.route}",
        "images/s",
        {"pipeline, one call after another": f"{speed:.1f}", "hf-cells serve": f"{best['speed']:.1f}"},
        f"ratio {best['speed'] / speed:.2f}; {times}; errors {sum(f['wrong'] for f in served)}{grown}\n"
        f"processor time an image: pipeline {cost:.1f} ms, server {best['cpu']:.1f} ms",
    )


if __name__ == "__main__":
    main()

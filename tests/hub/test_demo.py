"""The page of a model: asked through its API, and looked at in a real browser where there is one."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import CHROMIUM, Browser, wait_for
from PIL import Image
from typer.testing import CliRunner

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
gradio = pytest.importorskip("gradio", reason="gradio is in the extra `demo`, which the tests do not need")

from gradio_client import Client, handle_file  # noqa: E402
from test_space import save_classifier  # noqa: E402

from hf_cells import pipeline  # noqa: E402
from hf_cells.cli.app import app  # noqa: E402
from hf_cells.hub.demo_app.interface import _BEST, RESEARCH_USE, run  # noqa: E402
from hf_cells.hub.demo_app.loading import Settings  # noqa: E402

NUCLEI = Path(__file__).parents[2] / "model_cards" / "dsb2018_instance"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Serve the page of a pipeline with one example; gives its address."""
    running: list[Any] = []

    def start(pipe: Any, image: np.ndarray, **settings: Any) -> str:
        (tmp_path / "examples").mkdir()
        Image.fromarray(image).save(tmp_path / "examples" / "one.png")
        chosen = Settings(model="x", title="Cells", examples=[["examples/one.png"]], **settings)
        running.append(run(chosen, pipe, tmp_path, server_port=None, prevent_thread_lock=True, quiet=True))
        return str(running[-1][1])

    yield start
    for _ in running:
        gradio.close_all()


def blobs(bits: int) -> np.ndarray:
    """Six bright discs on a dark field."""
    y, x = np.mgrid[:128, :160]
    discs = sum(((y - cy) ** 2 + (x - cx) ** 2 < 144) for cy in (32, 90) for cx in (30, 80, 130))
    noise = np.random.default_rng(1).normal(0.06, 0.01, y.shape)
    dtype = np.uint16 if bits == 16 else np.uint8
    return ((0.5 * discs + noise).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def test_instances_are_counted_measured_and_taken_home(tmp_path: Path, serve: Any) -> None:
    image = blobs(16)
    address = serve(pipeline(NUCLEI, "cpu"), image)
    client = Client(address, verbose=False)
    path = tmp_path / "field.tif"
    import tifffile

    tifffile.imwrite(path, image)
    summary, overlay, _, files, _, table = client.predict(handle_file(str(path)), 0.0, api_name="/predict")
    assert "**6 objects**" in summary and "160 x 128 pixels, 1 channel, 16 bit" in summary
    labels = np.asarray(Image.open(next(name for name in files if name.endswith("labels.png"))))
    assert labels.dtype == np.uint16 and labels.shape == (128, 160)
    with open(next(name for name in files if name.endswith(".csv")), encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["area"]) for row in rows] == np.bincount(labels.ravel())[1:].tolist()
    assert len(table["data"]) == 6 and np.asarray(Image.open(overlay)).shape[2] == 3
    assert "**0 objects**" in client.predict(handle_file(str(path)), 1.0, api_name="/predict")[0]

    if CHROMIUM is None:
        return
    with Browser(tmp_path / "profile") as browser:
        browser.open(address, "Drop File Here")
        (tmp_path / "text.png").write_text("no image")
        browser.drop(tmp_path / "text.png")
        wait_for(lambda: "text.png: is not an image" in browser.text(), 120)
        browser.open(f"{address}?example=1", "6 objects")
        assert RESEARCH_USE in browser.text()
        pixels = np.asarray(Image.open(browser.screenshot(tmp_path / "page.png")).convert("L"))
        assert pixels.shape[1] == 1280 and (pixels < 100).mean() > 0.05  # the dark field with its outlines


def test_classes_come_with_decision_and_heat_map(tmp_path: Path, serve: Any) -> None:
    pipe, image = pipeline(save_classifier(tmp_path / "cells"), "cpu"), blobs(8)
    client = Client(serve(pipe, image, max_pixels=30_000), verbose=False)
    path = tmp_path / "examples" / "one.png"
    label, decision, picture, heat, caption = client.predict(
        handle_file(str(path)), "light", api_name="/predict"
    )
    expected = {entry["label"]: entry["score"] for entry in pipe(str(path))}
    assert {one["label"]: one["confidence"] for one in label["confidences"]} == pytest.approx(
        expected, abs=1e-6
    )
    chosen = next(entry["label"] for entry in pipe(str(path)) if entry["predicted"])
    assert f"Decision: **{chosen}**" in decision and "dark 0.4, light 0.6" in decision
    assert "light (CAM)" in caption
    plain, coloured = (np.asarray(Image.open(one)).astype(int) for one in (picture, heat))
    assert plain.shape == coloured.shape
    if "nothing" not in caption:
        assert np.ptp(coloured - plain) > 0

    for name, content, message in (
        ("a.png", b"no image", "a.png: is not an image"),
        ("b.png", b"", "b.png: is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Exception, match=message) as caught:
            client.predict(handle_file(str(tmp_path / name)), _BEST, api_name="/predict")
        assert "\n" not in str(caught.value) and "gradio" not in str(caught.value)
    Image.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(Exception, match=r"large.png: 200 x 200 is over the limit of 30,000 pixels"):
        client.predict(handle_file(str(tmp_path / "large.png")), _BEST, api_name="/predict")


def test_an_address_in_use_is_told_before_the_model_is_loaded() -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = CliRunner().invoke(app, ["demo", "no/such-model", "--port", port])
    assert done.exit_code == 1 and f"cannot listen on 127.0.0.1:{port}" in done.output

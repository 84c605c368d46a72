"""`explain` on files, folders and patterns, good and broken."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from colour_network import colour_pipeline, with_squares
from PIL import Image
from typer.testing import Result

from hf_cells.models import save_model_repository

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipe = colour_pipeline()
    return save_model_repository(
        pipe.model, pipe.image_processor, tmp_path_factory.mktemp("model") / "colours"
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(with_squares((30, 40), red=(3, 5, 13, 21))).save(folder / "a.png")
    Image.fromarray(with_squares((30, 40), blue=(3, 5, 13, 21))).save(folder / "b.png")
    return folder


def test_explain_writes_everything(cli: Cli, colour_model: Path, images: Path, tmp_path: Path) -> None:
    result = cli("explain", colour_model, "images", "--output_dir", "out", "--device", "cpu")
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout.startswith("2 images, 2 maps by CAM in ") and result.stdout.count("\n") == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"explanations", "explain.csv", "explain.gif", "summary.json"}
    with (tmp_path / "out/explain.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["red", "blue"]


def test_options(
    cli: Cli, colour_model: Path, images: Path, tmp_path: Path, failing: Callable[..., str]
) -> None:
    result = cli(
        "explain", colour_model, "images/*.png", "--class", "green", "--no-gif", "--output_dir", "out"
    )
    assert result.stdout.startswith("2 images, 2 maps by CAM, 2 of them empty in ")
    assert not (tmp_path / "out/explain.gif").exists()
    assert json.loads((tmp_path / "out/summary.json").read_text())["animation"] is None
    assert failing("explain", colour_model, "images", "--class", "pink").startswith(
        "the model has no class 'pink'"
    )
    assert "no such file or folder" in failing("explain", colour_model, "nowhere")


def test_a_broken_file_is_named_and_the_others_are_explained(
    cli: Cli, colour_model: Path, images: Path
) -> None:
    (images / "broken.png").write_bytes(b"nothing")
    result = cli("explain", colour_model, "images")
    assert result.exit_code == 1 and result.stdout.startswith("2 images, 2 maps")
    assert (
        result.stderr.startswith("error: images/broken.png: is not an image")
        and result.stderr.count("\n") == 1
    )


def test_a_segmentation_model_is_refused(
    instance_model: Path, images: Path, failing: Callable[..., str]
) -> None:
    assert "is a segmentation model; explain is for classifiers" in failing(
        "explain", instance_model, "images"
    )

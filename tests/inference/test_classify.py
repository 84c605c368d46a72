"""Folders of images through a classifier whose answers are known by hand, with every output read back."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from hf_cells import models
from hf_cells.errors import CellsError
from hf_cells.inference.classify import classify_files
from hf_cells.inference.contact_sheet import MOST_TILES, Tile, choose_tiles, write_contact_sheet
from hf_cells.models.image_reading import read_image

SIDE = 8


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def classifier(several: bool = False, **config: Any) -> models.CellClassificationPipeline:
    """Logistic regression on the pixels, its weights set by hand.

    Of one label: "bright" has the probability sigmoid(8 (mean - 0.5)). Of several: "left" and "right" likewise, each
    of its own half of the image.
    """
    names = ["left", "right"] if several else ["dark", "bright"]
    kind = "multi_label_classification" if several else "single_label_classification"
    network = models.CellForImageClassification(
        models.CellClassificationConfig(
            hidden_sizes=[],
            pooling="flatten",
            image_size=SIDE,
            num_channels=1,
            id2label=dict(enumerate(names)),
            problem_type=kind,
            **config,
        )
    )
    left = torch.zeros(SIDE, SIDE)
    left[:, : SIDE // 2] = 2 / SIDE**2
    whole = torch.full((SIDE, SIDE), 1 / SIDE**2)
    rows = [left, left.flip(1)] if several else [torch.zeros(SIDE, SIDE), whole]
    with torch.no_grad():
        network.head.classifier.weight.copy_(8 * torch.stack(rows).flatten(1))
        network.head.classifier.bias.copy_(torch.tensor([-4.0, -4.0] if several else [0.0, -4.0]))
    processor = models.CellClassificationImageProcessor(
        num_channels=1, scaling="dtype", size={"height": SIDE, "width": SIDE}
    )
    return models.CellClassificationPipeline(network, image_processor=processor, device="cpu")


def grey(value: float, shape: tuple[int, int] = (12, 20), bits: int = 8) -> np.ndarray:
    return np.full(shape, round(value * (2**bits - 1)), np.uint8 if bits == 8 else np.uint16)


def halves(left: float, right: float) -> Image.Image:
    return Image.fromarray(np.concatenate([grey(left, (16, 8)), grey(right, (16, 8))], axis=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Depths, sizes and channels of every kind; two files have the same name."""
    images = tmp_path / "images"
    (images / "slide 2").mkdir(parents=True)
    Image.fromarray(grey(0.2)).save(images / "a1.png")
    tifffile.imwrite(images / "a2.tif", grey(0.9, bits=16))
    Image.fromarray(np.stack([grey(0.45)] * 3, -1)).save(images / "a10.png")
    Image.fromarray(grey(0.7, (40, 30))).save(images / "slide 2" / "a1.png")
    return images


MEANS = {"a1.png": 0.2, "a2.tif": 0.9, "a10.png": 0.45, "slide 2/a1.png": 0.7}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_kind_of_image_is_classified(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = classify_files(classifier(), folder, output)
    rows = table(output / "evaluation.csv")
    assert list(rows[0]) == ["name", "ground truth", "probability_dark", "probability_bright"]
    assert {row["name"] for row in rows} == set(MEANS)
    assert len(rows) == summary.images == 4
    for row in rows:
        bright = sigmoid(8 * (MEANS[row["name"]] - 0.5))
        assert float(row["probability_bright"]) == pytest.approx(bright, abs=0.01)
        assert float(row["probability_dark"]) == pytest.approx(1 - float(row["probability_bright"]), abs=1e-5)
        assert row["ground truth"] == ("bright" if MEANS[row["name"]] > 0.5 else "dark")
    assert sorted(path.name for path in output.iterdir()) == [
        "contact_sheet.png",
        "evaluation.csv",
        "summary.json",
    ]
    written = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert written["counts"] == {"dark": 2, "bright": 2}
    assert (written["images"], written["failures"], written["contact_sheet"]) == (4, [], "contact_sheet.png")
    assert str(summary).startswith("4 images (dark 2, bright 2) in ")


def test_numbers_in_place_of_names_are_what_the_glomeruli_table_has(folder: Path, tmp_path: Path) -> None:
    classify_files(classifier(), folder, tmp_path / "out", numeric=True, contact_sheet=False)
    rows = table(tmp_path / "out" / "evaluation.csv")
    assert {row["name"]: row["ground truth"] for row in rows} == {
        name: str(int(mean > 0.5)) for name, mean in MEANS.items()
    }
    assert not (tmp_path / "out" / "contact_sheet.png").exists()


def test_the_thresholds_of_the_model_decide(folder: Path, tmp_path: Path) -> None:
    pipe = classifier(decision_thresholds={"dark": 0.7, "bright": 0.3})  # 0.45 bright: probability 0.40
    summary = classify_files(pipe, folder, tmp_path / "out")
    assert summary.counts == {"dark": 1, "bright": 3}
    of_pipeline = classifier()
    of_pipeline._postprocess_params["decision_thresholds"] = {"dark": 0.99, "bright": 0.01}
    assert classify_files(of_pipeline, folder, tmp_path / "out").counts == {"dark": 0, "bright": 4}


def test_several_labels(tmp_path: Path) -> None:
    for name, image in {"none": halves(0, 0.1), "one": halves(0, 1), "two": halves(1, 0.9)}.items():
        image.save(tmp_path / f"{name}.png")
    for numeric, expected in ((False, ["", "right", "left|right"]), (True, ["", "1", "0|1"])):
        summary = classify_files(classifier(several=True), tmp_path, tmp_path / "out", numeric=numeric)
        assert [row["ground truth"] for row in table(tmp_path / "out" / "evaluation.csv")] == expected
    assert summary.counts == {"left": 1, "right": 2}
    assert summary.without_label == 1
    assert "3 images (left 1, right 2, no label 1)" in str(summary)


def test_broken_files_are_named_counted_and_skipped(folder: Path, tmp_path: Path) -> None:
    for i in range(40):  # over more than one batch
        Image.fromarray(grey(0.1)).save(folder / f"b{i}.png")
    (folder / "b20.png").write_bytes((folder / "b19.png").read_bytes()[:40])
    (folder / "b5.png").write_bytes(b"")
    (folder / "b39.png").write_text("text")
    summary = classify_files(classifier(), folder, tmp_path / "out")
    assert summary.images == len(table(tmp_path / "out" / "evaluation.csv")) == 41
    broken = [str(folder / name) for name in ("b5.png", "b20.png", "b39.png")]
    assert [failure.path for failure in summary.failures] == broken
    assert all(failure.reason.startswith(failure.path) for failure in summary.failures)
    assert "3 files failed" in str(summary)
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert [failure["path"] for failure in written["failures"]] == broken


def test_on_error_raise_stops_and_leaves_no_half_table(folder: Path, tmp_path: Path) -> None:
    (folder / "a3.png").write_bytes(b"nothing")
    with pytest.raises(CellsError, match=r"a3\.png: is not an image"):
        classify_files(classifier(), folder, tmp_path / "out", on_error="raise")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ValueError, match="on_error"):
        classify_files(classifier(), folder, tmp_path / "out", on_error="ignore")  # type: ignore[arg-type]


def test_a_diverged_model_is_told(folder: Path, tmp_path: Path) -> None:
    pipe = classifier()
    with torch.no_grad():
        pipe.model.head.classifier.bias.fill_(math.nan)
    summary = classify_files(pipe, folder, tmp_path / "out")
    assert (summary.images, len(summary.failures)) == (0, 4)
    assert "no number" in summary.failures[0].reason
    assert not (tmp_path / "out" / "contact_sheet.png").exists()


def test_a_second_run_into_the_folder_of_the_images_leaves_its_results_out(folder: Path) -> None:
    first = classify_files(classifier(), folder, folder)
    second = classify_files(classifier(), folder, folder, progress=False)
    assert second.images == first.images == 4
    with pytest.raises(CellsError, match="choose another output folder"):
        classify_files(classifier(), folder / "contact_sheet.png", folder)


def tiles(**scores: list[float]) -> list[Tile]:
    return [
        Tile(Path("x.png"), group, score, row)
        for group, values in scores.items()
        for row, score in enumerate(values, 2)
    ]


def test_the_sheet_is_shared_fairly_and_least_sure_first() -> None:
    chosen = choose_tiles(tiles(rare=[0.9, 0.6], common=list(np.linspace(1, 0.5, 200))), order=["rare"])
    assert list(chosen) == ["rare", "common"]
    assert [tile.score for tile in chosen["rare"]] == [0.6, 0.9]
    assert len(chosen["common"]) == MOST_TILES - 2
    assert [tile.row for tile in chosen["common"]] == list(range(201, 201 - MOST_TILES + 2, -1))
    three = choose_tiles(tiles(a=[0.5] * 50, b=[0.5] * 50, c=[0.5] * 50))
    assert [len(members) for members in three.values()] == [20, 20, 20]
    assert len(choose_tiles(tiles(**{f"g{i}": [0.5] for i in range(80)}))) == MOST_TILES


def test_a_line_of_pixels_keeps_one_on_the_sheet(tmp_path: Path) -> None:
    Image.fromarray(np.full((1, 3000), 200, np.uint8)).save(tmp_path / "line.png")
    write_contact_sheet([Tile(tmp_path / "line.png", "a", 0.5, 2)], tmp_path / "sheet.png")
    assert read_image(tmp_path / "sheet.png").shape[1] == 1350


def test_the_sheet_shows_the_images_themselves(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    tifffile.imwrite(tmp_path / "ramp.tif", ramp)
    sheet = [Tile(tmp_path / "ramp.tif", "$class_1$", 0.5, 2), Tile(tmp_path / "gone.png", "b", 0.25, 3)]
    write_contact_sheet(sheet, tmp_path / "sheet.png")
    pixels = read_image(tmp_path / "sheet.png")[..., :3]
    side = (1350 - 10) // 5 - 10
    shown = pixels[52 : 52 + side, 10 : 10 + side].astype(int)
    assert pixels.shape[1] == 1350
    assert (shown[0] == 238).all() and (shown[-1] == 238).all()  # wide: bars above and below
    middle = shown[side // 2, :, 0]
    assert middle[0] < 5 and middle[-1] > 250 and (np.diff(middle) >= 0).all()

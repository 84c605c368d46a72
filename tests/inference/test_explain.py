"""Where a classifier looks that is known by hand, with every output read back."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from colour_network import colour_pipeline, with_squares
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.inference import explain
from hf_cells.inference.explain import COLUMNS, explain_files
from hf_cells.inference.explain_animation import SIDE
from hf_cells.inference.explain_pictures import heat_map, superpose

SURE = 1 / (1 + math.exp(-6))


def table(output: Path) -> list[dict[str, str]]:
    with (output / "explain.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert not rows or tuple(rows[0]) == COLUMNS
    return rows


def numbers(row: dict[str, str], *names: str) -> tuple[int, ...]:
    return tuple(int(row[name]) for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One square, two, none; 8 and 16 bits, several sizes."""
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    Image.fromarray(with_squares((40, 60), red=(5, 10, 15, 26))).save(images / "one.png")
    two = with_squares((50, 30), red=(2, 2, 9, 9), blue=(30, 12, 41, 27))
    tifffile.imwrite(images / "two.tif", two.astype(np.uint16) * 257)
    Image.fromarray(with_squares((20, 20))).save(images / "more" / "none.png")
    return images


def test_boxes_and_peaks_are_where_the_colours_are(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = explain_files(colour_pipeline(), folder, output)
    rows = {(row["image"], row["class"]): row for row in table(output)}
    assert rows.keys() == {("one", "red"), ("two", "red"), ("two", "blue"), ("none", "red")}
    box = ("left", "top", "right", "bottom")
    assert numbers(rows["one", "red"], *box) == (10, 5, 26, 15)
    assert numbers(rows["two", "red"], *box) == (2, 2, 9, 9)
    assert numbers(rows["two", "blue"], *box) == (12, 30, 27, 41)
    x, y = numbers(rows["two", "blue"], "peak_x", "peak_y")
    assert (x, y) == (19, 35)  # the middle of what is brightest alike
    assert float(rows["one", "red"]["probability"]) == pytest.approx(SURE, abs=1e-4)
    assert [rows[key]["predicted"] for key in rows] == [str(int(key[0] != "none")) for key in rows]
    assert [rows["none", "red"][name] for name in (*box, "peak_x")] == [""] * 5
    assert {row["method"] for row in rows.values()} == {"CAM"}
    written = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert (written["images"], written["maps"], written["empty"], written["method"]) == (3, 4, 1, "CAM")
    assert str(summary).startswith("3 images, 4 maps by CAM, 1 of them empty in ")


def test_the_pictures_show_it(folder: Path, tmp_path: Path) -> None:
    explain_files(colour_pipeline(), folder, tmp_path / "out")
    made = tmp_path / "out" / "explanations"
    files = sorted(path.relative_to(made).as_posix() for path in made.rglob("*.png"))
    maps = ["0_red/none.png", "0_red/one.png", "0_red/two.png", "2_blue/two.png"]
    assert files == sorted(
        [f"{kind}/{name}" for kind in ("heat_maps", "superposed") for name in maps]
        + [f"{kind}/{name}.png" for kind in ("labelled", "rows") for name in ("none", "one", "two")]
    )
    heat = np.asarray(Image.open(made / "heat_maps/2_blue/two.png")).astype(int).sum(2)
    scale = heat.shape[0] / 50
    assert heat.shape[0] == 384  # enlarged, so that labels can be read
    inside = heat[int(33 * scale) : int(38 * scale), int(15 * scale) : int(24 * scale)]
    assert inside.min() > 600 and heat[: int(20 * scale)].max() < 20
    plain, labelled = (
        np.asarray(Image.open(made / f"{place}/one.png")) for place in ("heat_maps/0_red", "labelled")
    )
    assert plain.shape == labelled.shape == (256, 384, 3)
    assert (
        (labelled[4:20, 4:60] == labelled[4:20, 4:60].max(axis=(0, 1))).all(axis=2).any()
    )  # the label's ink
    one, two = (Image.open(made / f"rows/{name}.png").size for name in ("one", "two"))
    assert one[0] > 4 * 380 and two[1] > 2 * 380  # four panels; a row for each class


def test_the_animation_is_small_and_shows_every_map(folder: Path, tmp_path: Path) -> None:
    summary = explain_files(colour_pipeline(), folder, tmp_path / "out")
    with Image.open(tmp_path / "out" / "explain.gif") as gif:
        assert gif.mode == "P" and max(gif.size) == SIDE and gif.n_frames == summary.frames == 4
        assert gif.info["loop"] == 0
    again = explain_files(colour_pipeline(), folder, tmp_path / "out", gif=False)
    assert (again.animation, again.frames) == (None, 0)
    assert not (tmp_path / "out" / "explain.gif").exists()  # the old one would be of other images


def test_a_large_folder_is_spread_over_the_animation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "FRAMES", 6)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(16):
        Image.fromarray(with_squares((8, 8), red=(2, 2, 4 + i % 4, 5))).save(images / f"{i}.png")
    summary = explain_files(colour_pipeline(), images, tmp_path / "out", class_name="red")
    assert (summary.maps, summary.frames) == (16, 6)
    with Image.open(tmp_path / "out" / "explain.gif") as gif:
        assert gif.n_frames == 6


def test_one_class_in_every_image(folder: Path, tmp_path: Path) -> None:
    explain_files(colour_pipeline(), folder, tmp_path / "out", class_name="blue")
    rows = table(tmp_path / "out")
    assert [(row["image"], row["class"], row["predicted"]) for row in rows] == [
        ("none", "blue", "0"),
        ("one", "blue", "0"),
        ("two", "blue", "1"),
    ]
    with pytest.raises(CellsError, match="no class 'pink'; choose from: red, green, blue"):
        explain_files(colour_pipeline(), folder, tmp_path / "out", class_name="pink")


@pytest.mark.parametrize(
    "processor",
    [
        {"size": {"height": 64, "width": 64}},
        {"size": {"height": 64, "width": 64}, "square": "zero"},
        {"size": {"height": 80, "width": 80}, "square": "reflect", "crop_size": {"height": 72, "width": 72}},
        {"magnification": 2.0},
    ],
)
def test_whatever_the_processor_does_boxes_are_in_the_pixels_of_the_image(
    tmp_path: Path, processor: dict
) -> None:
    image = with_squares((60, 110), red=(20, 30, 40, 70))
    Image.fromarray(image).save(tmp_path / "a.png")
    explain_files(colour_pipeline(processor), tmp_path / "a.png", tmp_path / "out")
    (row,) = table(tmp_path / "out")
    found = np.array(numbers(row, "left", "top", "right", "bottom"))
    assert np.abs(found - [30, 20, 70, 40]).max() <= 2
    assert np.abs(np.array(numbers(row, "peak_x", "peak_y")) - [49.5, 29.5]).max() <= 2


def test_gradients_where_the_head_has_layers(folder: Path, tmp_path: Path) -> None:
    summary = explain_files(colour_pipeline(head_hidden_sizes=[4], kernel_size=3), folder, tmp_path / "out")
    assert summary.method == "Grad-CAM" and {row["method"] for row in table(tmp_path / "out")} == {"Grad-CAM"}


def test_broken_files_are_named_and_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("L", (9, 9)).save(folder / "grey.png")
    summary = explain_files(colour_pipeline(), folder, tmp_path / "out")
    assert summary.images == 4 and [failure.path for failure in summary.failures] == [
        str(folder / "broken.png")
    ]
    with pytest.raises(CellsError, match=r"broken\.png: is not an image"):
        explain_files(colour_pipeline(), folder, tmp_path / "other", on_error="raise")
    assert list((tmp_path / "other").glob("*.csv")) == []


def test_a_second_run_leaves_its_own_pictures_out(folder: Path) -> None:
    first = explain_files(colour_pipeline(), folder, folder)
    assert explain_files(colour_pipeline(), folder, folder).images == first.images == 3


def test_a_network_without_maps_is_refused(folder: Path, tmp_path: Path) -> None:
    from hf_cells import models

    config = models.CellClassificationConfig(hidden_sizes=[], pooling="flatten", image_size=8, num_labels=2)
    pipe = models.CellClassificationPipeline(
        models.CellForImageClassification(config), image_processor=models.CellClassificationImageProcessor()
    )
    with pytest.raises(CellsError, match="cannot be explained: a network without convolutions"):
        explain_files(pipe, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_colours_rise_in_lightness_and_empty_maps_leave_the_image() -> None:
    light = heat_map(np.linspace(0, 1, 256)[None])[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -1).all() and light[0] < 2 and light[-1] > 230
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert (superpose(picture, np.zeros((5, 6))) == picture).all()
    full = superpose(picture, np.ones((5, 6))).astype(int)
    assert np.abs(full - heat_map(np.ones((5, 6)))).mean() < np.abs(full - picture).mean()

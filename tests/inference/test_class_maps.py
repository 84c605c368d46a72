"""Maps of several classes: colours, counts, legends, and the scale at which the network sees an image."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.inference.class_maps import class_palette, draw_annotated, write_colour_map
from hf_cells.inference.predict import predict_files
from hf_cells.inference.rescaling import rescale_inputs
from hf_cells.models import CellSemanticImageProcessor

NAMES = {0: "background", 1: "lymphocyte", 2: "platelet"}
COLOURS = {"background": [0, 0, 0], "lymphocyte": [128, 128, 0], "platelet": [255, 255, 0]}


class RedAndGreen:
    """A pipeline whose class 1 is what is red and class 2 what is green."""

    def __init__(self, colours=COLOURS):
        config = SimpleNamespace(
            id2label={str(k): v for k, v in NAMES.items()},
            model_type="cell_unet_semantic",
            class_colors=colours,
        )
        self.model = SimpleNamespace(config=config)

    def __call__(self, image):
        mask = np.where(image[..., 0] > 200, 1, np.where(image[..., 1] > 200, 2, 0)).astype(np.uint8)
        return {"semantic_mask": mask, "probabilities": np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1)}


@pytest.fixture
def smear(tmp_path):
    """Two red cells, one green one, and a green speck of four pixels."""
    pixels = np.full((80, 120, 3), 100, np.uint8)
    pixels[10:30, 10:30] = pixels[40:60, 40:60] = (255, 0, 0)
    pixels[10:20, 80:90] = (0, 255, 0)
    pixels[70:72, 100:102] = (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "smear.png")
    return tmp_path / "smear.png"


def test_all_that_is_written_of_several_classes(smear, tmp_path):
    output = tmp_path / "out"
    summary = predict_files(RedAndGreen(), smear, output)
    with (output / "counts.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["image", "lymphocyte", "platelet"], ["smear", "2", "1"]]
    entry = summary.predictions[0]
    assert entry["counts"] == {"lymphocyte": 2, "platelet": 1}
    assert entry["objects"] == 3  # the speck is none
    assert json.loads((output / "summary.json").read_text())["predictions"] == summary.predictions
    expected = RedAndGreen()(np.asarray(Image.open(smear)))["semantic_mask"]
    assert expected[70, 100] == 2
    with Image.open(output / entry["labels"]) as labels, Image.open(output / entry["colour_map"]) as colours:
        np.testing.assert_array_equal(np.asarray(labels), expected)
        assert colours.mode == "P"
        np.testing.assert_array_equal(np.asarray(colours), expected)  # the classes are the palette's numbers
        rgb = np.asarray(colours.convert("RGB"))
        assert rgb[15, 15].tolist() == COLOURS["lymphocyte"] and rgb[0, 0].tolist() == [0, 0, 0]
    rows = list(csv.DictReader((output / "objects.csv").open()))
    assert [row["label"] for row in rows] == ["lymphocyte", "lymphocyte", "platelet"]
    assert [row["area"] for row in rows] == ["400", "400", "100"]
    assert {float(row["score"]) for row in rows} == {1.0}


def test_the_annotated_picture_has_outlines_and_a_legend_in_the_class_colours(smear, tmp_path):
    summary = predict_files(RedAndGreen(), smear, tmp_path / "out")
    picture = np.asarray(Image.open(tmp_path / "out" / summary.predictions[0]["overlay"]))
    image_height = 80 * 4  # small images are enlarged
    assert picture.shape[1] == 120 * 4 and picture.shape[0] > image_height
    for name in ("lymphocyte", "platelet"):
        same = (picture == COLOURS[name]).all(-1)
        assert same[:image_height].sum() > 100  # outline
        assert same[image_height:].sum() > 100  # swatch
    assert (picture[image_height:] == 255).all(-1).mean() > 0.5  # the legend is on paper


def test_pictures_can_be_left_out_and_a_second_run_replaces_the_first(smear, tmp_path):
    for _ in range(2):
        summary = predict_files(RedAndGreen(), tmp_path, tmp_path / "out", overlays=False)
        assert summary.images == 1  # the colour maps of the first run are no images of the second
    assert not (tmp_path / "out" / "overlays").exists()
    assert (tmp_path / "out" / "colour_maps" / "smear.png").exists()


def test_an_image_without_cells(tmp_path):
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "blank.png")
    summary = predict_files(RedAndGreen(), tmp_path / "blank.png", tmp_path / "out")
    assert summary.predictions[0]["counts"] == {"lymphocyte": 0, "platelet": 0} and summary.objects == 0


def test_colours_without_a_wish_are_black_and_different(tmp_path):
    palette = class_palette(RedAndGreen(None).model.config)
    assert palette.shape == (3, 3) and not palette[0].any()
    assert len({tuple(c) for c in palette.tolist()}) == 3
    assert class_palette(RedAndGreen({"platelet": [1, 2, 3]}).model.config)[2].tolist() == [1, 2, 3]
    path = write_colour_map(tmp_path / "map.png", np.array([[0, 1], [2, 2]]), palette)
    assert np.asarray(Image.open(path).convert("RGB"))[1, 0].tolist() == palette[2].tolist()


def test_a_legend_of_many_classes_fits_a_narrow_image():
    names = {k: f"a class with a long name {k}" for k in range(12)}
    palette = np.arange(36).reshape(12, 3).astype(np.uint8) * 7
    empty = np.zeros((1000, 800), np.int32)
    picture = draw_annotated(np.zeros((1000, 800), np.uint8), empty, np.zeros(0, np.int64), palette, names)
    assert picture.shape[1] == 800 and 1000 < picture.shape[0] < 1500


def test_rescaling_shows_the_network_another_size_and_gives_maps_of_the_image():
    processor = CellSemanticImageProcessor(magnification=2.0)
    pipe = SimpleNamespace(image_processor=processor)
    rescale_inputs(pipe, 0.25)
    seen = processor(np.zeros((80, 121, 3), np.uint8))["pixel_values"]
    assert seen.shape == (1, 3, 40, 60)
    (found,) = processor.post_process_semantic_segmentation({"logits": seen}, target_sizes=[(80, 121)])
    assert found.shape == (80, 121)


@pytest.mark.parametrize("factor", [0, -1, 30, float("nan")])
def test_absurd_factors_are_refused(factor):
    with pytest.raises(CellsError, match=r"rescale=.*: give a factor from 0.05 to 20"):
        rescale_inputs(SimpleNamespace(image_processor=CellSemanticImageProcessor()), factor)


def test_a_model_of_one_size_cannot_be_rescaled():
    fixed = CellSemanticImageProcessor(size={"height": 64, "width": 64})
    with pytest.raises(CellsError, match="sees every image at one size"):
        rescale_inputs(SimpleNamespace(image_processor=fixed), 0.5)

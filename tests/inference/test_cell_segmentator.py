"""The interface of the published tool: signatures, shapes, and labels that come back from predictions."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_hpa_fields import draw_culture, write_field

import hf_cells
from hf_cells.errors import CellsError
from hf_cells.inference.cell_segmentator import CellSegmentator, label_cell, label_nuclei
from hf_cells.inference.cell_segmentator_labels import as_prediction
from hf_cells.metrics import aggregate_instances, score_instances
from hf_cells.models.image_processing_cells import CellInstanceImageProcessor
from hf_cells.models.instance_targets import instance_targets


def ap50(true, found):
    return aggregate_instances([score_instances(true, found.astype(np.int32))])["ap50_pooled"]


@pytest.fixture
def segmentator():
    return CellSegmentator(device="cpu", scale_factor=None)


def test_signatures_are_those_of_the_published_tool():
    names = ["self", "nuclei_model", "cell_model", "scale_factor", "device", "padding", "multi_channel_model"]
    parameters = inspect.signature(CellSegmentator.__init__).parameters
    assert list(parameters) == names
    assert parameters["scale_factor"].default == 0.25 and parameters["multi_channel_model"].default is True
    assert list(inspect.signature(CellSegmentator.pred_cells).parameters) == ["self", "images", "precombined"]
    assert list(inspect.signature(label_cell).parameters) == ["nuclei_pred", "cell_pred"]
    assert hf_cells.CellSegmentator is CellSegmentator and hf_cells.label_cell is label_cell


@pytest.mark.parametrize("padding", [False, True])
def test_predictions_become_cells_with_their_nuclei(segmentator, padding):
    images, nuclei, cells = draw_culture()
    segmentator.padding = padding
    nuclei_pred = segmentator.pred_nuclei([images["blue"]])[0]
    cell_pred = segmentator.pred_cells([[images["red"]], [images["yellow"]], [images["blue"]]])[0]
    assert nuclei_pred.shape == cell_pred.shape == (256, 256, 3) and cell_pred.dtype == np.uint8
    assert not cell_pred[..., 0].any()
    nuclei_mask, cell_mask = label_cell(nuclei_pred, cell_pred)
    assert nuclei_mask.dtype == cell_mask.dtype == np.uint16
    assert ap50(nuclei, nuclei_mask) == 1 and ap50(cells, cell_mask) == 1
    assert (cell_mask[nuclei_mask > 0] == nuclei_mask[nuclei_mask > 0]).all()
    assert ap50(nuclei, label_nuclei(nuclei_pred)) == 1


def test_paths_colour_images_and_precombined_arrays_give_the_same(segmentator, tmp_path):
    images, _, _ = draw_culture()
    write_field(tmp_path, "f", images)
    colour = np.dstack([images["red"], images["yellow"], images["blue"]])
    path = {name: [str(tmp_path / f"f_{name}.png")] for name in images}
    cells = segmentator.pred_cells([path["red"], path["yellow"], path["blue"]])[0]
    assert np.array_equal(cells, segmentator.pred_cells([colour], precombined=True)[0])
    nuclei = segmentator.pred_nuclei(path["blue"])[0]
    Image.fromarray(colour).save(tmp_path / "rgb.png")
    assert np.array_equal(nuclei, segmentator.pred_nuclei([str(tmp_path / "rgb.png")])[0])


def test_two_channels(segmentator):
    images, _, cells = draw_culture()
    segmentator.multi_channel_model = False
    prediction = segmentator.pred_cells([[images["red"]], None, [images["blue"]]])[0]
    assert ap50(cells, label_cell(segmentator.pred_nuclei([images["blue"]])[0], prediction)[1]) == 1


def test_probability_maps_of_a_network_are_labelled():
    """Soft maps as a network gives them: blurred insides, a faint border between touching cells."""
    from scipy import ndimage

    _, nuclei, cells = draw_culture()
    soft = []
    for labels in (nuclei, cells):
        prediction = as_prediction(labels).astype(np.float32)
        soft.append(
            np.dstack([ndimage.gaussian_filter(prediction[..., k], 1) for k in range(3)]).astype(np.uint8)
        )
    nuclei_mask, cell_mask = label_cell(*soft)
    assert ap50(nuclei, nuclei_mask) == 1 and ap50(cells, cell_mask) == 1
    as_float = label_cell(soft[0] / 255, soft[1] / 255)
    assert np.array_equal(as_float[1], cell_mask)


def test_two_nuclei_in_a_body_without_a_border_are_one_cell():
    body, nuclei = np.zeros((120, 200), np.int32), np.zeros((120, 200), np.int32)
    body[20:100, 20:180] = 1
    nuclei[40:80, 40:80], nuclei[40:80, 120:160] = 1, 2
    nuclei_mask, cell_mask = label_cell(as_prediction(nuclei), as_prediction(body))
    assert cell_mask.max() == 1 and set(np.unique(nuclei_mask)) == {0, 1}
    assert (nuclei_mask[nuclei == 2] == 1).all()


def test_cells_without_a_nucleus_are_left_out():
    _, nuclei, cells = draw_culture()
    nuclei = np.where(nuclei == 3, 0, nuclei)
    nuclei_mask, cell_mask = label_cell(as_prediction(nuclei), as_prediction(cells))
    assert cell_mask.max() == 8 and not cell_mask[(cells == 3) & (as_prediction(cells)[..., 1] == 0)].any()
    nothing = label_cell(np.zeros((50, 60, 3), np.uint8), np.zeros((50, 60, 3), np.uint8))
    assert not nothing[0].any() and not nothing[1].any()


def test_what_is_wrong_is_said(segmentator):
    plane = np.zeros((16, 16), np.uint8)
    with pytest.raises(ValueError, match="ER images are missing"):
        segmentator.pred_cells([[plane], None, [plane]])
    with pytest.raises(ValueError, match="equally many"):
        segmentator.pred_cells([[plane], [plane, plane], [plane]])
    with pytest.raises(ValueError, match="to be a list"):
        segmentator.pred_nuclei(plane)
    with pytest.raises(ValueError, match="valid device"):
        CellSegmentator(device="tpu")
    with pytest.raises(ValueError, match=r"not \(H, W, 3\)"):
        label_cell(plane, plane)
    with pytest.raises(ValueError, match="those of one image"):
        label_cell(np.zeros((5, 5, 3)), np.zeros((5, 6, 3)))
    with pytest.raises(CellsError, match="pickled"):
        CellSegmentator("nuclei_model.pth", device="cpu")


class Pipe:
    """Stands for a pipeline: gives fixed labels and the maps of which they are made, remembers what it was shown."""

    def __init__(self, labels, channels, model_type="cell_unet_instance", names=None):
        self.labels, self.seen = labels, []
        config = type("Config", (), {"num_channels": channels, "model_type": model_type})
        self.model = type("Model", (), {"config": config})
        self.image_processor = CellInstanceImageProcessor(channel_names=names)

    def __call__(self, image):
        self.seen.append(image.shape)
        return {"instance_labels": self.labels}

    def preprocess(self, image):
        self.seen.append(image.shape)
        return {}

    def forward(self, inputs):
        foreground, boundary, distance = instance_targets(self.labels)
        return {
            "logits": torch.from_numpy(np.stack([20 * foreground - 10, 20 * boundary - 10, distance]))[None]
        }


def test_models_take_the_place_of_the_classical_engines():
    images, nuclei, cells = draw_culture()
    of_nuclei, of_cells = Pipe(nuclei[::2, ::2].copy(), 1), Pipe(cells[::2, ::2].copy(), 3)
    segmentator = CellSegmentator(of_nuclei, of_cells, scale_factor=0.5, device="cpu")
    prediction = segmentator.pred_cells([[images["red"]], [images["yellow"]], [images["blue"]]])[0]
    assert of_nuclei.seen == [(128, 128)] and of_cells.seen == [(128, 128, 3)]
    assert ap50(cells, label_cell(as_prediction(nuclei), prediction)[1]) == 1
    with pytest.raises(CellsError, match="takes 1 channels"):
        CellSegmentator(cell_model=of_nuclei, device="cpu")
    with pytest.raises(CellsError, match="no single cells"):
        CellSegmentator(Pipe(nuclei, 3, "cell_unet_semantic"), device="cpu")
    cells_for_nuclei = Pipe(nuclei, 3, names=["red", "yellow", "blue"])
    with pytest.raises(CellsError, match="takes red, yellow, blue, it has to take blue; are the models of"):
        CellSegmentator(cells_for_nuclei, device="cpu")
    with pytest.raises(CellsError, match="takes green, yellow, blue, it has to take red, yellow, blue"):
        CellSegmentator(cell_model=Pipe(cells, 3, names=["green", "yellow", "blue"]), device="cpu")

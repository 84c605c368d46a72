"""The gallery of wrong predictions: the right images in the right order, of any kind, with captions that fit."""

import numpy as np
import pytest
from classification_cases import LABELS, TABLE, labelled_split, measure, picture

from hf_cells.errors import CellsError
from hf_cells.evaluation import error_gallery
from hf_cells.evaluation.error_gallery import plot_wrong_predictions


def test_the_gallery_shows_the_errors_the_surest_first(tmp_path, drawn_figures):
    images = [np.full((20, 20), 0, np.uint8) for _ in LABELS]
    images[1][:10] = 200  # image 1: bright above
    images[3][:, :10] = 200  # image 3: bright on the left, and the surer error
    table = np.array(TABLE)
    table[3] = [0.9, 0.05, 0.05]
    places = {(0, 0): 0, (200, 0): 1, (200, 200): 3}

    def look(image):
        return places.get((int(image[0, 0]), int(image[-1, 0])), 0)

    split = labelled_split(LABELS, images=images)
    # Images 0 and 2 look alike, so both get row 0: only image 2 of them is wrong then.
    found = measure(table, split=split, look=look)
    plot_wrong_predictions(found, split, tmp_path / "w.png")
    picture(tmp_path / "w.png")
    figure = drawn_figures[0]
    written = [text.get_text() for text in figure.texts]
    assert written == [
        "3 of 4 images are wrong",
        "true: cat",
        "ant 0.90",
        "true: bee",
        "ant 0.70",
        "true: ant",
        "bee 0.50",
    ]
    first, _, third = (axis.images[0].get_array()[..., 0] for axis in figure.axes)
    assert first[:, :10].min() > 0 and first[:, 10:].max() == 0
    assert third[:10].min() > 0 and third[10:].max() == 0


@pytest.mark.parametrize("shape", [(30, 30), (30, 30, 1), (12, 40, 2), (60, 20, 3), (30, 30, 4), (30, 30, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_any_depth_and_number_of_channels_are_shown(tmp_path, monkeypatch, shape, dtype):
    found = measure()
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    monkeypatch.setattr(error_gallery, "read_image", lambda source: image)
    plot_wrong_predictions(found, labelled_split(LABELS), tmp_path / "w.png")
    assert picture(tmp_path / "w.png").shape[0] < 700


def test_of_many_errors_the_first_24_are_shown_and_captions_stay_apart(tmp_path, drawn_figures):
    names = ["a class of a very long name", "another class of a long name"]
    p = np.tile([0.2, 0.8], (40, 1))
    p[:, 1] += np.arange(40) / 1000
    found = measure(p, split=(split := labelled_split([0] * 40, names=names)), names=names)
    plot_wrong_predictions(found, split, tmp_path / "w.png")
    picture(tmp_path / "w.png")
    figure = drawn_figures[0]
    assert len(figure.axes) == 24
    assert figure.texts[0].get_text() == "40 of 40 images are wrong; the 24 most confident errors"
    assert figure.texts[2].get_text() == "another class o… 0.84"
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_of_several_labels_the_missed_and_the_added_are_told(tmp_path, drawn_figures):
    split = labelled_split([[0, 1], [2]])
    found = measure([[0.1, 0.3, 0.9], [0.0, 0.0, 1.0]], split=split, multi_label=True)
    plot_wrong_predictions(found, split, tmp_path / "w.png")
    assert [text.get_text() for text in drawn_figures[0].texts] == [
        "1 of 2 images are wrong (- missed, + added)",
        "- ant 0.10 (+1)",
        "+ cat 0.90",
    ]


def test_without_an_error_there_is_no_gallery(tmp_path):
    found = measure(np.eye(3)[LABELS])
    with pytest.raises(CellsError, match="no prediction is wrong"):
        plot_wrong_predictions(found, labelled_split(LABELS), tmp_path / "w.png")

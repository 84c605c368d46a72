"""Figures hold what they claim: values on curves, outlines on the right panels, 16 bits visible."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from segmentation_cases import FakePipe, instance_split, only_first_object_and_nothing_of_three

from hf_cells.errors import CellsError
from hf_cells.evaluation import figures, gallery
from hf_cells.evaluation.examples import Example, select_examples
from hf_cells.evaluation.scoring import precision_by_threshold
from hf_cells.evaluation.segmentation import evaluate_segmentation

HISTORY = """epoch,step,train_loss,validation_loss,learning_rate,validation_dsb_score,train_dsb_score
1,10,1.0,0.9,0.001,,0.2
2,20,0.8,0.7,0.0005,0.41,0.5
3,30,0.6,0.75,0.0001,0.523,0.6
4,40,0.5,0.8,0.00001,0.5,0.7
"""


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are saved, to read their texts."""
    kept = []
    save = figures.save_figure
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path))
    )
    return kept


def texts(figure):
    legends = [
        text.get_text() for axis in figure.axes if axis.get_legend() for text in axis.get_legend().texts
    ]
    return legends + [text.get_text() for axis in figure.axes for text in axis.texts]


def read(path):
    """The picture as (H, W, 3); it must be as wide as asked and no blank page."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] == 1350
    assert picture.std() > 5
    return picture


def share(picture, colour):
    """Share of pixels of this very colour."""
    wanted = np.array(to_rgb(colour)) * 255
    return float((np.abs(picture - wanted).max(axis=-1) <= 1).mean())


# ---------------------------------------------------------------- curves


def test_curves_name_the_best_value_and_its_epoch(tmp_path, drawn):
    (tmp_path / "history.csv").write_text(HISTORY)
    figures.plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    read(tmp_path / "curves.png")
    found = texts(drawn[0])
    assert "validation\nmin 0.700, epoch 2" in found
    assert "dsb_score\nmax 0.523, epoch 3" in found
    assert "dsb_score, train\nmax 0.700, epoch 4" in found
    assert {"0.700", "0.523"} <= set(found)  # on the curves themselves
    assert [axis.get_ylabel() for axis in drawn[0].axes] == ["loss", "validation metric", "learning rate"]


def test_an_epoch_without_validation_is_a_gap_and_no_zero(tmp_path, drawn):
    (tmp_path / "history.csv").write_text(HISTORY)
    figures.plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    line = next(line for line in drawn[0].axes[1].lines if str(line.get_label()).startswith("dsb_score\n"))
    assert line.get_xdata().tolist() == [2, 3, 4]


def test_the_most_telling_metrics_are_chosen_and_others_can_be_asked_for(tmp_path, drawn):
    names = ["pixel_accuracy", "dice_per_image", "dsb_score", "mean_iou", "count_mean_absolute_error"]
    head = "epoch,train_loss,validation_loss,learning_rate," + ",".join(f"validation_{n}" for n in names)
    (tmp_path / "h.csv").write_text(f"{head}\n1,1,1,0.1,.9,.8,.4,.7,5\n2,1,1,0.1,.9,.8,.5,.7,4\n")

    def shown(**arguments):
        figures.plot_curves(tmp_path / "h.csv", tmp_path / "c.png", **arguments)
        return [text.get_text().split("\n")[0] for text in drawn[-1].axes[1].get_legend().texts]

    assert shown() == ["dsb_score", "mean_iou", "dice_per_image"]
    assert shown(metrics=["pixel_accuracy"]) == ["pixel_accuracy"]
    with pytest.raises(CellsError, match="no column validation_f1"):
        shown(metrics=["f1"])


def test_one_epoch_without_metrics_can_be_drawn(tmp_path, drawn):
    (tmp_path / "h.csv").write_text("epoch,train_loss,validation_loss,learning_rate\n1,0.5,,0.1\n")
    figures.plot_curves(tmp_path / "h.csv", tmp_path / "c.png")
    assert drawn[0].axes[0].lines[0].get_marker() == "o"  # a line of one point shows nothing
    assert [axis.get_ylabel() for axis in drawn[0].axes] == ["loss", "learning rate"]


def test_a_run_without_validation_can_be_drawn(tmp_path, drawn):
    (tmp_path / "h.csv").write_text("epoch,train_loss,learning_rate\n1,0.5,0.1\n2,0.4,0.1\n")
    figures.plot_curves(tmp_path / "h.csv", tmp_path / "c.png")
    assert [len(axis.lines) for axis in drawn[0].axes] == [1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("epoch,validation_loss,learning_rate\n1,2,3\n", "no column train_loss"),
        ("epoch,train_loss,validation_loss,learning_rate\n", "no epoch yet"),
    ],
)
def test_a_history_that_cannot_be_drawn_is_named(tmp_path, text, message):
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CellsError, match=message) as raised:
        figures.plot_curves(path, tmp_path / "c.png")
    assert str(path) in str(raised.value)
    assert not (tmp_path / "c.png").exists()


# ---------------------------------------------------------------- strata and thresholds


def entry(value, ci, n):
    return {"value": value, "ci": ci, "n": n}


def test_strata_are_bars_with_intervals_and_the_whole_split_a_line(tmp_path, drawn):
    results = {
        "split": {"name": "test"},
        "metrics": {"pq": entry(0.1, None, 30), "dsb_score": entry(0.6, [0.55, 0.65], 30)},
        "strata": {
            "fluorescence": {"dsb_score": entry(0.7, [0.66, 0.74], 20)},
            "histology": {"dsb_score": entry(0.3, [0.2, 0.4], 9)},
            "brightfield": {"dsb_score": entry(None, None, 1)},
        },
    }
    figures.plot_score_by_stratum(results, tmp_path / "s.png")
    read(tmp_path / "s.png")
    axis = drawn[0].axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "brightfield (1)",
        "histology (9)",
        "fluorescence (20)",
    ]
    assert [bar.get_width() for bar in axis.patches[1:3]] == [0.3, 0.7]
    assert [list(line.get_xdata()) for line in axis.lines[1:3]] == [[0.2, 0.4], [0.66, 0.74]]
    assert {"n/a", "0.30", "0.70", "all 30 images: 0.60"} <= set(texts(drawn[0]))
    assert axis.get_xlabel().startswith("dsb_score, test split")


@pytest.mark.parametrize("strata", [None, {}, {"x": {"pq": entry(0.1, None, 1)}}])
def test_results_without_that_metric_by_stratum_are_refused(tmp_path, strata):
    results = {"split": {"name": "t"}, "metrics": {"dsb_score": entry(1, None, 1)}, "strata": strata}
    with pytest.raises(CellsError, match="no dsb_score by stratum"):
        figures.plot_score_by_stratum(results, tmp_path / "s.png")


def test_the_threshold_curve_holds_both_definitions_of_ap(tmp_path, drawn):
    pipe = FakePipe("instance_labels", only_first_object_and_nothing_of_three)
    evaluation = evaluate_segmentation(pipe, instance_split(), split_name="test", n_resamples=2)
    figures.plot_threshold_curve(precision_by_threshold(evaluation.statistics), tmp_path / "t.png")
    read(tmp_path / "t.png")
    pooled, by_image = drawn[0].axes[0].lines
    assert pooled.get_ydata() == pytest.approx([2 / 6] * 10)  # every match is exact
    assert by_image.get_ydata() == pytest.approx([0.5] * 10)
    assert {"0.33", "0.50"} <= set(texts(drawn[0]))
    with pytest.raises(CellsError, match="no thresholds"):
        figures.plot_threshold_curve([], tmp_path / "none.png")


# ---------------------------------------------------------------- examples


def squares(height, width, side=12):
    labels = np.zeros((height, width), np.int32)
    labels[4 : 4 + side, 4 : 4 + side] = 1
    labels[4 : 4 + side, 4 + side : 4 + 2 * side] = 2  # touches the first
    return labels


def test_truth_is_green_prediction_magenta_each_on_its_own_panel(tmp_path):
    labels = squares(40, 60)
    items = [
        Example(labels.astype(np.uint8) * 90, labels, labels, "worst: dsb_score 0.10"),
        Example(np.zeros((90, 30, 3), np.uint8), np.zeros((90, 30), int), np.zeros((90, 30), int), "empty"),
        Example(np.full((50, 50, 4), 7, np.uint8), squares(50, 50), squares(50, 50), "flat and with alpha"),
    ]
    figures.plot_segmentation_examples(items, tmp_path / "e.png")
    picture = read(tmp_path / "e.png")
    image, truth, prediction = (picture[:, 450 * k + 15 : 450 * k + 435] for k in range(3))
    assert share(image, gallery.TRUTH) == share(image, gallery.PREDICTION) == 0
    assert share(truth, gallery.TRUTH) > 0.003
    assert share(truth, gallery.PREDICTION) == 0
    assert share(prediction, gallery.PREDICTION) > 0.003
    assert share(prediction, gallery.TRUTH) == 0


def test_each_panel_draws_its_own_labels(tmp_path):
    labels, none = squares(40, 40), np.zeros((40, 40), np.int32)
    for truth, prediction in ((labels, none), (none, labels)):
        example = Example(np.zeros((40, 40), np.uint8), truth, prediction, "x")
        figures.plot_segmentation_examples([example], tmp_path / "e.png")
        picture = read(tmp_path / "e.png")
        assert (share(picture, gallery.TRUTH) > 0) == bool(truth.any())
        assert (share(picture, gallery.PREDICTION) > 0) == bool(prediction.any())


def test_touching_objects_have_a_line_between_them():
    view = np.zeros((40, 60, 3))
    drawn = gallery._outline(view, squares(40, 60), gallery.TRUTH)
    assert drawn[10, 15:17].any(axis=-1).all()  # columns 15 | 16 are the border
    assert not drawn[10, 10].any()


def test_outlines_survive_shrinking_and_enlarging(tmp_path):
    """A 2-pixel line in the figure, be the image 30 or 2000 pixels wide."""
    for width in (30, 2000):
        labels = np.zeros((width, width), np.int32)
        labels[width // 4 : width // 2, width // 4 : width // 2] = 1
        figures.plot_segmentation_examples(
            [Example(labels.astype(np.uint16), labels, labels, "x")], tmp_path / "e.png"
        )
        truth = read(tmp_path / "e.png")[:, 465:885]
        assert 0.003 < share(truth, gallery.TRUTH) < 0.02, width


def test_images_keep_their_proportions(tmp_path):
    """A square object in a tall image stays square."""
    labels = np.zeros((400, 100), np.int32)
    labels[40:80, 30:70] = 1
    figures.plot_segmentation_examples(
        [Example(labels.astype(np.uint8), labels, labels, "x")], tmp_path / "e.png"
    )
    green = np.abs(read(tmp_path / "e.png") - np.array(to_rgb(gallery.TRUTH)) * 255).max(axis=-1) <= 1
    rows, columns = np.nonzero(green)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)


def test_classes_are_filled_and_named(tmp_path):
    mask = np.zeros((30, 60), np.uint8)
    mask[:10], mask[10:20], mask[20:, :20] = 1, 2, 255
    names = ("background", "nucleus", "cytoplasm")
    example = Example(np.zeros((30, 60), np.uint8), mask, mask, "mean_iou 0.50", names)
    figures.plot_segmentation_examples([example], tmp_path / "e.png")
    picture = read(tmp_path / "e.png")
    for colour in ("#E69F00", "#56B4E9", "#9E9E9E"):
        blended = 0.65 * np.array(to_rgb(colour))  # over black
        assert share(picture, blended) > 0.03, colour


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(CellsError, match="no examples"):
        figures.plot_segmentation_examples([], tmp_path / "e.png")
    small, large = np.zeros((4, 4), int), np.zeros((8, 8), int)
    with pytest.raises(CellsError, match="prediction of 'odd' has shape"):
        figures.plot_segmentation_examples([Example(large, large, small, "odd")], tmp_path / "e.png")


def test_nothing_is_left_in_pyplot(tmp_path):
    import matplotlib.pyplot

    (tmp_path / "history.csv").write_text(HISTORY)
    figures.plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    assert matplotlib.pyplot.get_fignums() == []


def test_an_evaluation_becomes_a_figure(tmp_path):
    pipe = FakePipe("instance_labels", only_first_object_and_nothing_of_three)
    evaluation = evaluate_segmentation(pipe, instance_split(), split_name="test", n_resamples=2)
    figures.plot_segmentation_examples(
        select_examples(evaluation, pipe, instance_split()), tmp_path / "e.png"
    )
    assert read(tmp_path / "e.png").shape[0] > 3 * 400  # three square panels, one below the other

"""Figures of classifiers hold what they claim: counts, areas, bins, costs, and the right images in the gallery."""

import numpy as np
import pytest
from classification_cases import NAMES, FakeClassifier, drawn, labelled_split, softmax
from matplotlib.collections import PolyCollection
from PIL import Image

from hf_cells.errors import CellsError
from hf_cells.evaluation import (
    classification_figures,
    draw_figures,
    error_gallery,
    figures,
    threshold_figures,
)
from hf_cells.evaluation.classification import evaluate_classification
from hf_cells.evaluation.classification_figures import (
    draw_classification_figures,
    plot_class_balance,
    plot_confusion_matrices,
    plot_reliability,
)
from hf_cells.evaluation.error_gallery import plot_wrong_predictions
from hf_cells.evaluation.threshold_figures import plot_cost_curve, plot_ranking_curves
from hf_cells.metrics import expected_calibration_error, roc_auc

LABELS = [0, 0, 1, 2]
TABLE = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4]]
THRESHOLDS = {"ant": 0.6, "bee": 0.9, "cat": 0.3}


@pytest.fixture(autouse=True)
def drawn_figures(monkeypatch):
    """The figures as they are saved, to read what is in them."""
    kept = []

    def save(figure, path):
        kept.append(figure)
        figures.save_figure(figure, path)

    for module in (classification_figures, error_gallery, threshold_figures):
        monkeypatch.setattr(module, "save_figure", save)
    return kept


def measure(table=TABLE, labels=LABELS, split=None, **arguments):
    pipe = FakeClassifier(table, **arguments)
    split = labelled_split(labels) if split is None else split
    return evaluate_classification(pipe, split, split_name="test", n_resamples=2)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def picture(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape[1] == 1350
    assert pixels.std() > 5
    return pixels


# ---------------------------------------------------------------- confusion


def test_the_matrices_before_and_after_thresholds_hold_their_counts(tmp_path, drawn_figures):
    plot_confusion_matrices(measure(decision_thresholds=THRESHOLDS), tmp_path / "c.png")
    picture(tmp_path / "c.png")
    before, after, bar = drawn_figures[0].axes
    assert before.images[0].get_array().tolist() == [[0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]]
    assert texts(before) == ["1", "1", "1", "1"]  # zeros are left blank
    assert after.images[0].get_array().tolist() == np.eye(3).tolist()
    assert texts(after) == ["2", "1", "1"]
    assert before.get_title() == "argmax\naccuracy 0.500, mean class accuracy 0.500"
    assert after.get_title() == "with thresholds\naccuracy 1.000, mean class accuracy 1.000"
    assert [label.get_text() for label in before.get_yticklabels()] == NAMES
    assert bar.get_ylabel() == "share of the true class"


def test_without_thresholds_there_is_one_matrix(tmp_path, drawn_figures):
    plot_confusion_matrices(measure(), tmp_path / "c.png")
    assert [axis.get_title().split("\n")[0] for axis in drawn_figures[0].axes] == ["argmax", ""]


def test_twenty_classes_are_stacked_and_nothing_overlaps(tmp_path, drawn_figures):
    names = [f"a long class name {index}" for index in range(20)]
    labels, logits = drawn(400, np.ones(20), 2.0)
    split = labelled_split(labels.tolist(), names=names, images=[np.zeros((2, 2), np.uint8)] * 400)
    order = iter(range(400))
    found = evaluate_classification(
        FakeClassifier(
            softmax(logits), names, look=lambda image: next(order), decision_thresholds={names[0]: 0.5}
        ),
        split,
        split_name="test",
        n_resamples=2,
    )
    plot_confusion_matrices(found, tmp_path / "c.png")
    pixels = picture(tmp_path / "c.png")
    assert pixels.shape[0] > pixels.shape[1]
    before, after, _ = drawn_figures[0].axes
    renderer = drawn_figures[0].canvas.get_renderer()
    cell = before.get_window_extent().width / 20
    assert all(text.get_window_extent(renderer).width < cell for text in before.texts)
    assert before.get_tightbbox(renderer).y0 > after.get_window_extent().y1


def test_a_matrix_is_refused_for_several_labels(tmp_path):
    found = measure(np.eye(3)[LABELS], multi_label=True)
    with pytest.raises(CellsError, match="one label an image"):
        plot_confusion_matrices(found, tmp_path / "c.png")


# ---------------------------------------------------------------- reliability


def test_bars_are_the_share_that_is_right_in_each_bin(tmp_path, drawn_figures):
    found = measure()  # top probabilities .7 right, .5 wrong, .8 right, .5 wrong
    plot_reliability(found, tmp_path / "r.png")
    picture(tmp_path / "r.png")
    upper, lower = drawn_figures[0].axes
    bars = {round(bar.get_x() * 15): bar.get_height() for bar in upper.patches}
    assert bars == {7: 0.0, 10: 1.0, 11: 1.0}
    assert [bar.get_height() for bar in lower.patches][7:12] == [2, 0, 0, 1, 1]
    error = expected_calibration_error([0.7, 0.5, 0.8, 0.5], [1, 0, 1, 0])
    assert drawn_figures[0].get_suptitle() == f"expected calibration error {error:.3f}"


def test_reliability_of_several_labels_counts_every_pair(tmp_path, drawn_figures):
    plot_reliability(measure(np.eye(3)[LABELS] * 0.8 + 0.1, multi_label=True), tmp_path / "r.png")
    upper, lower = drawn_figures[0].axes
    assert sum(bar.get_height() for bar in lower.patches) == 12
    assert upper.get_ylabel() == "share of images with it"


# ---------------------------------------------------------------- curves over thresholds


def test_curves_carry_their_areas(tmp_path, drawn_figures):
    labels, logits = drawn(300, [1, 1, 1], 1.0)
    p = softmax(logits)
    plot_ranking_curves(np.eye(3)[labels], p, NAMES, tmp_path / "k.png")
    picture(tmp_path / "k.png")
    roc, recalled = drawn_figures[0].axes
    for k, name in enumerate(NAMES):
        label = roc.lines[k].get_label()
        area = roc_auc(labels == k, p[:, k])
        assert label.startswith(f"{name}  {area:.3f} / ")
        fpr, tpr = roc.lines[k].get_data()
        assert np.trapezoid(tpr, fpr) == pytest.approx(area)
        assert (np.diff(recalled.lines[k].get_xdata()) > 0).all()
    assert roc.get_xlabel() == "false positive rate"  # and not enlarged


def test_a_crowded_corner_is_enlarged_and_says_so(tmp_path, drawn_figures):
    labels, logits = drawn(300, [1, 1, 1], 5.0)
    plot_ranking_curves(np.eye(3)[labels], softmax(logits), NAMES, tmp_path / "k.png")
    roc, recalled = drawn_figures[0].axes
    assert roc.get_xlim()[1] < 0.06 and roc.get_ylim()[0] > 0.94
    assert roc.get_xlabel() == "false positive rate (enlarged)"
    assert recalled.get_ylabel() == "precision (enlarged)"


def test_an_area_below_one_is_not_rounded_to_one():
    assert [threshold_figures._area(value) for value in (1.0, 0.99951, 0.9994, 0.5)] == [
        "1.000",
        ">0.999",
        "0.999",
        "0.500",
    ]


def test_of_two_classes_one_is_drawn_and_classes_without_a_counterpart_are_not(tmp_path, drawn_figures):
    labels, logits = drawn(100, [1, 1], 1.0)
    plot_ranking_curves(np.eye(2)[labels], softmax(logits), NAMES[:2], tmp_path / "k.png")
    assert [line.get_label().split()[0] for line in drawn_figures[0].axes[0].lines[:1]] == ["bee"]
    targets = np.eye(3)[labels]
    plot_ranking_curves(targets, np.column_stack([softmax(logits), np.zeros(100)]), NAMES, tmp_path / "k.png")
    named = [line.get_label().split()[0] for line in drawn_figures[1].axes[0].lines[:2]]
    assert named == ["ant", "bee"]
    with pytest.raises(CellsError, match="no class has images both of it and of others"):
        plot_ranking_curves(np.eye(3)[[0, 0]], np.eye(3)[[0, 1]], NAMES, tmp_path / "none.png")


def test_the_cost_curve_lies_below_every_decision(tmp_path, drawn_figures):
    labels, logits = drawn(400, [3, 1], 1.5)
    p = softmax(logits)[:, 1]
    decisions = {"argmax": p >= 0.5, "with thresholds": p >= 0.2}
    plot_cost_curve(labels == 1, p, decisions, "ill", tmp_path / "c.png")
    picture(tmp_path / "c.png")
    axis = drawn_figures[0].axes[0]
    lines = {line.get_label(): line.get_data() for line in axis.lines}
    x, best = lines["best threshold for each place"]
    blind = lines["always or never"][1]
    assert (best <= blind + 1e-12).all()
    for name, decided in decisions.items():
        alarm, miss = decided[labels == 0].mean(), (~decided)[labels == 1].mean()
        assert lines[name][1] == pytest.approx([alarm, miss])
        assert (best <= alarm + (miss - alarm) * x + 1e-12).all()
    share = (labels == 1).mean()
    assert lines["this split, equal costs"][0] == pytest.approx([share, share])
    # There, the best threshold's cost is the lowest error rate that any threshold has.
    errors = [((p >= t) != labels).mean() for t in [*np.unique(p), 2]]
    assert best[np.argmin(np.abs(x - share))] == pytest.approx(min(errors), abs=2e-3)
    assert any(isinstance(item, PolyCollection) for item in axis.collections)
    with pytest.raises(CellsError, match="needs images of ill and of others"):
        plot_cost_curve(np.ones(3), np.ones(3), {}, "ill", tmp_path / "none.png")


# ---------------------------------------------------------------- balance


def test_class_balance_names_counts_and_shares(tmp_path, drawn_figures):
    counts = {"train": np.array([30, 10, 0]), "test": np.array([3, 1, 4])}
    plot_class_balance(counts, NAMES, tmp_path / "b.png")
    picture(tmp_path / "b.png")
    axis = drawn_figures[0].axes[0]
    assert [bar.get_width() for bar in axis.patches] == [30, 10, 0, 3, 1, 4]
    assert texts(axis) == [
        "30 (75.0%)",
        "10 (25.0%)",
        "0 (0.0%)",
        "3 (37.5%)",
        "1 (12.5%)",
        "4 (50.0%)",
    ]
    assert [text.get_text() for text in axis.get_legend().texts] == ["train (40)", "test (8)"]


# ---------------------------------------------------------------- gallery


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
    assert figure.texts[2].get_text() == "another class of… 0.84"[:21] or figure.texts[2].get_text().endswith("0.84")
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
    draw_classification_figures(found, labelled_split(LABELS), tmp_path / "figures")
    assert not (tmp_path / "figures/wrong_predictions.png").exists()


# ---------------------------------------------------------------- all of them

ALL = {
    "confusion_matrix.png",
    "reliability.png",
    "ranking_curves.png",
    "cost_curve.png",
    "class_balance.png",
    "wrong_predictions.png",
}


def test_every_figure_is_drawn(tmp_path, drawn_figures):
    split = labelled_split(LABELS, stratum=["dim", "dim", "bright", "bright"])
    found = measure(split=split, decision_thresholds={"ant": 0.9})
    splits = {"train": labelled_split([0, 1, 1]), "test": split}
    draw_figures(found, None, split, tmp_path / "figures", splits=splits)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == ALL | {"by_stratum.png"}
    balance = next(f for f in drawn_figures if "share of the split" in f.axes[0].get_xlabel())
    assert [bar.get_width() for bar in balance.axes[0].patches] == [1, 2, 0, 2, 1, 1]
    cost = next(f for f in drawn_figures if "cost" in f.axes[0].get_xlabel())
    assert {line.get_label() for line in cost.axes[0].lines} >= {"argmax", "with thresholds"}
    assert "cost of cat" in cost.axes[0].get_xlabel()  # never found: the lowest recall


def test_every_figure_of_several_labels_is_drawn(tmp_path):
    split = labelled_split([[0, 1], [1], [2], []])
    found = measure([[0.9, 0.6, 0.1], [0.2, 0.7, 0.3], [0.4, 0.4, 0.4], [0, 0, 0.1]], split=split, multi_label=True)
    draw_classification_figures(found, split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ALL - {"confusion_matrix.png"}


def test_a_split_of_one_class_is_drawn_as_far_as_it_goes(tmp_path):
    split = labelled_split([0, 0, 0, 0])
    draw_classification_figures(measure(split=split), split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ALL - {"ranking_curves.png", "cost_curve.png"}


def test_copies_of_other_splits_alone_make_no_figure_by_stratum(tmp_path):
    split = labelled_split(LABELS)
    found = evaluate_classification(
        FakeClassifier(TABLE), split, split_name="test", n_resamples=2, copies=["image-0"]
    )
    draw_classification_figures(found, split, tmp_path)
    assert not (tmp_path / "by_stratum.png").exists()


def test_curves_of_a_training_know_accuracy_with_its_counterpart_in_training(tmp_path, monkeypatch):
    kept = []
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path)))
    (tmp_path / "history.csv").write_text(
        "epoch,train_loss,validation_loss,learning_rate,train_accuracy,validation_accuracy,"
        "validation_mean_class_accuracy,validation_log_loss\n"
        "1,1.0,0.9,0.001,0.5,0.6,0.55,0.9\n2,0.8,0.7,0.001,0.8,0.7,0.65,0.7\n3,0.5,0.8,0.001,0.9,0.68,0.66,0.8\n"
    )
    figures.plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    legend = [text.get_text() for text in kept[0].axes[1].get_legend().texts]
    assert legend == [
        "mean_class_accuracy\nmax 0.660, epoch 3",
        "accuracy, train\nmax 0.900, epoch 3",
        "accuracy\nmax 0.700, epoch 2",
    ]

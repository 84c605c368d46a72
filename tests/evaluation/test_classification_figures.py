"""Figures of classifiers hold what they claim: counts, bins, shares, and which figures there are."""

import numpy as np
import pytest
from classification_cases import (
    LABELS,
    NAMES,
    TABLE,
    THRESHOLDS,
    FakeClassifier,
    drawn,
    labelled_split,
    measure,
    picture,
    softmax,
    texts,
)

from hf_cells.errors import CellsError
from hf_cells.evaluation import draw_figures, figures
from hf_cells.evaluation.classification import evaluate_classification
from hf_cells.evaluation.classification_figures import (
    draw_classification_figures,
    plot_class_balance,
    plot_confusion_matrices,
    plot_reliability,
)
from hf_cells.metrics import expected_calibration_error

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
    # Top probabilities .7 right, .5 wrong, .78 right, .5 wrong.
    found = measure([*TABLE[:2], [0.11, 0.78, 0.11], TABLE[3]])
    plot_reliability(found, tmp_path / "r.png")
    picture(tmp_path / "r.png")
    upper, lower = drawn_figures[0].axes
    bars = {round(bar.get_x() * 15): bar.get_height() for bar in upper.patches}
    assert bars == {7: 0.0, 10: 1.0, 11: 1.0}
    assert [bar.get_height() for bar in lower.patches][7:12] == [2, 0, 0, 1, 1]
    error = expected_calibration_error([0.7, 0.5, 0.78, 0.5], [1, 0, 1, 0])
    assert drawn_figures[0].get_suptitle() == f"expected calibration error {error:.3f}"


def test_reliability_of_several_labels_counts_every_pair(tmp_path, drawn_figures):
    plot_reliability(measure(np.eye(3)[LABELS] * 0.8 + 0.1, multi_label=True), tmp_path / "r.png")
    upper, lower = drawn_figures[0].axes
    assert sum(bar.get_height() for bar in lower.patches) == 12
    assert upper.get_ylabel() == "share of images with it"


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


# ---------------------------------------------------------------- all of them

ALL = {
    "confusion_matrix.png",
    "reliability.png",
    "ranking_curves.png",
    "cost_curve.png",
    "class_balance.png",
    "wrong_predictions.png",
}


def test_every_figure_is_drawn(tmp_path, drawn_figures, coarse):
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


def test_every_figure_of_several_labels_is_drawn(tmp_path, coarse):
    split = labelled_split([[0, 1], [1], [2], []])
    found = measure(
        [[0.9, 0.6, 0.1], [0.2, 0.7, 0.3], [0.4, 0.4, 0.4], [0, 0, 0.1]], split=split, multi_label=True
    )
    draw_classification_figures(found, split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ALL - {"confusion_matrix.png"}


def test_a_split_of_one_class_is_drawn_as_far_as_it_goes(tmp_path, coarse):
    split = labelled_split([0, 0, 0, 0])
    draw_classification_figures(measure(split=split), split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ALL - {"ranking_curves.png", "cost_curve.png"}


def test_what_there_is_nothing_to_show_of_is_left_out(tmp_path, coarse):
    """No wrong prediction, and copies of other splits alone are no strata beside each other."""
    split = labelled_split(LABELS)
    found = evaluate_classification(
        FakeClassifier(np.eye(3)[LABELS]), split, split_name="test", n_resamples=2, copies=["image-0"]
    )
    draw_classification_figures(found, split, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ALL - {"wrong_predictions.png"}


def test_curves_of_a_training_know_accuracy_with_its_counterpart_in_training(tmp_path, monkeypatch):
    kept = []
    save = figures.save_figure
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, path: (kept.append(figure), save(figure, path))
    )
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

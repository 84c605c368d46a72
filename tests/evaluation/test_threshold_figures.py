"""Curves over all thresholds: areas, enlarged corners, and costs below those of every decision."""

import numpy as np
import pytest
from classification_cases import NAMES, drawn, picture, softmax
from matplotlib.collections import PolyCollection

from hf_cells.errors import CellsError
from hf_cells.evaluation import threshold_figures
from hf_cells.evaluation.threshold_figures import plot_cost_curve, plot_ranking_curves
from hf_cells.metrics import roc_auc


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

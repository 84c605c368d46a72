"""The weak-label experiment measures what it says: on drawn fields by hand, and once in whole at its smallest."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def experiment(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import hpa_weak_labels

    yield hpa_weak_labels
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def judged(experiment, classes, cell_scores, image_scores, antibody):
    """A field of cells of 4 x 4 pixels in a row, found exactly, but for the last one, which is missed."""
    from hf_cells.inference.hpa_fields import FieldCells

    true = np.repeat(np.repeat([[*range(1, len(classes) + 1)]], 4, 0), 4, 1).astype(np.int32)
    found = np.where(true == len(classes), 0, true)
    scores, image = np.full((len(classes) - 1, 19), 0.01), np.full(19, 0.01)
    scores[:, :2], image[:2] = cell_scores, image_scores
    cells = FieldCells(found, scores, image, scores, scores > 0.5)
    return experiment.Judged(cells, true, classes, antibody)


def test_a_missed_cell_costs_recall_and_each_method_has_its_own_order(experiment):
    """Labels 0 and 1 in three cells, two of them found: the best average precision is 2/3 and 1."""
    right = [[0.9, 0.1], [0.1, 0.9]]
    one = judged(experiment, [(0,), (1,), (0,)], right, [0.6, 0.4], "x")
    two = judged(experiment, [(1,), (1,), (1,)], [[0.2, 0.8], [0.2, 0.8]], [0.1, 0.9], "y")
    made = experiment.measure([one, two], seed=0)
    cell, image = made[experiment.CELL], made[experiment.IMAGE]
    assert cell["average_precision"]["Nucleoplasm"] == pytest.approx(1 / 2)  # one of two cells found
    assert cell["average_precision"]["Nuclear membrane"] == pytest.approx(3 / 4)
    assert cell["cell_map"] == pytest.approx(1)
    assert image["cell_map"] < 1 and made[experiment.FUSION]["cell_map"] == pytest.approx(1)
    assert experiment.matched(one).tolist() == [[1, 1], [2, 2]]
    assert made[experiment.TOGETHER]["cell_map"] == pytest.approx(1)
    alike = experiment.measure([one], seed=0)
    for method, other in experiment.COMPARED:  # every draw is the one antibody
        gain = alike[method]["challenge_map"] - alike[other]["challenge_map"]
        assert alike[method]["gain_interval"][other] == pytest.approx([gain, gain])


def test_the_experiment_runs(experiment, tmp_path, capsys):
    tiny = experiment.Size(12, 3, 128, 3, (4, 8), 16, 1, 64, 16, 1)
    results = experiment.run(tmp_path / "out", tiny)
    experiment.print_results(results)
    shown = capsys.readouterr().out
    for name in experiment.METHODS:
        assert name in shown and 0 <= results["methods"][name]["challenge_map"] <= 1
    assert results["fields"] in (6, 9)
    (tmp_path / "out" / "results.json").unlink()
    assert experiment.run(tmp_path / "out", tiny) == results  # what is done is not done again

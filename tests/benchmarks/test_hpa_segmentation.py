"""The comparison of segmentation engines counts what it says, and runs at its smallest."""

import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def comparison(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import hpa_segmentation

    return hpa_segmentation


def test_merged_objects_hold_most_of_two_true_ones(comparison):
    true = np.zeros((10, 30), np.int32)
    true[:, :9], true[:, 10:19], true[:, 20:] = 1, 2, 3
    found = np.zeros_like(true)
    found[:, :19], found[:, 20:] = 1, 2
    assert comparison.count_merged(true, found) == 1
    found[:, 4:13] = 3  # most of 1 and some of 2, so no object has most of both
    assert comparison.count_merged(true, found) == 0
    assert comparison.count_merged(true, np.zeros_like(true)) == 0


def test_the_comparison_runs(comparison, tmp_path, capsys):
    engines = {"classical": comparison.Settings()}
    looks = ["usual", "noise x 4"]
    results = comparison.run(tmp_path, engines, looks, n_fields=1, side=128)
    assert list(results["classical"]) == [*looks, "all"]
    every = results["classical"]["all"]
    assert every["cell_true"] == sum(results["classical"][look]["cell_true"] for look in looks)
    assert 0 <= every["cell_ap50"] <= 1 and every["seconds_a_field"] > 0
    assert json.loads((tmp_path / "results.json").read_text()) == results
    comparison.print_figures("classical", results["classical"])
    assert "noise x 4" in capsys.readouterr().out
    again = comparison.run(tmp_path, engines, looks, n_fields=1, side=128)
    assert again["classical"]["all"] == {**every, "seconds_a_field": None}
    comparison.print_figures("classical", again["classical"])


def test_cell_lines_are_not_in_the_recipes_when_they_are_unseen(comparison):
    from hf_cells.simulate.hpa_culture import LINES
    from hf_cells.training.recipe import load_recipe

    for name in ("hpa_nuclei", "hpa_whole_cells"):
        simulated = load_recipe(name)["data"]["simulate"]
        assert tuple(simulated["looks"]) == comparison.LEARNT and simulated.get("seed") != comparison.SEED
    assert sorted(comparison.LEARNT + comparison.UNSEEN) == sorted(LINES)

"""Coordinate search over decoding thresholds."""

import math

import pytest

from hf_cells.evaluation.tuning import choose_thresholds

CANDIDATES = {"foreground": [0.5, 0.3, 0.4, 0.6], "seed": [0.7, 0.5, 0.6, 0.8]}


def test_finds_the_best_setting_when_the_thresholds_interact():
    def score(setting):
        # The best foreground is 0.4 beside seed 0.7 and 0.3 beside seed 0.6, so one sweep will not do.
        foreground, seed = setting["foreground"], setting["seed"]
        return -0.5 * (seed - foreground - 0.2) ** 2 - (foreground - 0.3) ** 2

    chosen, value = choose_thresholds(CANDIDATES, score)
    assert chosen == {"foreground": 0.3, "seed": 0.5}
    assert value == pytest.approx(0)


def test_ties_keep_the_default():
    assert choose_thresholds(CANDIDATES, lambda setting: 1.0) == ({"foreground": 0.5, "seed": 0.7}, 1.0)


def test_equal_improvements_keep_the_first():
    chosen, _ = choose_thresholds({"t": [1, 2, 3]}, lambda setting: float(setting["t"] > 1))
    assert chosen == {"t": 2}


def test_no_setting_is_scored_twice_and_the_order_is_fixed():
    calls = []

    def score(setting):
        calls.append(tuple(setting.values()))
        return -abs(setting["foreground"] - 0.4)

    choose_thresholds(CANDIDATES, score)
    first = list(calls)
    assert len(first) == len(set(first))
    assert first[0] == (0.5, 0.7)
    calls.clear()
    choose_thresholds(CANDIDATES, score)
    assert calls == first


def test_nan_is_worst():
    chosen, value = choose_thresholds({"t": [1, 2]}, lambda setting: math.nan if setting["t"] == 1 else -5.0)
    assert (chosen, value) == ({"t": 2}, -5.0)


def test_nothing_to_tune_scores_once():
    assert choose_thresholds({}, lambda setting: 0.25) == ({}, 0.25)


def test_a_threshold_without_candidates_is_named():
    with pytest.raises(ValueError, match="'seed' has no candidates"):
        choose_thresholds({"seed": []}, lambda setting: 0.0)

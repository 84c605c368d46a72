"""Bootstrap intervals: coverage, clusters, degenerate cases."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.evaluation.bootstrap import bootstrap_intervals
from hf_cells.metrics import aggregate_instances, score_instances


def mean(rows):
    return {"mean": float(np.mean(rows))}


def width(interval):
    return interval[1] - interval[0]


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_intervals(rng.normal(3, 1, 50).tolist(), mean, n_resamples=200, seed=trial)[
            "mean"
        ]
        covered += low <= 3 <= high
    assert 0.89 <= covered / 200 <= 0.985  # 4 standard errors around 0.94, the percentile method's at n = 50


def test_the_interval_equals_the_textbook_one_for_a_large_sample():
    rows = np.random.default_rng(1).normal(0, 1, 900)
    low, high = bootstrap_intervals(rows.tolist(), mean, n_resamples=1000)["mean"]
    half = 1.96 * rows.std() / 30
    assert low == pytest.approx(rows.mean() - half, abs=0.01)
    assert high == pytest.approx(rows.mean() + half, abs=0.01)


def test_clustered_images_give_the_wider_interval_that_they_deserve():
    """20 specimens of 10 nearly equal images hold 20 observations: sqrt(10) = 3.2 times wider."""
    rng = np.random.default_rng(2)
    rows = (np.repeat(rng.normal(0, 1, 20), 10) + rng.normal(0, 0.01, 200)).tolist()
    groups = np.repeat(np.arange(20), 10).tolist()
    naive = bootstrap_intervals(rows, mean, n_resamples=500)["mean"]
    clustered = bootstrap_intervals(rows, mean, n_resamples=500, groups=groups)["mean"]
    assert 2.6 < width(clustered) / width(naive) < 3.8


def test_rows_without_a_group_are_drawn_one_by_one():
    rows = np.random.default_rng(3).normal(0, 1, 30).tolist()
    alone = bootstrap_intervals(rows, mean, groups=[None] * 30)
    assert alone == bootstrap_intervals(rows, mean)
    # One group beside single rows: 3 units, so an interval exists.
    assert bootstrap_intervals([1.0, 2.0, 3.0, 3.0], mean, groups=[None, None, "x", "x"])["mean"] is not None


def test_groups_stay_whole_in_every_resample():
    rows = [("x", 1), ("x", 2), ("y", 3), ("y", 4), ("y", 5), ("z", 6)]
    sizes = {"x": 2, "y": 3, "z": 1}

    def check(sample):
        for group, size in sizes.items():
            members = sorted(value for name, value in sample if name == group)
            times = len(members) // size
            assert members == sorted([value for name, value in rows if name == group] * times)
        return {"n": len(sample)}

    low, high = bootstrap_intervals(rows, check, groups=[name for name, _ in rows], n_resamples=200)["n"]
    assert low < 6 < high


@pytest.mark.parametrize(("rows", "groups"), [([1.0], None), ([1.0, 2.0, 3.0], ["s", "s", "s"])])
def test_one_unit_has_no_interval(rows, groups):
    assert bootstrap_intervals(rows, mean, groups=groups) == {"mean": None}


def test_no_rows_have_no_intervals():
    assert bootstrap_intervals([], mean, keys=["mean"]) == {"mean": None}


def test_values_that_are_not_finite_are_left_out_and_mostly_undefined_is_none():
    def aggregate(rows):
        missing = rows.count(0)
        return {
            "rarely": math.nan if missing == 0 else float(np.mean(rows)),
            "mostly": 1.0 if missing == 0 else math.nan,
            "never": None,
            "table": {"a": 1},
        }

    rows = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]  # a resample without any 0: 0.6 ** 10 = 0.6 %
    intervals = bootstrap_intervals(rows, aggregate, n_resamples=400, keys=["rarely", "mostly", "never"])
    low, high = intervals["rarely"]
    assert 0 < low < high <= 1
    assert intervals["mostly"] is None
    assert intervals["never"] is None
    assert "table" not in bootstrap_intervals(rows, aggregate, n_resamples=2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_equal_seeds_give_equal_intervals_inside_the_range_of_the_rows(rows, seed):
    first = bootstrap_intervals(rows, mean, n_resamples=50, seed=seed)
    assert first == bootstrap_intervals(rows, mean, n_resamples=50, seed=seed)
    low, high = first["mean"]
    margin = 1e-9 * max(1.0, *map(abs, rows))
    assert min(rows) - margin <= low <= high <= max(rows) + margin


def test_higher_confidence_is_wider():
    rows = np.random.default_rng(4).normal(0, 1, 40).tolist()
    narrow = bootstrap_intervals(rows, mean, confidence=0.5)["mean"]
    wide = bootstrap_intervals(rows, mean, confidence=0.99)["mean"]
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_many_rows_lower_the_number_of_resamples():
    calls = []

    def count(rows):
        calls.append(len(rows))
        return {"n": len(rows)}

    bootstrap_intervals([0] * 4000, count, keys=["n"])
    assert len(calls) == 250
    calls.clear()
    bootstrap_intervals([0] * 20_000, count, keys=["n"])
    assert len(calls) == 200
    calls.clear()
    bootstrap_intervals([0] * 4000, count, keys=["n"], n_resamples=300, max_row_visits=10_000_000)
    assert len(calls) == 300


def test_a_thousand_resamples_of_a_dsb_test_split_are_quick():
    rng = np.random.default_rng(5)
    rows = [score_instances(rng.integers(0, 4, (8, 8)), rng.integers(0, 4, (8, 8))) for _ in range(130)]
    begun = time.perf_counter()
    intervals = bootstrap_intervals(rows, aggregate_instances)
    assert time.perf_counter() - begun < 5  # 0.3 s on two cores
    assert intervals["dsb_score"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["a"]}, "one group per row"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"n_resamples": 0}, "1 or more"),
    ],
)
def test_wrong_arguments_say_what_is_wanted(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals([1.0, 2.0], mean, **arguments)

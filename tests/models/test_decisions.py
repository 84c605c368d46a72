"""From probabilities to labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.models import decide

TWO = {0: "healthy", 1: "ill"}
THREE = {0: "a", 1: "b", 2: "c"}
QUIET = settings(max_examples=60, deadline=None, derandomize=True)
logits = st.lists(st.floats(-8, 8), min_size=2, max_size=2)


def binary(threshold: float) -> dict[str, float]:
    return {"healthy": 1 - threshold, "ill": threshold}


@QUIET
@given(st.lists(logits, min_size=1, max_size=20), st.floats(0.001, 0.999))
def test_two_classes_are_cut_at_the_threshold(rows, threshold):
    probabilities = torch.tensor(rows).softmax(1).numpy()
    found = decide(probabilities, binary(threshold), TWO, False)
    np.testing.assert_array_equal(found, probabilities[:, 1].astype(np.float64) >= threshold)


@QUIET
@given(st.lists(logits, min_size=2, max_size=20), st.integers(0, 19))
def test_a_threshold_that_is_a_probability_is_reached(rows, place):
    """In float32, p and 1 - p need not add up to one; the cut must not hang on that."""
    probabilities = torch.tensor(rows).softmax(1).numpy()
    threshold = float(probabilities[place % len(rows), 1])
    if not 0 < threshold < 1:
        return
    found = decide(probabilities, binary(threshold), TWO, False)
    np.testing.assert_array_equal(found, probabilities[:, 1].astype(np.float64) >= threshold)
    assert found[place % len(rows)] == 1


def test_without_thresholds_the_best_wins_and_the_first_of_a_tie():
    rows = [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [1 / 3] * 3]
    for none in (None, {}):
        found = decide(rows, none, THREE, False)
        assert found.tolist() == [1, 0, 0]
        assert found.dtype == np.int64
    assert decide([[0.5, 0.5]], None, TWO, False).tolist() == [0]
    assert decide([[0.5, 0.5]], binary(0.5), TWO, False).tolist() == [1]


def test_several_classes_by_the_largest_ratio():
    rows = [[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [0.3, 0.3, 0.4]]
    assert decide(rows, {"a": 1.0, "b": 0.5, "c": 1.0}, THREE, False).tolist() == [1, 0, 1]
    assert decide(rows, {"c": 0.25}, THREE, False).tolist() == [2, 2, 2]
    # 0.6 / 0.6 against 0.3 / 0.3: the later one
    assert decide([[0.6, 0.1, 0.3]], {"a": 0.6, "c": 0.3}, THREE, False).tolist() == [2]
    assert 0.3 / 0.9 < 0.1 / 0.3  # equal but for rounding, which must not undo the tie
    assert decide([[0.1, 0.6, 0.3]], {"a": 0.3, "b": 9.0, "c": 0.9}, THREE, False).tolist() == [2]


@QUIET
@given(st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), min_size=1, max_size=8), st.floats(0.1, 9))
def test_only_ratios_of_thresholds_matter(rows, factor):
    values = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    chosen = {"a": 0.5, "b": 0.3, "c": 0.2}
    scaled = {name: value * factor for name, value in chosen.items()}
    np.testing.assert_array_equal(decide(values, chosen, THREE, False), decide(values, scaled, THREE, False))


def test_names_decide_not_the_order_of_the_thresholds():
    rows = [[0.5, 0.3, 0.2]]
    names = {2: "c", 0: "a", 1: "b"}  # as a JSON file may order them, with keys that may be text
    assert decide(rows, {"c": 0.1, "a": 1.0}, names, False).tolist() == [2]
    assert decide(rows, {"c": 0.1}, {"2": "c", "0": "a", "1": "b"}, False).tolist() == [2]
    many = {str(k): f"class {k}" for k in range(12)}  # "10" before "2" as text
    assert decide(np.eye(12), {"class 10": 0.9}, many, False).tolist() == list(range(12))


def test_several_labels():
    rows = np.array([[0.5, 0.49999, 0.9], [0.1, 0.3, 0.7]], np.float32)
    found = decide(rows, None, THREE, True)
    assert found.dtype == bool
    assert found.tolist() == [[True, False, True], [False, False, True]]
    chosen = {"b": 0.3, "c": 0.95}
    assert decide(rows.astype(np.float64), chosen, THREE, True).tolist() == [
        [True, True, False],
        [False, bool(float(rows[1, 1]) >= 0.3), False],
    ]
    assert decide([[0.25, 0.3]], {"healthy": 0.25}, TWO, True).tolist() == [[True, False]]  # reached


def test_no_images():
    assert decide(np.zeros((0, 3)), {"a": 0.5}, THREE, False).shape == (0,)
    assert decide(np.zeros((0, 3)), None, THREE, False).shape == (0,)
    assert decide(np.zeros((0, 3)), None, THREE, True).shape == (0, 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_wrong_thresholds(multi_label):
    with pytest.raises(ValueError, match="decision_thresholds names 'd'; the labels are a, b, c"):
        decide(np.eye(3), {"d": 0.5}, THREE, multi_label)
    for wrong in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="decision_thresholds must be above 0"):
            decide(np.eye(3), {"a": wrong}, THREE, multi_label)

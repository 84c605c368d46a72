"""Thresholds: better than without on new images too, exact where a number is asked for, unmoved without need."""

import numpy as np
import pytest
from classification_cases import NAMES, drawn, softmax
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.errors import CellsError
from hf_cells.evaluation.decisions import choose_decision_thresholds
from hf_cells.metrics import decision_metrics
from hf_cells.models.decisions import decide

PAIR = ["healthy", "ill"]


def decided(probabilities, thresholds, names, multi_label=False):
    return decide(probabilities, thresholds, dict(enumerate(names)), multi_label)


def mean_class_accuracy(labels, probabilities, thresholds, names):
    return decision_metrics(labels, decided(probabilities, thresholds, names), names)["mean_class_accuracy"]


def binary(count, share, seed, separation=2.5):
    """Calibrated probabilities of two classes."""
    labels, logits = drawn(count, [1 - share, share], separation, seed)
    return labels, softmax(logits)


# ---------------------------------------------------------------- balanced


@pytest.mark.parametrize(("count", "least"), [(60, -0.005), (200, 0.005), (2000, 0.02)])
def test_balanced_helps_on_images_that_it_has_not_seen(count, least):
    """Averaged over six validation splits; even a tiny one does no harm."""
    names, prior = list("abcdef"), [0.25, 0.25, 0.2, 0.15, 0.1, 0.05]
    fresh, logits = drawn(8000, prior, seed=1000)
    p = softmax(logits)
    gains = []
    for seed in range(6):
        labels, seen = drawn(count, prior, seed=seed)
        thresholds = choose_decision_thresholds(softmax(seen), labels, names)
        without = mean_class_accuracy(labels, softmax(seen), None, names)
        assert mean_class_accuracy(labels, softmax(seen), thresholds, names) >= without
        gains.append(
            mean_class_accuracy(fresh, p, thresholds, names) - mean_class_accuracy(fresh, p, None, names)
        )
    assert np.mean(gains) > least


def test_with_many_images_it_finds_what_theory_says():
    """For calibrated probabilities the best balanced decision divides by the share of each class."""
    prior = np.array([0.6, 0.3, 0.1])
    labels, logits = drawn(20000, prior, seed=3)
    p = softmax(logits)
    found = choose_decision_thresholds(p, labels, NAMES)
    best = mean_class_accuracy(labels, p, dict(zip(NAMES, prior)), NAMES)
    assert mean_class_accuracy(labels, p, found, NAMES) > best - 0.003
    ratios = np.array([found[name] for name in NAMES]) / prior
    assert ratios.max() / ratios.min() < 1.3
    labels, p = binary(20000, 0.1, seed=4)
    assert choose_decision_thresholds(p, labels, PAIR)["ill"] == pytest.approx(0.1, abs=0.02)


def test_two_classes_share_one_threshold_that_is_a_probability():
    labels, p = binary(400, 0.2, seed=0)
    found = choose_decision_thresholds(p, labels, PAIR)
    assert found["healthy"] == pytest.approx(1 - found["ill"])
    assert 0.02 < found["ill"] < 0.5
    assert np.array_equal(decided(p, found, PAIR) == 1, p[:, 1] >= found["ill"])


def test_the_order_of_two_classes_does_not_matter():
    labels, p = binary(300, 0.2, seed=1)
    forward = choose_decision_thresholds(p, labels, PAIR)
    named = choose_decision_thresholds(p, labels, PAIR, positive="healthy")
    swapped = choose_decision_thresholds(p[:, ::-1], 1 - labels, PAIR[::-1])
    assert forward["ill"] != 0.5
    assert named == pytest.approx(forward)
    assert swapped == pytest.approx(forward)


def test_nothing_moves_where_nothing_is_gained():
    labels = np.arange(30) % 3
    perfect = np.eye(3)[labels] * 0.4 + 0.2
    assert choose_decision_thresholds(perfect, labels, NAMES) == dict.fromkeys(NAMES, 1.0)
    two = perfect[:, :2] / perfect[:, :2].sum(axis=1, keepdims=True)
    kept = labels < 2
    assert choose_decision_thresholds(two[kept], labels[kept], PAIR) == dict.fromkeys(PAIR, 0.5)


def test_a_cut_lies_amid_the_gap_and_not_at_its_edge():
    """Positives from .30 up, negatives up to .10: a threshold of .5 misses, one near .18 has room on both sides."""
    scores = np.array([0.02, 0.05, 0.07, 0.10, 0.30, 0.33, 0.40, 0.60])
    labels = (scores >= 0.3).astype(int)
    p = np.stack([1 - scores, scores], axis=1)
    found = choose_decision_thresholds(p, labels, PAIR)["ill"]
    assert 0.14 < found < 0.26
    several = choose_decision_thresholds(p[:, 1:], labels[:, None], ["ill"], multi_label=True)["ill"]
    assert 0.14 < several < 0.26


def test_a_class_without_an_image_keeps_its_threshold():
    labels, p = binary(300, 0.15, seed=2, separation=1.5)
    found = choose_decision_thresholds(np.column_stack([0.9 * p, np.full(300, 0.1)]), labels, NAMES)
    assert found["cat"] == 1.0
    assert found["bee"] / found["ant"] < 0.5
    only = np.zeros(20, int)
    assert choose_decision_thresholds(np.tile([0.4, 0.6], (20, 1)), only, PAIR) == dict.fromkeys(PAIR, 0.5)
    three = np.tile([0.3, 0.4, 0.3], (20, 1))
    assert choose_decision_thresholds(three, only, NAMES) == dict.fromkeys(NAMES, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["balanced", "cost"]), st.integers(2, 5))
def test_it_never_loses_on_the_split_it_was_chosen_on(seed, rule, classes):
    rng = np.random.default_rng(seed)
    names = list("abcde")[:classes]
    labels = rng.integers(0, classes, int(rng.integers(1, 40)))
    p = softmax(rng.normal(size=(len(labels), classes)) * 3 + np.eye(classes)[labels] * 2)
    costs = rng.integers(0, 9, (classes, classes)) * (1 - np.eye(classes))
    found = choose_decision_thresholds(p, labels, names, rule=rule, costs=costs)
    assert all(value > 0 and np.isfinite(value) for value in found.values())
    plain, chosen = decided(p, None, names), decided(p, found, names)
    if rule == "cost":
        assert costs[labels, chosen].sum() <= costs[labels, plain].sum() + 1e-9
    else:
        scores = [
            decision_metrics(labels, choice, names)["mean_class_accuracy"] for choice in (chosen, plain)
        ]
        assert scores[0] >= scores[1] - 1e-9


# ---------------------------------------------------------------- cost


def test_a_dear_error_moves_the_threshold_as_far_as_theory_says():
    """Predict ill from p = c_alarm / (c_alarm + c_miss) on."""
    labels, p = binary(20000, 0.4, seed=6)
    found = choose_decision_thresholds(p, labels, PAIR, rule="cost", costs=[[0, 1], [4, 0]])
    assert found["ill"] == pytest.approx(0.2, abs=0.03)
    same = choose_decision_thresholds(
        p, labels, PAIR, rule="cost", costs=[[0, 1], [4, 0]], positive="healthy"
    )
    assert same == pytest.approx(found)
    # What a right answer costs counts too: only the difference to a wrong one matters.
    shifted = choose_decision_thresholds(p, labels, PAIR, rule="cost", costs=[[3, 4], [9, 5]])
    assert shifted == pytest.approx(found)


def test_a_class_that_is_dear_to_miss_is_predicted_more_often():
    labels, logits = drawn(3000, [1, 1, 1], 1.5, seed=7)
    p = softmax(logits)
    costs = np.ones((3, 3)) - np.eye(3)
    costs[2] *= 8
    found = choose_decision_thresholds(p, labels, NAMES, rule="cost", costs=costs)
    chosen, plain = decided(p, found, NAMES), decided(p, None, NAMES)
    assert found["cat"] < 0.6 * min(found["ant"], found["bee"])
    assert costs[labels, chosen].mean() < 0.8 * costs[labels, plain].mean()
    bayes = (p @ costs).argmin(axis=1)  # what is best where probabilities are true
    assert costs[labels, chosen].mean() < 1.05 * costs[labels, bayes].mean()


def test_costs_of_labels():
    rng = np.random.default_rng(8)
    labels = rng.random((4000, 2)) < 0.4
    logits = 2 * (rng.normal(size=labels.shape) + 2 * labels) - 2 + np.log(0.4 / 0.6)
    found = choose_decision_thresholds(
        1 / (1 + np.exp(-logits)), labels, PAIR, rule="cost", costs=[[0, 1], [4, 0]], multi_label=True
    )
    assert found["ill"] == pytest.approx(0.2, abs=0.05) == found["healthy"]


# ---------------------------------------------------------------- recall


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_recall_is_reached_and_the_next_higher_threshold_would_lose_it(seed, recall):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, int(rng.integers(2, 60)))
    labels[:2] = 0, 1
    p = rng.random((len(labels), 2)).round(2) + 1e-3
    p /= p.sum(axis=1, keepdims=True)
    t = choose_decision_thresholds(p, labels, PAIR, rule="recall", recall=recall)["ill"]
    ill = p[labels == 1, 1]
    found = decided(p.astype(np.float32), {"healthy": 1 - t, "ill": t}, PAIR) == 1
    assert (found & (labels == 1)).sum() / len(ill) >= recall - 1e-9
    assert np.array_equal(found, p[:, 1] >= t)
    above = p[:, 1][p[:, 1] > t].min(initial=2.0)
    assert (ill > above).mean() < recall


def test_recall_of_every_label_and_of_the_class_that_is_named():
    labels, p = binary(500, 0.3, seed=9)
    found = choose_decision_thresholds(p, labels, PAIR, rule="recall", recall=0.99, positive="healthy")
    assert (decided(p, found, PAIR)[labels == 0] == 0).mean() >= 0.99
    assert sum(found.values()) == pytest.approx(1)
    both = choose_decision_thresholds(
        p, np.eye(2, dtype=int)[labels], PAIR, rule="recall", recall=0.9, multi_label=True
    )
    for k, name in enumerate(PAIR):
        assert 0.9 <= (p[labels == k, k] >= both[name]).mean() < 0.92


# ---------------------------------------------------------------- several labels


def test_each_label_gets_the_threshold_of_its_best_f1():
    rng = np.random.default_rng(10)
    share = np.array([0.5, 0.15, 0.05])

    def split(count):
        labels = rng.random((count, 3)) < share
        logits = 2.2 * (rng.normal(size=labels.shape) + 2.2 * labels) - 2.42 + np.log(share / (1 - share))
        return labels, 1 / (1 + np.exp(-logits))

    labels, p = split(1500)
    fresh, q = split(6000)
    found = choose_decision_thresholds(p, labels, NAMES, multi_label=True)

    def f1(labels, p, thresholds):
        return decision_metrics(labels, decided(p, thresholds, NAMES, True), NAMES)["f1_macro"]

    assert f1(labels, p, found) >= f1(labels, p, None)
    assert f1(fresh, q, found) > f1(fresh, q, None) + 0.005
    assert found["cat"] < 0.45


def test_labels_without_an_example_or_without_a_counterexample_stay_at_one_half():
    p = np.random.default_rng(0).random((20, 2))
    labels = np.stack([np.zeros(20), np.ones(20)], axis=1).astype(int)
    for rule in ("balanced", "recall"):
        found = choose_decision_thresholds(p, labels, PAIR, rule=rule, multi_label=True)
        assert found == dict.fromkeys(PAIR, 0.5)


# ---------------------------------------------------------------- errors

GOOD = {"probabilities": np.full((4, 3), 1 / 3), "labels": np.array([0, 1, 2, 0]), "class_names": NAMES}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "best"}, "no decision rule 'best'; choose from: balanced, cost, recall"),
        (
            {"probabilities": np.zeros((0, 3)), "labels": np.zeros(0, int)},
            "no validation image to choose thresholds on; give the data a validation split",
        ),
        ({"labels": np.array([0, 1])}, r"probabilities \(4, 3\), labels \(2,\) and 3 class names do not fit"),
        ({"class_names": PAIR}, "do not fit"),
        ({"multi_label": True}, "do not fit"),
        ({"probabilities": np.full((4, 3), np.nan)}, "not finite"),
        ({"rule": "recall"}, "the rule 'recall' is for two classes, not 3"),
        ({"rule": "cost"}, "needs costs as 3 rows of 3 numbers"),
        ({"rule": "cost", "costs": [[0, 1], [1]]}, "needs costs as 3 rows of 3 numbers"),
        ({"rule": "cost", "costs": np.full((3, 3), np.inf)}, "needs costs as 3 rows"),
        ({"positive": "cat"}, "positive is 'cat'; it names one of two classes"),
        (
            {"probabilities": np.full((4, 2), 0.5), "labels": np.zeros(4, int), "class_names": PAIR}
            | {"rule": "recall", "recall": 0.0},
            "recall is 0.0; give a share above 0 and up to 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(CellsError, match=message):
        choose_decision_thresholds(**{**GOOD, **changes})

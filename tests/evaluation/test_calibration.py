"""fit_temperature: the minimum of the likelihood, and what there is where it has none."""

import numpy as np
import pytest
from classification_cases import drawn, softmax
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.errors import CellsError
from hf_cells.evaluation.calibration import TEMPERATURES, fit_temperature
from hf_cells.metrics import expected_calibration_error


def likelihood_loss(logits, labels, temperature):
    p = softmax(logits / temperature)
    return -np.log(p[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_it_undoes_what_was_done_to_calibrated_logits(factor):
    labels, logits = drawn(6000, [1, 2, 3], seed=1)
    found = fit_temperature(logits * factor, labels)
    assert found == pytest.approx(factor, rel=0.05)
    # And it is the minimum: no neighbour is better.
    for other in (found * 0.99, found * 1.01):
        assert likelihood_loss(logits * factor, labels, found) < likelihood_loss(
            logits * factor, labels, other
        )


def test_it_makes_overconfident_probabilities_honest():
    labels, logits = drawn(4000, [1, 1, 1, 1], seed=2)
    before, after = softmax(logits * 4), softmax(logits * 4 / fit_temperature(logits * 4, labels))

    def error(p):
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == labels)

    assert error(before) > 0.08
    assert error(after) < 0.025


def test_several_labels_are_fitted_together():
    rng = np.random.default_rng(3)
    labels = (rng.random((3000, 4)) < [0.5, 0.2, 0.1, 0.4]).astype(int)
    logits = 2.0 * (rng.normal(size=labels.shape) + 2.0 * labels) - 2.0 + np.log([1, 0.25, 1 / 9, 2 / 3])
    assert fit_temperature(logits * 2.5, labels, multi_label=True) == pytest.approx(2.5, rel=0.06)
    assert fit_temperature(logits * 2.5, labels > 0, multi_label=True) == pytest.approx(2.5, rel=0.06)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 5))
def test_it_is_finite_and_within_its_bounds(seed, count, classes):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * rng.choice([0, 0.01, 1, 1000])
    labels = rng.integers(0, rng.integers(1, classes + 1), count)
    assert TEMPERATURES[0] <= fit_temperature(logits, labels) <= TEMPERATURES[1]


def test_without_an_error_it_becomes_no_more_certain_than_the_number_of_images_allows():
    labels = np.arange(60) % 3
    logits = np.eye(3)[labels] * 4.0
    confidence = softmax(logits / fit_temperature(logits, labels)).max(axis=1)
    assert confidence == pytest.approx(
        1 - 1 / 62, abs=1e-3
    )  # and not 1, as the likelihood alone would have it
    one_class = np.zeros(60, int)
    logits = np.tile([4.0, 0, 0], (60, 1))
    assert softmax(logits / fit_temperature(logits, one_class)).max(axis=1) == pytest.approx(
        1 - 1 / 62, abs=1e-3
    )
    several = np.eye(3, dtype=int)[labels]
    found = fit_temperature(several * 8.0 - 4.0, several, multi_label=True)
    assert 1 / (1 + np.exp(-4 / found)) == pytest.approx(1 - 1 / 182, abs=1e-3)


def test_logits_that_know_nothing_are_softened_to_the_bound():
    labels, logits = drawn(500, [1, 1], seed=5)
    assert fit_temperature(logits, 1 - labels) == pytest.approx(TEMPERATURES[1], rel=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_equal_logits_leave_it_at_one(multi_label):
    labels = np.zeros((4, 2), int) if multi_label else np.zeros(4, int)
    assert fit_temperature(np.zeros((4, 2)), labels, multi_label) == 1.0
    if not multi_label:
        assert fit_temperature(np.full((4, 2), 7.0), labels) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "multi_label", "message"),
    [
        (
            np.zeros((0, 3)),
            [],
            False,
            "no validation image to calibrate on; give the data a validation split",
        ),
        ([[1, np.nan]], [0], False, "logits are not finite"),
        ([[1, 0]], [2], False, r"labels span 2\.\.2; 2 classes"),
        ([[1, 0]], [0, 1], False, r"logits \(1, 2\) and labels \(2,\) do not fit"),
        ([[1, 0]], [0], True, "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, multi_label, message):
    with pytest.raises(CellsError, match=message):
        fit_temperature(logits, np.array(labels), multi_label)

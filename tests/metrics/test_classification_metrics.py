"""Classification metrics: equal to scikit-learn, to sums done by hand, and defined where nothing is there."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.metrics import (
    ClassificationMetric,
    average_precision_score,
    classification_metrics,
    expected_calibration_error,
    multilabel_metrics,
    precision_recall_curve,
    reliability_bins,
    roc_auc,
    roc_curve,
)

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox"]


@pytest.fixture(autouse=True)
def no_warnings_of_ours():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def random_case(seed):
    """Labels, probabilities and decisions of up to 60 images, absent classes and ties among them."""
    rng = np.random.default_rng(seed)
    classes, count = int(rng.integers(2, 7)), int(rng.integers(1, 60))
    present = rng.permutation(classes)[: rng.integers(1, classes + 1)]
    labels = rng.choice(present, count)
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels] * rng.integers(0, 3)
    if seed % 3 == 0:
        logits = logits.round()  # many equal probabilities
    probabilities = softmax(logits)
    predicted = (probabilities / rng.uniform(0.2, 1, classes)).argmax(axis=1)
    return labels, probabilities, predicted, NAMES[:classes]


def sk_quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*arguments, **options))


def close(value):
    return pytest.approx(value, abs=1e-9, rel=0, nan_ok=True)


def guo_error(confidence, correct, n_bins=15):
    """The loop of the paper: bins (low, high]."""
    total = 0.0
    edges = np.linspace(0, 1, n_bins + 1)
    for low, high in zip(edges[:-1], edges[1:]):
        members = (confidence > low) & (confidence <= high)
        if members.any():
            total += members.mean() * abs(confidence[members].mean() - correct[members].mean())
    return total


@pytest.mark.parametrize("block", range(4))
def test_single_label_equals_scikit_learn(block):
    for seed in range(block * 60, (block + 1) * 60):
        y, p, d, names = random_case(seed)
        found = classification_metrics(y, p, d, names)
        everyone, targets = range(len(names)), np.eye(len(names), dtype=int)[y]
        there = [k for k in everyone if (y == k).any()]
        ranked = [k for k in there if (y != k).any()]
        expected = {
            "accuracy": sk.accuracy_score(y, d),
            "mean_class_accuracy": sk_quiet(sk.balanced_accuracy_score, y, d),
            "macro_precision": sk_quiet(sk.precision_score, y, d, average="macro", zero_division=0),
            "macro_f1": sk_quiet(sk.f1_score, y, d, average="macro", zero_division=0),
            "weighted_precision": sk_quiet(sk.precision_score, y, d, average="weighted", zero_division=0),
            "weighted_f1": sk_quiet(sk.f1_score, y, d, average="weighted", zero_division=0),
            "matthews_corrcoef": sk_quiet(sk.matthews_corrcoef, y, d),
            "log_loss": sk_quiet(sk.log_loss, y, p, labels=list(everyone)),
            "brier_score": ((p - targets) ** 2).sum(axis=1).mean(),
            "expected_calibration_error": guo_error(p.max(axis=1), p.argmax(axis=1) == y),
            "roc_auc_macro": np.mean([sk.roc_auc_score(targets[:, k], p[:, k]) for k in ranked])
            if ranked
            else math.nan,
            "mean_average_precision": np.mean(
                [sk.average_precision_score(targets[:, k], p[:, k]) for k in there]
            ),
        }
        per_class = found.pop("per_class")
        assert found == {name: close(value) for name, value in expected.items()}, seed
        report = sk.precision_recall_fscore_support(y, d, labels=list(everyone), zero_division=0)
        for k, name in enumerate(names):
            row = per_class[name]
            assert row["support"] == report[3][k]
            if k in there:
                assert [row["precision"], row["recall"], row["f1"]] == [close(report[i][k]) for i in range(3)]
                assert row["average_precision"] == close(sk.average_precision_score(targets[:, k], p[:, k]))
            else:
                assert math.isnan(row["recall"]) and math.isnan(row["average_precision"])
                assert row["precision"] == (0.0 if (d == k).any() else close(math.nan))
            auc = sk.roc_auc_score(targets[:, k], p[:, k]) if k in ranked else math.nan
            assert row["roc_auc"] == close(auc)


@pytest.mark.parametrize("block", range(4))
def test_multi_label_equals_scikit_learn(block):
    for seed in range(block * 60, (block + 1) * 60):
        rng = np.random.default_rng(seed)
        count, classes = int(rng.integers(1, 50)), int(rng.integers(1, 6))
        y = (rng.random((count, classes)) < rng.choice([0, 0.2, 0.6, 1], classes)).astype(int)
        p = rng.random((count, classes)) * 0.6 + 0.3 * y
        if seed % 3 == 0:
            p = p.round(1)
        d = p >= rng.uniform(0.2, 0.8, classes)
        found = multilabel_metrics(y, p, d, NAMES[:classes])
        there = [k for k in range(classes) if y[:, k].any()]
        ranked = [k for k in there if not y[:, k].all()]

        def mean(score, ids, y=y, p=p):
            return np.mean([score(y[:, k], p[:, k]) for k in ids]) if ids else math.nan

        expected = {
            "mean_average_precision": mean(sk.average_precision_score, there),
            "roc_auc_macro": mean(sk.roc_auc_score, ranked),
            "f1_macro": np.nanmean(
                [sk.f1_score(y[:, k], d[:, k], zero_division=np.nan) for k in range(classes)] or [math.nan]
            )
            if (y.any() or d.any())
            else math.nan,
            "f1_micro": sk_quiet(sk.f1_score, y.ravel(), d.ravel(), zero_division=np.nan),
            "exact_match": (y == d).all(axis=1).mean(),
            "hamming_loss": (y != d).mean(),
            "brier_score": sk.mean_squared_error(y.ravel(), p.ravel()),
            "expected_calibration_error": guo_error(p.ravel(), y.ravel()),
        }
        per_class = found.pop("per_class")
        assert found == {name: close(value) for name, value in expected.items()}, seed
        for k, name in enumerate(NAMES[:classes]):
            assert per_class[name]["support"] == y[:, k].sum()
            if k in there:
                assert per_class[name]["recall"] == close(sk.recall_score(y[:, k], d[:, k]))
                assert per_class[name]["f1"] == close(sk.f1_score(y[:, k], d[:, k]))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_curves_equal_scikit_learn_with_ties(pairs):
    labels, scores = np.array([p[0] for p in pairs]), np.array([p[1] / 5 for p in pairs])
    fpr, tpr, thresholds = roc_curve(labels, scores)
    precision, recall, cuts = precision_recall_curve(labels, scores)
    assert np.array_equal(thresholds, cuts) and (np.diff(thresholds) < 0).all()
    if labels.any() and not labels.all():
        expected = sk.roc_curve(labels, scores, drop_intermediate=False)
        for ours, theirs in zip((fpr, tpr, thresholds), expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
        assert roc_auc(labels, scores) == close(sk.roc_auc_score(labels, scores))
    else:
        assert math.isnan(roc_auc(labels, scores))
    if labels.any():
        theirs = sk.precision_recall_curve(labels, scores)
        np.testing.assert_allclose(precision, theirs[0][::-1], atol=1e-12)
        np.testing.assert_allclose(recall, theirs[1][::-1], atol=1e-12)
        assert average_precision_score(labels, scores) == close(sk.average_precision_score(labels, scores))
    else:
        assert math.isnan(average_precision_score(labels, scores)) and np.isnan(recall).all()


def test_by_hand():
    """Truth ant ant bee; decided ant bee bee; the probability of the truth is .8, .4 and .9."""
    p = [[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]
    found = classification_metrics([0, 0, 1], p, [0, 1, 1], ["ant", "bee"])
    assert found["accuracy"] == close(2 / 3)
    assert found["mean_class_accuracy"] == close((1 / 2 + 1) / 2)
    assert found["macro_precision"] == close((1 + 1 / 2) / 2)
    assert found["weighted_precision"] == close((2 * 1 + 1 * 1 / 2) / 3)
    assert found["macro_f1"] == close(2 / 3)
    assert found["brier_score"] == close((2 * 0.04 + 2 * 0.36 + 2 * 0.01) / 3)
    assert found["log_loss"] == close(-(math.log(0.8) + math.log(0.4) + math.log(0.9)) / 3)
    # Three forecasts, each alone in its bin: right at .8, wrong at .6, right at .9.
    assert found["expected_calibration_error"] == close((0.2 + 0.6 + 0.1) / 3)
    assert found["per_class"]["bee"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": close(2 / 3),
        "support": 1,
        "roc_auc": 1.0,
        "average_precision": 1.0,
    }


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_the_order_of_images_and_of_classes_changes_nothing(seed):
    y, p, d, names = random_case(seed)
    rng = np.random.default_rng(seed + 1)
    images, classes = rng.permutation(len(y)), rng.permutation(len(names))
    place = np.argsort(classes)
    first = classification_metrics(y, p, d, names)
    again = classification_metrics(
        place[y[images]], p[images][:, classes], place[d[images]], [names[k] for k in classes]
    )
    if seed % 3:  # the most probable class among equals depends on their order
        assert again["expected_calibration_error"] == close(first["expected_calibration_error"])
    for key in first.keys() - {"expected_calibration_error", "per_class"}:
        assert again[key] == close(first[key]), key
    assert {name: again["per_class"][name]["support"] for name in names} == {
        name: first["per_class"][name]["support"] for name in names
    }


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_images_twice_score_the_same_and_everything_is_in_its_range(seed):
    y, p, d, names = random_case(seed)
    first = classification_metrics(y, p, d, names)
    twice = classification_metrics(np.tile(y, 2), np.tile(p, (2, 1)), np.tile(d, 2), names)
    high = {"brier_score": 2.0, "log_loss": math.inf}
    for key in first.keys() - {"per_class"}:
        assert twice[key] == close(first[key]), key
        low = -1 if key == "matthews_corrcoef" else 0
        assert math.isnan(first[key]) or low <= first[key] <= high.get(key, 1) + 1e-12, key


def test_a_perfect_classifier():
    y = np.array([0, 1, 2, 2, 1])
    found = classification_metrics(y, np.eye(3)[y], y, NAMES[:3])
    errors = ("brier_score", "log_loss", "expected_calibration_error")
    for key in found.keys() - {"per_class"}:
        assert found[key] == close(0.0 if key in errors else 1.0), key
    targets = np.eye(3, dtype=int)[y]
    found = multilabel_metrics(targets, targets, targets, NAMES[:3])
    errors = ("brier_score", "hamming_loss", "expected_calibration_error")
    for key in found.keys() - {"per_class"}:
        assert found[key] == (0.0 if key in errors else 1.0), key


def test_one_class_only_has_no_ranking_and_no_correlation():
    found = classification_metrics([1, 1], [[0.3, 0.7], [0.6, 0.4]], [1, 0], NAMES[:2])
    assert found["mean_class_accuracy"] == found["accuracy"] == 0.5
    assert math.isnan(found["roc_auc_macro"]) and found["matthews_corrcoef"] == 0.0
    assert found["mean_average_precision"] == 1.0
    assert found["per_class"]["ant"]["precision"] == 0.0  # claimed once, never true
    assert math.isnan(found["per_class"]["ant"]["recall"])


@pytest.mark.parametrize("metrics", [classification_metrics, multilabel_metrics])
def test_no_image_at_all_is_not_a_number_and_no_warning(metrics):
    empty = np.zeros((0, 2)) if metrics is multilabel_metrics else []
    found = metrics(empty, np.zeros((0, 2)), empty, NAMES[:2])
    per_class = found.pop("per_class")
    assert all(math.isnan(value) for value in found.values())
    assert per_class["ant"]["support"] == 0 and math.isnan(per_class["ant"]["precision"])
    assert math.isnan(roc_auc([], [])) and math.isnan(average_precision_score([], []))


def test_a_certain_error_costs_much_but_not_infinitely():
    found = classification_metrics([0], np.array([[0, 1]], np.float32), [1], NAMES[:2])
    assert found["log_loss"] == close(-math.log(np.finfo(float).eps))


def test_bins_include_their_upper_edge():
    bins = reliability_bins([0.0, 0.2, 0.20001, 1.0], [0, 1, 1, 0], n_bins=5)
    assert bins.counts.tolist() == [2, 1, 0, 0, 1]
    assert bins.confidence[0] == close(0.1) and bins.frequency[0] == close(0.5)
    assert np.isnan(bins.confidence[2])
    assert expected_calibration_error([0.0, 0.2, 0.20001, 1.0], [0, 1, 1, 0], 5) == close(
        (2 * 0.4 + 0.79999 + 1) / 4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [[0.5, 0.5]], [0, 1]), r"shape \(1, 2\); 2 images of 2 classes"),
        (([0, 1], np.full((2, 2), 0.5), [0]), "2 labels for 1 predicted"),
        (([0, 2], np.full((2, 2), 0.5), [0, 1]), r"true labels span 0\.\.2"),
        (([0, 1], [[2.0, -1.0], [0.5, 0.5]], [0, 1]), "apply softmax or sigmoid"),
        (([0, 1], [[math.nan, 0.5], [0.5, 0.5]], [0, 1]), "must be finite"),
        (([0.0, 1.0], np.full((2, 2), 0.5), [0, 1]), r"labels must be \(N,\) integers, not float64"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(*arguments, NAMES[:2])


def test_shapes_of_several_labels_must_agree():
    with pytest.raises(ValueError, match=r"labels \(2, 2\) and predicted \(2, 1\)"):
        multilabel_metrics(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 1)), NAMES[:2])
    with pytest.raises(ValueError, match="must be .N,. both"):
        roc_auc([0, 1], [0.5])


def test_the_wrapper_gives_the_numbers_of_the_core(tmp_path):
    y, p, _, names = random_case(5)
    p = p.astype(np.float32)
    metric = ClassificationMetric(names, cache_dir=str(tmp_path))
    metric.add_batch(predictions=p[:3], references=y[:3])
    metric.add(prediction=p[3].tolist(), reference=int(y[3]))
    metric.add_batch(predictions=p[4:].tolist(), references=y[4:].tolist())
    expected = classification_metrics(y, p, p.argmax(axis=1), names)
    found = metric.compute()
    per_class = found.pop("per_class"), expected.pop("per_class")
    assert found == pytest.approx(expected, abs=0, rel=0, nan_ok=True)
    for name in names:
        assert per_class[0][name] == pytest.approx(per_class[1][name], abs=0, rel=0, nan_ok=True)


def test_the_wrapper_decides_with_thresholds(tmp_path):
    p = [[0.6, 0.4], [0.8, 0.2]]
    metric = ClassificationMetric(NAMES[:2], thresholds=[0.7, 0.3], cache_dir=str(tmp_path))
    assert metric.compute(predictions=p, references=[1, 0])["accuracy"] == 1.0
    several = ClassificationMetric(NAMES[:2], multi_label=True, cache_dir=str(tmp_path))
    assert several.compute(predictions=[[0.9, 0.6]], references=[[1, 1]])["exact_match"] == 1.0
    strict = ClassificationMetric(NAMES[:2], True, [0.5, 0.7], cache_dir=str(tmp_path))
    assert strict.compute(predictions=[[0.9, 0.6]], references=[[1, 1]])["exact_match"] == 0.0
    with pytest.raises(ValueError, match="must be 2 positive numbers"):
        ClassificationMetric(NAMES[:2], thresholds=[1, 0])
    with pytest.raises(ValueError, match="shape"):
        several.add(prediction=[0.1, 0.2, 0.3], reference=[0, 1])

"""evaluate_classification: hand-worked scores, thresholds, groups, strata, copies, and errors that name the image."""

import io

import datasets
import numpy as np
import pytest
import tifffile
from classification_cases import LABELS, NAMES, TABLE, FakeClassifier, labelled_split, softmax

from hf_cells.errors import CellsError
from hf_cells.evaluation.bootstrap import bootstrap_intervals
from hf_cells.evaluation.classification import evaluate_classification
from hf_cells.evaluation.results import WHOLE_SPLIT, WITHOUT_COPIES, metrics_line, read_results, write_results
from hf_cells.metrics import classification_metrics


def evaluate(pipe, split, **arguments):
    arguments = {"split_name": "test", "n_resamples": 60, **arguments}
    return evaluate_classification(pipe, split, **arguments)


def value(evaluation, name, section="metrics"):
    return evaluation.results[section][name]["value"]


def test_scores_are_what_a_hand_works_out():
    found = evaluate(FakeClassifier(TABLE), labelled_split(LABELS))
    assert value(found, "accuracy") == pytest.approx(2 / 4)
    assert value(found, "mean_class_accuracy") == pytest.approx((1 / 2 + 1 + 0) / 3)
    expected = classification_metrics(LABELS, np.float32(TABLE), [0, 1, 1, 0], NAMES)
    per_class = expected.pop("per_class")
    assert {name: entry["value"] for name, entry in found.results["metrics"].items()} == expected
    assert found.results["metrics"]["accuracy"]["per_class"] == per_class
    assert all(entry["n"] == 4 for entry in found.results["metrics"].values())
    assert found.results["confusion_matrix"] == {
        "classes": NAMES,
        "predicted": [[1, 1, 0], [0, 1, 0], [1, 0, 0]],
        "argmax": [[1, 1, 0], [0, 1, 0], [1, 0, 0]],
    }


def test_both_decisions_are_measured():
    """With thresholds of .9 for bee and .3 for cat both errors of argmax are mended."""
    thresholds = {"ant": 0.6, "bee": 0.9, "cat": 0.3}
    pipe = FakeClassifier(TABLE, decision_thresholds=thresholds, thresholds_chosen_on="validation")
    found = evaluate(pipe, labelled_split(LABELS))
    assert value(found, "accuracy") == 1.0
    assert value(found, "accuracy", "argmax") == 0.5
    assert value(found, "mean_class_accuracy", "argmax") == pytest.approx(0.5)
    assert found.results["argmax"]["accuracy"].keys() == {"value", "ci", "n"}
    assert "log_loss" not in found.results["argmax"]  # thresholds do not change it
    assert found.results["confusion_matrix"]["predicted"] == [[2, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.results["decision"] == {
        "thresholds": thresholds,
        "temperature": 1.0,
        "chosen_on": "validation",
    }
    assert found.predicted.tolist() == LABELS and found.plain.tolist() == [0, 1, 1, 0]


def test_rows_say_what_was_seen_and_errors_are_ranked_by_confidence():
    found = evaluate(FakeClassifier(TABLE), labelled_split(LABELS, groups=["x", "x", "y", None]))
    assert [row["image_id"] for row in found.rows] == [f"image-{i}" for i in range(4)]
    assert [row["group"] for row in found.rows] == ["x", "x", "y", None]
    assert [row["label"] for row in found.rows] == ["ant", "ant", "bee", "cat"]
    assert [row["predicted"] for row in found.rows] == ["ant", "bee", "bee", "ant"]
    assert found.rows[1]["probabilities"] == pytest.approx({"ant": 0.4, "bee": 0.5, "cat": 0.1})
    assert all(row["seconds"] > 0 for row in found.rows)
    assert found.wrong() == [1, 3]  # both at .5, in the order of the split
    sure = np.array(TABLE)
    sure[3] = [0.9, 0.05, 0.05]
    assert evaluate(FakeClassifier(sure), labelled_split(LABELS)).wrong() == [3, 1]


def test_the_results_are_the_contract(tmp_path):
    found = evaluate(FakeClassifier(TABLE), labelled_split(LABELS, modality=["a", "a", "b", "b"]))
    write_results(tmp_path / "results.json", found.results)
    results = read_results(tmp_path / "results.json")
    assert (
        results["dataset"].items()
        >= {"name": "insects", "config": "case_split", "license": "cc0-1.0"}.items()
    )
    assert len(results["dataset"]["fingerprint"]) == 16
    assert results["split"] == {"name": "test", "unit": "image", "groups": 4, "leaks": None, "audit": None}
    assert results["decision"] == {"thresholds": {}, "temperature": 1.0, "chosen_on": "default"}
    assert results["metrics"]["roc_auc_macro"]["value"] is not None
    ends = results["metrics"]["accuracy"]["per_class_ci"]["ant"]["recall"]
    assert 0 <= ends[0] <= ends[1] <= 1
    assert metrics_line(results).startswith("mean_class_accuracy 0.500 [")


def test_what_is_known_elsewhere_is_laid_over_what_was_measured():
    context = {"split": {"leaks": 3, "unit": "block"}, "decision": {"rule": "cost"}, "run": {"seed": 7}}
    pipe = FakeClassifier(TABLE, calibration_temperature=1.7)
    results = evaluate(pipe, labelled_split(LABELS), context=context).results
    assert (results["split"]["leaks"], results["split"]["unit"], results["run"]["seed"]) == (3, "block", 7)
    assert results["decision"] == {
        "thresholds": {},
        "temperature": 1.7,
        "chosen_on": "validation",
        "rule": "cost",
    }


# ---------------------------------------------------------------- intervals


def many(count=120, groups=12, seed=0):
    """Cells of a group are right or wrong together, so that the group is what varies."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    member = np.arange(count) % groups
    wrong = rng.random(groups)[member] < 0.25
    shown = np.where(wrong, (labels + 1) % 3, labels)
    return labels, softmax(3.0 * np.eye(3)[shown] + rng.normal(size=(count, 3)) * 0.2), member


def test_intervals_are_those_of_groups_and_wider_than_those_of_images():
    labels, p, member = many()
    pipe = FakeClassifier(p)
    by_image = evaluate(pipe, labelled_split(labels.tolist()), n_resamples=300).results
    grouped = labelled_split(labels.tolist(), groups=[f"g{m}" for m in member])
    by_group = evaluate(pipe, grouped, n_resamples=300).results
    assert (by_image["split"]["unit"], by_image["split"]["groups"]) == ("image", 120)
    assert (by_group["split"]["unit"], by_group["split"]["groups"]) == ("group", 12)

    def width(results):
        low, high = results["metrics"]["accuracy"]["ci"]
        return high - low

    assert width(by_group) > 1.8 * width(by_image)
    expected = bootstrap_intervals(
        range(120),
        lambda rows: {"accuracy": np.mean([p[i].argmax() == labels[i] for i in rows])},
        groups=member.tolist(),
        n_resamples=300,
    )
    assert by_group["metrics"]["accuracy"]["ci"] == pytest.approx(expected["accuracy"])


def test_equal_seeds_give_equal_intervals():
    labels, p, _ = many(40)
    split = labelled_split(labels.tolist())
    first, again, other = (evaluate(FakeClassifier(p), split, seed=seed).results for seed in (1, 1, 2))
    assert first["metrics"] == again["metrics"]
    assert first["metrics"]["brier_score"]["ci"] != other["metrics"]["brier_score"]["ci"]


def test_a_split_of_one_class_has_no_ranking_and_no_warning(recwarn):
    found = evaluate(FakeClassifier(TABLE), labelled_split([0, 0, 0, 0]))
    assert value(found, "mean_class_accuracy") == value(found, "accuracy") == 0.5
    assert np.isnan(value(found, "roc_auc_macro")) and found.results["metrics"]["roc_auc_macro"]["ci"] is None
    assert not [w for w in recwarn if "hf_cells" in str(w.filename)]


# ---------------------------------------------------------------- strata


def test_strata_are_the_values_of_a_column_the_largest_first():
    split = labelled_split(LABELS, stratum=["dim", "bright", "bright", None], modality=["m"] * 4)
    strata = evaluate(FakeClassifier(TABLE), split).results["strata"]
    assert list(strata) == ["m", "bright", "dim", "unknown"]
    assert strata["bright"]["accuracy"] == {"value": 0.5, "ci": strata["bright"]["accuracy"]["ci"], "n": 2}
    assert strata["dim"]["accuracy"] == {"value": 1.0, "ci": None, "n": 1}
    assert strata["unknown"]["accuracy"]["value"] == 0.0
    assert "strata" not in evaluate(FakeClassifier(TABLE), labelled_split(LABELS)).results


def test_copies_of_other_splits_are_left_out_of_the_count_as_well():
    copies = ["image-0", "image-2", "an image of another split"]
    results = evaluate(FakeClassifier(TABLE), labelled_split(LABELS), copies=copies).results
    assert list(results["strata"]) == [WHOLE_SPLIT, WITHOUT_COPIES]
    assert results["metrics"]["accuracy"]["value"] == 0.5
    whole = results["strata"][WHOLE_SPLIT]
    assert whole["accuracy"] == {key: results["metrics"]["accuracy"][key] for key in ("value", "ci", "n")}
    assert results["strata"][WITHOUT_COPIES]["accuracy"].items() >= {"value": 0.0, "n": 2}.items()
    all_copies = evaluate(
        FakeClassifier(TABLE), labelled_split(LABELS), copies=[f"image-{i}" for i in range(4)]
    )
    assert list(all_copies.results["strata"]) == [WHOLE_SPLIT]


# ---------------------------------------------------------------- several labels


def test_several_labels():
    table = [[0.9, 0.6, 0.1], [0.2, 0.7, 0.3], [0.4, 0.4, 0.4]]
    split = labelled_split([[0, 1], [1], []])
    found = evaluate(FakeClassifier(table, multi_label=True, decision_thresholds={"cat": 0.35}), split)
    assert found.labels.tolist() == [[True, True, False], [False, True, False], [False] * 3]
    assert found.predicted.tolist() == [[True, True, False], [False, True, False], [False, False, True]]
    assert value(found, "exact_match") == pytest.approx(2 / 3)
    assert value(found, "exact_match", "argmax") == 1.0
    assert value(found, "mean_average_precision") == 1.0
    assert "confusion_matrix" not in found.results
    assert found.results["metrics"]["mean_average_precision"]["per_class"]["cat"]["support"] == 0
    assert [row["label"] for row in found.rows] == ["ant|bee", "bee", ""]
    assert [row["predicted"] for row in found.rows] == ["ant|bee", "bee", "cat"]
    assert found.wrong() == [2]


def test_a_model_of_several_labels_can_be_measured_on_single_ones():
    found = evaluate(FakeClassifier(np.eye(3)[LABELS], multi_label=True), labelled_split(LABELS))
    assert value(found, "exact_match") == 1.0
    assert [row["label"] for row in found.rows] == ["ant", "ant", "bee", "cat"]


# ---------------------------------------------------------------- labels by name


def test_labels_are_matched_by_name_and_not_by_number():
    split = labelled_split([2, 2, 1, 0], names=["cat", "bee", "ant"])
    found = evaluate(FakeClassifier(TABLE), split)
    assert found.labels.tolist() == LABELS
    text = datasets.Dataset.from_list(
        [{**row, "label": NAMES[row["label"]]} for row in labelled_split(LABELS)],
        features=datasets.Features({**labelled_split(LABELS).features, "label": datasets.Value("string")}),
    )
    assert evaluate(FakeClassifier(TABLE), text).labels.tolist() == LABELS


def test_a_dataset_may_have_classes_that_no_image_of_the_split_shows():
    split = labelled_split(LABELS, names=[*NAMES, "dog"])
    assert evaluate(FakeClassifier(TABLE), split).labels.tolist() == LABELS


# ---------------------------------------------------------------- images


def test_images_are_read_with_all_their_bits_and_in_batches():
    colour = np.arange(16 * 16 * 3, dtype=np.uint16).reshape(16, 16, 3) * 60
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, colour, photometric="rgb")
    split = labelled_split([0]).cast_column("image", datasets.Image(decode=False))
    rows = [{**split[0], "image": {"bytes": buffer.getvalue(), "path": None}}]
    seen = []
    pipe = FakeClassifier(TABLE[:1], look=lambda image: seen.append(image) or 0)
    evaluate(pipe, datasets.Dataset.from_list(rows, features=labelled_split([0]).features))
    assert np.array_equal(seen[0], colour) and seen[0].dtype == np.uint16

    labels, p, _ = many(70)
    pipe = FakeClassifier(p)
    found = evaluate(pipe, labelled_split(labels.tolist()))
    assert pipe.batches == [32, 32, 6]
    assert np.array_equal(found.probabilities, p.astype(np.float32))


def test_the_fingerprint_follows_pixels_and_labels():
    def fingerprint(split):
        return evaluate(FakeClassifier(TABLE), split).results["dataset"]["fingerprint"]

    first = fingerprint(labelled_split(LABELS))
    assert first == fingerprint(labelled_split(LABELS, groups=list("aabb")))
    assert first != fingerprint(labelled_split([1, 0, 1, 2]))
    images = [np.full((4, 4), index, np.uint16) for index in range(4)]
    images[2][0, 1] += 1
    assert first != fingerprint(labelled_split(LABELS, images=images))


# ---------------------------------------------------------------- errors


def test_a_broken_image_is_named():
    split = labelled_split(LABELS)
    rows = split.cast_column("image", datasets.Image(decode=False)).to_list()
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:40]
    broken = datasets.Dataset.from_list(rows, features=split.features)
    with pytest.raises(CellsError, match="image 'image-2' of split 'test' cannot be evaluated"):
        evaluate(FakeClassifier(TABLE), broken)


def test_an_image_that_cannot_be_predicted_is_found_in_its_batch():
    def look(image):
        if image.flat[0] == 2:
            raise RuntimeError("out of ink")
        return int(image.flat[0])

    with pytest.raises(CellsError, match=r"image 'image-2' of split 'test'.*RuntimeError: out of ink"):
        evaluate(FakeClassifier(TABLE, look=look), labelled_split(LABELS))


def test_an_error_of_the_whole_batch_is_not_blamed_on_an_image():
    class Weary(FakeClassifier):
        def probabilities(self, images, batch_size=32):
            if len(images) > 1:
                raise MemoryError("too much")
            return super().probabilities(images, batch_size)

    with pytest.raises(MemoryError, match="too much"):
        evaluate(Weary(TABLE), labelled_split(LABELS))


def test_a_probability_that_is_no_number_is_named():
    table = np.array(TABLE)
    table[1, 0] = np.nan
    with pytest.raises(
        CellsError, match="image 'image-1' of split 'test' got a probability that is no number"
    ):
        evaluate(FakeClassifier(table), labelled_split(LABELS))


@pytest.mark.parametrize(
    ("split", "multi_label", "message"),
    [
        (
            labelled_split([0, 1, 3], names=[*NAMES, "dog"]),
            False,
            "'image-2' .*label 'dog', and the model knows ant",
        ),
        (labelled_split([0, None, 1]), False, "image 'image-1' of split 'test' has no label"),
        (labelled_split([[0], [1]]), False, "has no column 'label' .*one label an image"),
        (labelled_split([0]).remove_columns("label"), True, "has no column 'labels' .*several labels"),
        (labelled_split([0]).remove_columns("image"), False, "no column 'image'"),
        (labelled_split([0]).select([]), False, "has no images"),
    ],
)
def test_a_split_that_does_not_fit_the_model_is_refused(split, multi_label, message):
    with pytest.raises(CellsError, match=message):
        evaluate(FakeClassifier(TABLE, multi_label=multi_label), split)

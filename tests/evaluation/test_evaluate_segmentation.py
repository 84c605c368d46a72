"""evaluate_segmentation: hand-worked scores, strata, groups, and errors that name the image."""

import io
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import tifffile
from segmentation_cases import (
    FakePipe,
    instance_split,
    labels_of,
    make_split,
    only_first_object_and_nothing_of_three,
    perfect,
    png,
)

from hf_cells.errors import CellsError
from hf_cells.evaluation.examples import select_examples
from hf_cells.evaluation.results import metrics_line, read_results, write_results
from hf_cells.evaluation.scoring import precision_by_threshold
from hf_cells.evaluation.segmentation import evaluate_segmentation
from hf_cells.hub.tables import result_tables
from hf_cells.models.instance_decoding import DECODING_DEFAULTS


def evaluate(pipe, split, **arguments):
    return evaluate_segmentation(pipe, split, split_name="test", n_resamples=50, **arguments)


def value(evaluation, name):
    return evaluation.results["metrics"][name]["value"]


@pytest.fixture(scope="module")
def defective():
    pipe = FakePipe("instance_labels", only_first_object_and_nothing_of_three)
    return evaluate(pipe, instance_split())


def test_a_perfect_pipeline_scores_one():
    evaluation = evaluate(FakePipe("instance_labels", perfect), instance_split())
    for name in ("dsb_score", "ap50_image_mean", "ap50_pooled", "f1_50_pooled", "aji", "dice_per_image"):
        assert value(evaluation, name) == pytest.approx(1.0), name
    assert evaluation.results["metrics"]["dsb_score"]["ci"] == pytest.approx((1.0, 1.0))
    assert value(evaluation, "count_mean_absolute_error") == 0


def test_missed_objects_score_what_a_hand_works_out(defective):
    """a: 1 of 1 found, b: 1 of 2, c: 0 of 3, so TP 2, FP 0, FN 4."""
    assert value(defective, "dsb_score") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert value(defective, "ap50_image_mean") == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert value(defective, "ap50_pooled") == pytest.approx(2 / 6)
    assert value(defective, "f1_50_pooled") == pytest.approx(4 / (4 + 4))
    assert value(defective, "count_mean_absolute_error") == pytest.approx((0 + 1 + 3) / 3)
    assert value(defective, "dice_per_image") == pytest.approx((1 + 2 * 16 / 48 + 0) / 3)
    assert (value(defective, "objects_true"), value(defective, "objects_pred")) == (6, 2)
    assert defective.results["metrics"]["dsb_score"]["n"] == 3
    assert defective.results["metrics"]["objects_true"]["ci"] is None  # a total is no estimate


def test_strata_hold_the_metrics_of_their_images(defective):
    strata = defective.results["strata"]
    assert list(strata) == ["fluorescence", "histology"]
    assert strata["fluorescence"]["dsb_score"]["value"] == pytest.approx(0.75)
    assert strata["fluorescence"]["dsb_score"]["n"] == 2
    assert strata["fluorescence"]["dsb_score"]["ci"] is None  # both images are of one slide
    assert strata["histology"]["dsb_score"] == {"value": 0.0, "ci": None, "n": 1}


def test_rows_and_ranking(defective):
    assert [(row["image_id"], row["group"], row["modality"]) for row in defective.rows] == [
        ("a", "slide-1", "fluorescence"),
        ("b", "slide-1", "fluorescence"),
        ("c", "slide-2", "histology"),
    ]
    assert defective.rows[1]["metrics"]["dsb_score"] == pytest.approx(0.5)
    assert all(row["seconds"] > 0 for row in defective.rows)
    assert [row["image_id"] for row in defective.worst(2)] == ["c", "b"]
    assert [row["image_id"] for row in defective.best(5)] == ["a", "b", "c"]


def test_the_results_are_the_contract(defective, tmp_path):
    write_results(tmp_path / "results.json", defective.results)
    results = read_results(tmp_path / "results.json")
    assert results["dataset"]["name"] == "tiny"
    assert (results["dataset"]["config"], results["dataset"]["license"]) == ("instance", "cc0-1.0")
    assert results["split"] == {"name": "test", "unit": "group", "groups": 2, "leaks": None, "audit": None}
    assert results["decision"] == {"thresholds": {}, "temperature": 1.0, "chosen_on": "default"}
    assert results["run"]["seconds"] > 0
    assert metrics_line(results).startswith("dsb_score 0.500 [")


def test_what_is_known_elsewhere_is_laid_over_what_was_measured():
    pipe = FakePipe(
        "instance_labels", perfect, decision_thresholds={"seed": 0.6}, calibration_temperature=1.4
    )
    context = {"split": {"unit": "slide", "leaks": 0, "audit": "clean"}, "run": {"recipe": "r", "seed": 7}}
    results = evaluate(pipe, instance_split(), context=context).results
    assert results["split"] == {"name": "test", "unit": "slide", "groups": 2, "leaks": 0, "audit": "clean"}
    assert (results["run"]["recipe"], results["run"]["seed"]) == ("r", 7)
    assert results["decision"] == {
        "thresholds": {"seed": 0.6},
        "temperature": 1.4,
        "chosen_on": "validation",
    }


def test_decoding_thresholds_come_from_the_image_processor():
    pipe = FakePipe("instance_labels", perfect)
    pipe.image_processor = SimpleNamespace(decision_thresholds=dict(DECODING_DEFAULTS))
    decision = evaluate(pipe, instance_split()).results["decision"]
    assert decision == {"thresholds": DECODING_DEFAULTS, "temperature": 1.0, "chosen_on": "default"}

    name = next(iter(DECODING_DEFAULTS))
    pipe.image_processor.decision_thresholds[name] += 0.1
    pipe.image_processor.thresholds_chosen_on = "validation"  # the training says so when it has tuned them
    decision = evaluate(pipe, instance_split()).results["decision"]
    assert decision["thresholds"][name] == DECODING_DEFAULTS[name] + 0.1
    assert decision["chosen_on"] == "validation"


def test_without_group_and_modality_images_are_the_units():
    split = instance_split(drop=["group", "modality"])
    results = evaluate(FakePipe("instance_labels", perfect), split).results
    assert (results["split"]["unit"], results["split"]["groups"]) == ("image", 3)
    assert "strata" not in results


def test_the_fingerprint_follows_the_content():
    pipe = FakePipe("instance_labels", perfect)
    first, again = evaluate(pipe, instance_split()), evaluate(pipe, instance_split())
    changed = evaluate(pipe, instance_split().select([0, 1]))
    assert first.results["dataset"]["fingerprint"] == again.results["dataset"]["fingerprint"]
    assert first.results["dataset"]["fingerprint"] != changed.results["dataset"]["fingerprint"]


def test_the_pipeline_sees_16_bits():
    pipe = FakePipe("instance_labels", perfect)
    evaluate(pipe, instance_split())
    assert pipe.seen[2].max() == 3000
    assert pipe.seen[2].shape == (16, 16)


def test_the_pipeline_sees_16_bit_colour_too():
    """Pillow alone would cut these to 8 bits."""
    colour = np.arange(16 * 16 * 3, dtype=np.uint16).reshape(16, 16, 3) * 60
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, colour, photometric="rgb")
    rows = instance_split().cast_column("image", datasets.Image(decode=False)).to_list()[:1]
    rows[0]["image"] = {"bytes": buffer.getvalue(), "path": None}
    pipe = FakePipe("instance_labels", lambda image: labels_of([(2, 2)]))
    evaluation = evaluate(pipe, datasets.Dataset.from_list(rows, features=instance_split().features))
    assert np.array_equal(pipe.seen[0], colour)
    assert value(evaluation, "dsb_score") == pytest.approx(1.0)


# ---------------------------------------------------------------- semantic models


def semantic_split(truths):
    rows = [(str(i), None, None, truth * 50, truth) for i, truth in enumerate(truths)]
    return make_split(rows, truth="semantic_mask")


def test_a_semantic_pipeline_is_scored_on_masks():
    truth = np.zeros((10, 10), np.uint8)
    truth[:2] = 1

    def top_row(image):
        return (image // 50).astype(np.uint8) * (np.arange(10) == 0)[:, None].astype(np.uint8)

    evaluation = evaluate(FakePipe("semantic_mask", top_row), semantic_split([truth, truth]))
    assert evaluation.headline == "dice_per_image"
    assert value(evaluation, "dice_per_image") == pytest.approx(2 * 10 / 30)
    assert value(evaluation, "pixel_accuracy") == pytest.approx(0.9)
    assert value(evaluation, "mean_iou") == pytest.approx((80 / 90 + 10 / 20) / 2)
    per_class = evaluation.results["metrics"]["mean_iou"]["per_class"]
    assert per_class["nucleus"]["iou"] == pytest.approx(0.5)
    assert evaluation.rows[0]["modality"] == "unknown"


def test_classes_are_named_in_the_order_of_their_ids_and_ranked_by_mean_iou():
    truth = np.array([[0, 1], [2, 255]], np.uint8)
    names = {"2": "platelet", "0": "background", "1": "cell"}
    pipe = FakePipe("semantic_mask", lambda image: np.array([[0, 1], [1, 2]], np.uint8), id2label=names)
    evaluation = evaluate(pipe, semantic_split([truth, truth]))
    assert evaluation.headline == "mean_iou"
    per_class = evaluation.results["metrics"]["mean_iou"]["per_class"]
    assert list(per_class) == ["background", "cell", "platelet"]
    assert [per_class[name]["iou"] for name in per_class] == [1.0, 0.5, 0.0]  # 255 does not count


def test_a_two_class_model_is_scored_on_the_foreground_of_instances():
    pipe = FakePipe("semantic_mask", lambda image: (image > 0).astype(np.uint8))
    assert value(evaluate(pipe, instance_split()), "dice_per_image") == 1.0


# ---------------------------------------------------------------- errors


def test_an_image_that_fails_is_named():
    def fails_on_b(image):
        if image.max() == 2000:
            raise RuntimeError("out of ink")
        return perfect(image)

    with pytest.raises(CellsError, match=r"image 'b' of split 'test'.*RuntimeError: out of ink"):
        evaluate(FakePipe("instance_labels", fails_on_b), instance_split())


def test_a_broken_image_file_is_named():
    split = instance_split()
    rows = split.cast_column("image", datasets.Image(decode=False)).to_list()
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:40]
    broken = datasets.Dataset.from_list(rows, features=split.features)
    with pytest.raises(CellsError, match="image 'b' of split 'test'"):
        evaluate(FakePipe("instance_labels", perfect), broken)


def test_a_prediction_of_another_size_is_named():
    with pytest.raises(CellsError, match=r"image 'a'.*shape"):
        evaluate(FakePipe("instance_labels", lambda image: perfect(image)[:8]), instance_split())


@pytest.mark.parametrize(
    ("pipe", "split", "message"),
    [
        (FakePipe("boxes", perfect), instance_split, "the pipeline returned boxes"),
        (
            FakePipe("semantic_mask", perfect, id2label={0: "a", 1: "b", 2: "c"}),
            instance_split,
            "predicts 3 classes.*'semantic_mask'",
        ),
        (
            FakePipe("instance_labels", np.zeros_like),
            lambda: semantic_split([labels_of([(1, 1)]).astype(np.uint8)]),
            "predicts instances.*'instance_labels'",
        ),
        (FakePipe("instance_labels", perfect), lambda: instance_split(drop=["image"]), "no column 'image'"),
        (FakePipe("instance_labels", perfect), lambda: instance_split().select([]), "has no images"),
    ],
)
def test_a_model_that_does_not_fit_the_split_is_refused(pipe, split, message):
    with pytest.raises(CellsError, match=message):
        evaluate(pipe, split())


# ---------------------------------------------------------------- for figures


def test_examples_are_the_worst_median_and_best_and_name_no_image():
    pipe = FakePipe("instance_labels", only_first_object_and_nothing_of_three)
    evaluation = evaluate(pipe, instance_split())
    examples = select_examples(evaluation, pipe, instance_split())
    assert [example.title for example in examples] == [
        "worst: dsb_score 0.00, 3 true and 0 predicted objects",
        "median: dsb_score 0.50, 2 true and 1 predicted objects",
        "best: dsb_score 1.00, 1 true and 1 predicted objects",
    ]
    assert np.array_equal(examples[0].truth, labels_of([(2, 2), (2, 10), (10, 2)]))
    assert examples[0].prediction.max() == 0
    assert examples[0].class_names is None


def test_a_small_split_shows_each_image_once():
    pipe = FakePipe("instance_labels", perfect)
    evaluation = evaluate(pipe, instance_split())
    assert len(select_examples(evaluation, pipe, instance_split(), each=5)) == 3


def test_precision_by_threshold_equals_the_aggregates(defective):
    rows = precision_by_threshold(defective.statistics)
    assert [row["threshold"] for row in rows] == pytest.approx(np.arange(0.5, 1, 0.05))
    assert rows[0]["ap_pooled"] == pytest.approx(value(defective, "ap50_pooled"))
    assert rows[0]["ap_image_mean"] == pytest.approx(value(defective, "ap50_image_mean"))
    assert rows[5]["ap_pooled"] == pytest.approx(value(defective, "ap75_pooled"))


def test_precision_by_threshold_without_objects_is_undefined():
    empty = evaluate(
        FakePipe("instance_labels", perfect),
        make_split([("e", None, "x", labels_of([]), labels_of([]))]),
    )
    assert all(np.isnan(row["ap_pooled"]) for row in precision_by_threshold(empty.statistics))
    assert value(empty, "dsb_score") == 1.0


# ---------------------------------------------------------------- several classes

CELLS = {"0": "background", "1": "lymphocyte", "2": "monocyte", "3": "platelet"}
GROUPS = {"white_cell": ["lymphocyte", "monocyte"]}


def two_cells():
    """A lymphocyte, a platelet, and background for the rest."""
    truth = np.zeros((20, 30), np.uint8)
    truth[2:12, 2:12], truth[2:8, 20:26] = 1, 3
    return truth


def as_monocyte(image):
    mask = (image // 50).astype(np.uint8)
    mask[mask == 1] = 2
    return mask


def test_several_classes_have_objects_groups_and_a_floor():
    pipe = FakePipe("semantic_mask", as_monocyte, id2label=CELLS, class_groups=GROUPS)
    evaluation = evaluate(pipe, semantic_split([two_cells()] * 6))
    found = evaluation.results["metrics"]
    assert found["mean_iou"]["value"] == pytest.approx((1 + 0 + 0 + 1) / 4)
    assert found["mean_iou_merged"]["value"] == 1.0
    assert list(found["mean_iou_merged"]["per_class"]) == ["background", "white_cell", "platelet"]
    assert found["pixel_accuracy_all_background"]["value"] == pytest.approx((600 - 136) / 600)
    assert found["object_f1_50"]["per_class"]["platelet"]["f1_50"] == 1
    assert found["object_f1_50"]["per_class"]["lymphocyte"]["objects_true"] == 6
    assert found["object_class_accuracy"]["value"] == 0.5 and found["object_consistency"]["value"] == 1
    assert found["objects_true"]["ci"] is None and found["mean_iou_merged"]["ci"] is not None


def test_classes_with_few_examples_are_named(tmp_path):
    pipe = FakePipe("semantic_mask", as_monocyte, id2label=CELLS)
    splits = {n: semantic_split([two_cells()] * n) for n in (4, 6)}
    few, enough = (evaluate(pipe, splits[n]).results for n in (4, 6))
    assert few["rare_classes"]["counts"] == {"lymphocyte": 4, "monocyte": 0, "platelet": 4}
    assert enough["rare_classes"] == {"fewest": 5, "unit": "objects", "counts": {"monocyte": 0}}
    assert enough["metrics"]["mean_iou_without_rare"]["value"] == pytest.approx((1 + 0 + 1) / 3)
    write_results(tmp_path / "results.json", enough)
    titles = [table.title for table in result_tables(read_results(tmp_path / "results.json"))]
    assert "Per class: `mean_iou`, fewer than 5 test objects" in titles


def test_examples_of_composed_images_are_their_source_samples():
    split = semantic_split([two_cells()] * 6)
    sources = [[f"lymphocyte/cell-{i}", "platelet/the-only-one"] for i in range(6)]
    rare = evaluate(
        FakePipe("semantic_mask", as_monocyte, id2label=CELLS), split.add_column("sources", sources)
    ).results["rare_classes"]
    assert rare == {"fewest": 5, "unit": "source samples", "counts": {"monocyte": 0, "platelet": 1}}


def test_known_cells_are_counted_where_they_touch():
    truth, cells = two_cells(), two_cells()
    cells[2:12, 7:12] = 2  # the lymphocyte is two of them
    split = semantic_split([truth] * 2)
    column = datasets.Dataset.from_dict({"c": [png(cells)] * 2}, datasets.Features({"c": datasets.Image()}))
    split = datasets.concatenate_datasets([split, column.rename_column("c", "cell_labels")], axis=1)
    pipe = FakePipe("semantic_mask", lambda image: (image // 50).astype(np.uint8), id2label=CELLS)
    table = evaluate(pipe, split).results["metrics"]["object_f1_50"]["per_class"]
    assert table["lymphocyte"]["objects_true"] == 4 and table["lymphocyte"]["objects_pred"] == 2
    assert table["lymphocyte"]["count_mean_absolute_error"] == 1


def test_examples_carry_the_colours_of_the_model():
    colours = {name: [index, 10, 20] for index, name in enumerate(CELLS.values())}
    split = semantic_split([two_cells()] * 3)
    for known, expected in ((colours, (2, 10, 20)), ({"platelet": [1, 2, 3]}, None), (None, None)):
        pipe = FakePipe("semantic_mask", as_monocyte, id2label=CELLS, class_colors=known)
        (example, *_) = select_examples(evaluate(pipe, split), pipe, split)
        assert (example.class_colors and example.class_colors[2]) == expected

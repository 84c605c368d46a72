"""The pointing game in `evaluate_classification`, with a network that is known by hand."""

import datasets
import numpy as np
import pytest
from colour_network import COLOURS, colour_pipeline, with_squares
from segmentation_cases import png

from hf_cells.errors import CellsError
from hf_cells.evaluation.classification import evaluate_classification
from hf_cells.evaluation.results import metrics_line, read_results, write_results
from hf_cells.models import CellClassificationConfig, CellForImageClassification

POINTING = {"pointing_game", "pointing_game_15px", "pointing_game_centre"}
SQUARES = [
    {"red": (2, 4, 10, 12)},
    {"red": (2, 4, 10, 12), "blue": (30, 30, 38, 44)},
    {"blue": (16, 20, 30, 34)},
    {},
]


def split_with_boxes(boxes=None, keep=True):
    """Four images; the boxes are those of the squares unless given as a list for each image."""
    entry = {"label": datasets.Value("string"), "box": datasets.List(datasets.Value("int32"))}
    features = {
        "image_id": datasets.Value("string"),
        "group": datasets.Value("string"),
        "image": datasets.Image(),
        "labels": datasets.List(datasets.ClassLabel(names=COLOURS)),
        **({"boxes": datasets.List(entry)} if keep else {}),
    }
    rows = []
    for index, squares in enumerate(SQUARES):
        true = [{"label": k, "box": [v[1], v[0], v[3], v[2]]} for k, v in squares.items()]
        row = {
            "image_id": f"image-{index}",
            "group": f"slide-{index % 3}",
            "image": png(with_squares((48, 64), **squares)),
            "labels": list(squares),
        }
        rows.append(row | ({"boxes": boxes[index] if boxes else true} if keep else {}))
    return datasets.Dataset.from_list(rows, datasets.Features(features))


def measured(split, pipe=None):
    return evaluate_classification(
        pipe or colour_pipeline(), split, split_name="test", n_resamples=40
    ).results


def test_maps_that_show_the_objects_hit_always(tmp_path):
    results = measured(split_with_boxes())
    entry = results["metrics"]["pointing_game"]
    assert entry["value"] == 1 and entry["n"] == 4 and entry["ci"] == (1, 1)
    assert entry["per_class"]["red"]["support"] == entry["per_class"]["blue"]["support"] == 2
    assert np.isnan(entry["per_class"]["green"]["pointing_game"])
    # The middle, row 23.5 and column 31.5, lies in one of the two images with blue.
    assert results["metrics"]["pointing_game_centre"]["value"] == pytest.approx((0 + 1 / 2) / 2)
    assert "pointing_game 1.000 [1.00, 1.00]" in metrics_line(results)
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json")["metrics"]["pointing_game_15px"]["value"] == 1


def test_a_wrong_place_misses_and_near_is_near():
    wrong = [
        [
            {"label": "red", "box": [22, 2, 25, 10]}
        ],  # the square ends at column 11: 15 pixels from its middle, 7.5
        [{"label": "red", "box": [60, 40, 64, 48]}, {"label": "blue", "box": [30, 30, 44, 38]}],
        [],
        [],
    ]
    results = measured(split_with_boxes(wrong))
    per_class = results["metrics"]["pointing_game"]["per_class"]
    assert (per_class["red"]["pointing_game"], per_class["blue"]["pointing_game"]) == (0, 1)
    assert per_class["red"]["pointing_game_15px"] == 1 / 2
    assert results["metrics"]["pointing_game"]["value"] == 1 / 2


def test_nothing_is_reported_without_boxes_or_without_maps():
    assert not POINTING & measured(split_with_boxes(keep=False))["metrics"].keys()
    flat = colour_pipeline({"size": {"height": 8, "width": 8}})
    flat.model = CellForImageClassification(
        CellClassificationConfig(
            hidden_sizes=[],
            pooling="flatten",
            image_size=8,
            id2label=dict(enumerate(COLOURS)),
            problem_type="multi_label_classification",
        )
    )
    assert not POINTING & measured(split_with_boxes(), flat)["metrics"].keys()


def test_a_broken_box_names_the_image():
    broken = [[], [{"label": "red", "box": [10, 3, 4, 9]}], [], []]
    with pytest.raises(CellsError, match=r"image 'image-1' .*box \[10, 3, 4, 9\] of red is not left, top"):
        measured(split_with_boxes(broken))

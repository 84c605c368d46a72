"""The challenge's metric: cases worked by hand, and overlaps equal to those of pycocotools."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.metrics.hpa import (
    CellStatements,
    aggregate_cells,
    interpolated_average_precision,
    overlaps,
    predicted_cells,
    score_cells,
    true_cells,
)

mask_tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def squares(*places: tuple[int, int, int], shape: tuple[int, int] = (20, 40)) -> np.ndarray:
    """Label image of squares (row, column, side)."""
    labels = np.zeros(shape, int)
    for number, (row, column, side) in enumerate(places, start=1):
        labels[row : row + side, column : column + side] = number
    return labels


def said(cells: int, **scores: float) -> np.ndarray:
    """Table (cells, 19) of c<cell>_<class>=score, the rest unsaid."""
    table = np.full((cells, 19), np.nan)
    for name, score in scores.items():
        cell, label = name[1:].split("_")
        table[int(cell) - 1, int(label)] = score
    return table


TWO = squares((2, 2, 10), (2, 20, 10))


def test_perfect_prediction_is_one():
    row = score_cells(
        true_cells(TWO, [{0}, {0, 7}]), predicted_cells(TWO, said(2, c1_0=0.9, c2_0=0.8, c2_7=0.7))
    )
    assert row == {
        0: {"scores": [0.9, 0.8], "hits": [1, 1], "objects": 2},
        7: {"scores": [0.7], "hits": [1], "objects": 1},
    }
    found = aggregate_cells([row])
    assert found["mean_average_precision"] == 1 and found["objects"][:8] == [2, 0, 0, 0, 0, 0, 0, 1]
    assert math.isnan(found["average_precision"][1])


def test_average_precision_by_hand():
    # Hits at ranks 1 and 3 of 4 with 3 objects: precision 1, 1/2, 2/3, 1/2; envelope 1 to recall 1/3, 2/3 to 2/3.
    assert interpolated_average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 3) == pytest.approx(
        1 / 3 + 2 / 9
    )
    assert interpolated_average_precision([0.6, 0.9], [1, 0], 1) == pytest.approx(0.5)
    assert interpolated_average_precision([], [], 2) == 0
    assert math.isnan(interpolated_average_precision([0.5], [0], 0))


@pytest.mark.parametrize(("shift", "hit"), [(2, 1), (3, 0)])
def test_the_overlap_decides_from_six_tenths_on(shift, hit):
    # A square of 10 moved by 2 shares 80 of 120 pixels (.667), by 3 70 of 130 (.538).
    truth = true_cells(squares((2, 2, 10)), [{3}])
    row = score_cells(truth, predicted_cells(squares((2, 2 + shift, 10)), said(1, c1_3=0.5)))
    assert row[3]["hits"] == [hit]


def test_an_overlap_of_exactly_six_tenths_is_enough():
    labels = np.zeros((4, 10), int)
    labels[0, :6] = 1
    whole = np.zeros((4, 10), int)
    whole[0] = 1
    row = score_cells(true_cells(whole, [{3}]), predicted_cells(labels, said(1, c1_3=0.5)))
    assert row[3]["hits"] == [1]


def test_one_cell_is_found_once_and_the_best_overlap_counts():
    truth = true_cells(squares((2, 2, 10)), [{0}])
    image = squares((2, 2, 10)).astype(bool)
    runs = predicted_cells(image.astype(int), said(1, c1_0=1.0)).runs[0]
    twice = CellStatements(
        (20, 40), [runs, runs], np.array([0, 1]), np.array([0, 0]), np.array([0.4, 0.9]), np.zeros(2, bool)
    )
    assert score_cells(truth, twice)[0] == {"scores": [0.9, 0.4], "hits": [1, 0], "objects": 1}


def test_classes_that_were_not_verified_are_ignored():
    prediction = predicted_cells(TWO, said(2, c1_0=0.9, c2_5=0.8, c2_6=0.7))
    truth = true_cells(TWO, [{0}, {0}])
    assert set(score_cells(truth, prediction)) == {0}
    row = score_cells(truth, prediction, verified=[5])
    assert row[5] == {"scores": [0.8], "hits": [0], "objects": 0} and 6 not in row
    assert math.isnan(aggregate_cells([row])["average_precision"][5])  # no true object in any image
    assert aggregate_cells([row])["mean_average_precision"] == 0.5
    other = score_cells(true_cells(TWO, [{5}, {5}]), predicted_cells(TWO, said(2, c1_5=0.7, c2_5=0.6)))
    # 0.8 is false, then two hits: (1/2 + 2/3 of the envelope) → 2/3 at both recalls.
    assert aggregate_cells([row, other])["average_precision"][5] == pytest.approx(2 / 3)


def test_groups_count_once_with_the_best_score():
    heap = squares((0, 0, 16))
    truth = true_cells(heap, [{2}], group_of={1})
    inside = squares((1, 1, 5), (8, 8, 5), (2, 30, 5))
    row = score_cells(truth, predicted_cells(inside, said(3, c1_2=0.3, c2_2=0.6, c3_2=0.5)))
    assert row[2] == {"scores": [0.5, 0.6], "hits": [0, 1], "objects": 1}
    assert aggregate_cells([row])["average_precision"][2] == 1
    missed = score_cells(truth, predicted_cells(squares((2, 30, 5)), said(1, c1_2=0.5)))
    assert missed[2] == {"scores": [0.5], "hits": [0], "objects": 1}


def test_a_hit_on_a_single_cell_is_not_the_groups():
    labels = squares((2, 2, 10), (2, 20, 12))
    truth = true_cells(labels, [{2}, {2}], group_of={2})
    row = score_cells(truth, predicted_cells(squares((2, 2, 10)), said(1, c1_2=0.9)))
    assert row[2] == {"scores": [0.9], "hits": [1], "objects": 2}


def test_boxes_forgive_what_masks_do_not():
    ring = squares((2, 2, 10))
    ring[3:11, 3:11] = 0
    truth, prediction = true_cells(squares((2, 2, 10)), [{0}]), predicted_cells(ring, said(1, c1_0=0.5))
    assert score_cells(truth, prediction)[0]["hits"] == [0]
    assert score_cells(truth, prediction, iou_type="box")[0]["hits"] == [1]


def test_empty_images_and_absent_cells():
    none = np.zeros((20, 40), int)
    empty = predicted_cells(none, np.zeros((0, 19)))
    assert score_cells(true_cells(none, []), empty) == {}
    assert score_cells(true_cells(TWO, [{1}, {1}]), empty)[1] == {"scores": [], "hits": [], "objects": 2}
    row = score_cells(true_cells(none, []), predicted_cells(TWO, said(2, c1_1=0.5)), verified=range(19))
    assert row[1]["hits"] == [0] and math.isnan(aggregate_cells([row])["mean_average_precision"])
    assert score_cells(true_cells(none, [{4}]), empty)[4]["objects"] == 1


def test_wrong_input_is_refused():
    truth = true_cells(TWO, [{1}, {1}])
    with pytest.raises(ValueError, match="pixels"):
        score_cells(truth, predicted_cells(TWO.T, said(2)))
    with pytest.raises(ValueError, match="iou_type"):
        score_cells(truth, predicted_cells(TWO, said(2)), iou_type="edge")
    with pytest.raises(ValueError, match="are described"):
        true_cells(TWO, [{1}])


MASKS = st.tuples(st.integers(1, 17), st.integers(1, 17), st.integers(0, 2**32 - 1))


@given(MASKS)
@settings(max_examples=80)
def test_overlaps_are_those_of_pycocotools(made):
    height, width, seed = made
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) < rng.random() for _ in range(5)]
    runs = [true_cells(mask.astype(int), [{0}]).runs[0] for mask in masks]
    texts = [mask_tools.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    for kind in ("mask", "box"):
        shared, true_areas, pred_areas = overlaps(runs[:2], runs[2:], (height, width), kind)
        union = true_areas[:, None] + pred_areas[None] - shared
        theirs = texts if kind == "mask" else [mask_tools.toBbox(text) for text in texts]
        theirs = mask_tools.iou(
            *(part if kind == "mask" else np.array(part) for part in (theirs[:2], theirs[2:])), [0] * 3
        )
        np.testing.assert_allclose(np.where(union > 0, shared / np.maximum(union, 1), 0), theirs)

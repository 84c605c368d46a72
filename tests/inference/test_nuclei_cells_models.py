"""Cells from a model's maps and nuclei: one cell a nucleus, nuclei without a border between them in one cell."""

import numpy as np
import pytest
from tiny_hpa_fields import draw_culture

from hf_cells.inference.nuclei_cells_models import flood_from_nuclei
from hf_cells.metrics import aggregate_instances, score_instances
from hf_cells.models.instance_decoding import DECODING_DEFAULTS
from hf_cells.models.instance_targets import instance_targets


def logits(cells):
    """Maps of a model that knows the truth."""
    foreground, boundary, distance = instance_targets(cells)
    return np.stack([20 * foreground - 10, 20 * boundary - 10, distance])


def test_touching_cells_follow_their_nuclei():
    _, nuclei, cells = draw_culture()
    numbered, found = flood_from_nuclei(nuclei, logits(cells), DECODING_DEFAULTS)
    assert found.dtype == np.int32 and np.array_equal(numbered, nuclei)
    scores = aggregate_instances([score_instances(cells, found)])
    assert scores["ap50_pooled"] == 1 and scores["sq"] > 0.95
    assert (found[nuclei > 0] == nuclei[nuclei > 0]).all()


@pytest.mark.parametrize(("waist", "count"), [(40, 1), (8, 2)])
def test_two_nuclei_share_a_cell_where_nothing_narrows_between_them(waist, count):
    cells, nuclei = np.zeros((100, 200), np.int32), np.zeros((100, 200), np.int32)
    cells[30:70, 20:180] = 1
    cells[30 : 50 - waist // 2, 90:110] = cells[50 + waist // 2 : 70, 90:110] = 0
    nuclei[45:55, 40:60], nuclei[45:55, 140:160] = 1, 2
    numbered, found = flood_from_nuclei(nuclei, logits(cells), DECODING_DEFAULTS)
    assert len(set(found[found > 0])) == len(set(numbered[numbered > 0])) == count
    assert ((found > 0) == (cells > 0)).mean() > 0.99
    assert (found[nuclei > 0] == numbered[nuclei > 0]).all()


def test_foreground_without_a_nucleus_is_no_cell():
    _, nuclei, cells = draw_culture()
    apart = np.zeros_like(cells)
    apart[cells == 1], apart[cells == 9] = 1, 9
    _, found = flood_from_nuclei(np.where(nuclei == 1, 1, 0), logits(apart), DECODING_DEFAULTS)
    assert set(np.unique(found)) == {0, 1} and not found[cells == 9].any()
    assert not flood_from_nuclei(np.zeros_like(nuclei), logits(cells), DECODING_DEFAULTS)[1].any()

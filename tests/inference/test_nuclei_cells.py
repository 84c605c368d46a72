"""Nuclei and cells of a field: the classical engine, ownership, scaling."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage
from tiny_hpa_fields import draw_culture

from hf_cells.inference.nuclei_cells import own_nuclei, segment_field, touches_border
from hf_cells.inference.nuclei_cells_models import with_missing_cells
from hf_cells.inference.nuclei_cells_nuclei import find_nuclei, typical_diameter
from hf_cells.inference.nuclei_cells_scaling import enlarge_labels, shrink
from hf_cells.metrics import aggregate_instances, score_instances


def ap50(true, found):
    return aggregate_instances([score_instances(true, found)])["ap50_pooled"]


def segment(images, **options):
    return segment_field(images["red"], images["yellow"], images["blue"], **options)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_nucleus_and_every_touching_cell_is_found(seed):
    images, nuclei, cells = draw_culture(seed=seed)
    found = segment(images)
    assert found.cells.shape == cells.shape and found.cells.dtype == np.int32
    assert ap50(nuclei, found.nuclei) == 1 and ap50(cells, found.cells) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda plane: plane.astype(np.uint16) * 200 + 500,
        lambda plane: plane.astype(np.float32) / 255,
        lambda plane: (plane // 4 + 20).astype(np.uint8),
    ],
    ids=["16 bit with offset", "float", "dim"],
)
def test_range_and_type_of_the_stains_do_not_matter(change):
    images, nuclei, cells = draw_culture()
    found = segment({colour: change(plane) for colour, plane in images.items()})
    assert ap50(nuclei, found.nuclei) == 1 and ap50(cells, found.cells) == 1


def test_without_er_and_without_microtubules():
    images, _, cells = draw_culture()
    assert ap50(cells, segment_field(images["red"], None, images["blue"]).cells) == 1
    assert ap50(cells, segment({**images, "red": np.zeros_like(images["red"])}).cells) == 1


def test_each_cell_is_one_piece_that_owns_its_nucleus():
    images, _, _ = draw_culture(seed=3)
    found = segment(images)
    assert set(np.unique(found.nuclei)) == set(range(found.cells.max() + 1))
    assert (found.cells[found.nuclei > 0] == found.nuclei[found.nuclei > 0]).all()
    for number in range(1, found.cells.max() + 1):
        assert ndimage.label(found.cells == number)[1] == 1


def test_a_field_without_cells_has_no_labels():
    noise = np.random.default_rng(0).normal(20, 4, (200, 200)).astype(np.float32)
    flat = np.zeros((64, 64), np.uint8)
    assert segment_field(noise, noise, noise).cells.max() == 0
    assert segment_field(flat, flat, flat).nuclei.max() == 0


@pytest.mark.parametrize(("side", "count"), [(90, 9), (560, 169), (560, 4)])
def test_small_and_large_nuclei_are_brought_to_a_workable_size(side, count):
    images, nuclei, cells = draw_culture(side=side, cells=count)
    found = segment(images)
    assert ap50(nuclei, found.nuclei) > 0.95 and ap50(cells, found.cells) > 0.9


def test_touching_nuclei_are_split_and_lobes_are_not():
    rows, columns = np.mgrid[:120, :200]
    two = (np.hypot(rows - 60, columns - 60) < 26) | (np.hypot(rows - 60, columns - 108) < 26)
    lobed = (np.hypot(rows - 60, columns - 60) < 26) | (np.hypot(rows - 60, columns - 88) < 26)
    assert find_nuclei(200.0 * two).max() == 2
    assert find_nuclei(200.0 * lobed).max() == 1


def test_debris_does_not_move_the_typical_diameter():
    labels = np.zeros((200, 200), np.int32)
    rows, columns = np.mgrid[:200, :200]
    labels[np.hypot(rows - 60, columns - 60) < 20] = 1
    assert typical_diameter(labels) == pytest.approx(40, abs=1)
    for number in range(2, 12):
        labels[150, 10 * number] = number
    assert typical_diameter(labels) == pytest.approx(40, abs=1)
    assert typical_diameter(np.zeros((5, 5), np.int32)) == 0


@given(
    arrays(np.int32, (7, 8), elements=st.integers(0, 4)),
    arrays(np.int32, (7, 8), elements=st.integers(0, 4)),
)
def test_ownership_is_one_numbering_without_gaps(nuclei, cells):
    owned, kept = own_nuclei(nuclei, cells)
    assert set(np.unique(owned[owned > 0])) == set(np.unique(kept[kept > 0])) == set(range(1, kept.max() + 1))
    assert (kept[owned > 0] == owned[owned > 0]).all()
    assert (nuclei[owned > 0] > 0).all() and (cells[kept > 0] > 0).all()


def test_a_cell_of_two_nuclei_stays_one_cell():
    cells = np.ones((10, 20), np.int32)
    nuclei = np.zeros_like(cells)
    nuclei[3:6, 3:6], nuclei[3:6, 12:15] = 1, 2
    owned, kept = own_nuclei(nuclei, cells)
    assert kept.max() == 1 and set(np.unique(owned)) == {0, 1} and (owned > 0).sum() == 18


def test_a_nucleus_that_a_cell_model_leaves_out_gets_a_cell():
    images, nuclei, cells = draw_culture()
    without = np.where(cells == 5, 0, cells)
    complete = with_missing_cells(nuclei, without, [images["red"].astype(np.float32)])
    assert ap50(cells, complete) == 1
    assert np.array_equal(complete[without > 0], without[without > 0])


def test_engines_are_called_at_working_scale_and_may_be_replaced():
    images, nuclei, cells = draw_culture()
    seen = []

    def nuclei_engine(blue):
        seen.append(blue.shape)
        return nuclei[::2, ::2].copy()

    found = segment(
        images,
        scale_factor=0.5,
        nuclei_engine=nuclei_engine,
        cell_engine=lambda nuclei, channels: cells[::2, ::2],
    )
    assert seen == [(128, 128)] and ap50(cells, found.cells) == 1


def test_bad_channels_and_scales_are_refused():
    plane = np.zeros((8, 8))
    with pytest.raises(ValueError, match="one size"):
        segment_field(plane, plane, np.zeros((8, 9)))
    with pytest.raises(ValueError, match="at most 1"):
        segment_field(plane, plane, plane, scale_factor=25)


def test_border_cells_are_flagged():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 3], labels[4, 4], labels[5, 8] = 1, 2, 3
    assert touches_border(labels).tolist() == [False, True, False, True]


def test_enlarged_labels_keep_their_numbers_and_places():
    _, _, cells = draw_culture(side=96)
    large = enlarge_labels(cells, (384, 400))
    assert large.shape == (384, 400) and set(np.unique(large)) == set(np.unique(cells))
    rows, columns = np.arange(384) // 4, np.arange(400) * 96 // 400
    assert (large == cells[rows][:, columns]).mean() > 0.96
    assert shrink(np.ones((40, 60), np.uint16), 0.25).shape == (10, 15)


def test_real_fields(real_data):
    """Counted by eye: 19 and 11 nuclei, each with a cell; those that only show a rim at the border have none."""
    counts = {}
    with zipfile.ZipFile(real_data("hpa_fields.zip")) as archive:
        for name in ("000a6c98-bb9b-11e8-b2b9-ac1f6b6435d0", "89_B5_1"):
            planes = {
                colour: np.asarray(Image.open(archive.open(f"train/{name}_{colour}.png")))
                for colour in ("red", "yellow", "blue")
            }
            found = segment(planes)
            assert set(np.unique(found.nuclei)) == set(np.unique(found.cells))
            counts[name] = int(found.cells.max())
    assert list(counts.values()) == [19, 11]

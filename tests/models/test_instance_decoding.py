"""Maps to objects and back, on shapes whose number and place are known."""

import numpy as np
import pytest
from discs import match
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hf_cells.models import DECODING_DEFAULTS, INSTANCE_MAPS, decode_instances, instance_targets


def _as_logits(labels: np.ndarray) -> np.ndarray:
    """What a perfect network would say."""
    maps = instance_targets(labels)
    for name in ("foreground", "boundary"):
        index = INSTANCE_MAPS.index(name)
        maps[index] = 12 * maps[index] - 6
    return maps


def _disc(size: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_touching_discs_are_two_objects():
    labels = np.zeros((40, 60), int)
    labels[_disc((40, 60), 20, 20, 10)] = 7
    labels[_disc((40, 60), 20, 40, 10)] = 3
    assert (labels[20, 29:32] > 0).all()  # they do touch
    found, scores = decode_instances(_as_logits(labels))
    assert found.dtype == np.int32
    assert scores.dtype == np.float32
    assert np.unique(found).tolist() == [0, 1, 2]
    assert min(match(labels, found)) > 0.95
    assert (scores > 0.95).all()


def test_one_disc_is_one_object():
    labels = _disc((40, 40), 18, 21, 12).astype(int)
    found, scores = decode_instances(_as_logits(labels))
    assert np.array_equal(found > 0, labels > 0)
    assert len(scores) == 1


def test_nothing_gives_nothing():
    found, scores = decode_instances(_as_logits(np.zeros((30, 20), int)))
    assert found.shape == (30, 20)
    assert not found.any()
    assert scores.shape == (0,)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_slivers(size):
    maps = _as_logits(np.ones(size, int))
    assert not decode_instances(maps)[0].any()  # smaller than min_size
    found, scores = decode_instances(maps, {"min_size": 1, "smoothing": 0})
    assert (found > 0).all()
    assert len(scores) == found.max()


def test_one_pixel_object():
    labels = np.zeros((9, 9), int)
    labels[4, 4] = 5
    found, _ = decode_instances(_as_logits(labels), {"min_size": 1, "smoothing": 0})
    assert np.array_equal(found, labels > 0)
    assert not decode_instances(_as_logits(labels), {"min_size": 2})[0].any()


def test_a_full_field_is_one_object():
    found, _ = decode_instances(_as_logits(np.full((20, 30), 9)))
    assert (found == 1).all()


def test_a_dent_deeper_than_merge_depth_splits():
    """Two peaks of height 1 with a pass at 0.7 between them."""
    maps = np.zeros((3, 21, 41), np.float32)
    maps[0], maps[1] = 6, -12
    x = np.abs(np.arange(41) - 20)
    maps[2] = 1 - 0.3 * np.clip(1 - x / 10, 0, 1) - 0.02 * np.abs(np.arange(21) - 10)[:, None]
    count = {depth: decode_instances(maps, {"merge_depth": depth})[0].max() for depth in (0.1, 0.5)}
    assert count == {0.1: 2, 0.5: 1}


def test_doubtful_objects_score_low_and_can_be_dropped():
    labels = np.zeros((40, 60), int)
    labels[_disc((40, 60), 20, 15, 9)] = 1
    labels[_disc((40, 60), 20, 45, 9)] = 2
    maps = _as_logits(labels)
    maps[0][labels == 2] = 0.4  # sigmoid 0.6
    found, scores = decode_instances(maps)
    by_place = {int(found[20, 15]): "sure", int(found[20, 45]): "doubtful"}
    named = {by_place[i + 1]: float(score) for i, score in enumerate(scores)}
    assert named["sure"] > 0.99
    assert named["doubtful"] == pytest.approx(0.6, abs=0.01)
    kept, scores = decode_instances(maps, {"min_score": 0.8})
    assert kept.max() == len(scores) == 1
    assert kept[20, 15] == 1
    assert kept[20, 45] == 0


def test_settings_are_all_used():
    labels = np.zeros((64, 64), int)
    labels[_disc((64, 64), 20, 20, 10)] = 1
    labels[_disc((64, 64), 20, 37, 9)] = 2
    labels[_disc((64, 64), 50, 50, 3)] = 3
    maps = _as_logits(labels) + np.random.default_rng(0).normal(0, 0.3, (3, 64, 64)).astype(np.float32)
    extreme = {
        "foreground": 0.998,
        "merge_depth": 2.0,
        "boundary_weight": 0.0,
        "smoothing": 0.0,
        "min_size": 200.0,
        "min_score": 0.999,
    }
    assert extreme.keys() == DECODING_DEFAULTS.keys()
    usual = decode_instances(maps)[0]
    for name, value in extreme.items():
        assert not np.array_equal(decode_instances(maps, {name: value})[0], usual), name


@st.composite
def _ellipses(draw) -> np.ndarray:
    """Label images of ellipses; later ones fill only free pixels, so many touch, and none is covered."""
    size = (draw(st.integers(48, 80)), draw(st.integers(48, 80)))
    rows, columns = np.mgrid[: size[0], : size[1]]
    labels = np.zeros(size, int)
    for label in range(1, draw(st.integers(1, 7)) + 1):
        y, x = draw(st.floats(0, size[0])), draw(st.floats(0, size[1]))
        a = draw(st.floats(6, 11))
        b = draw(st.floats(0.7, 1)) * a
        angle = draw(st.floats(0, np.pi))
        u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        shape = (u / a) ** 2 + (v / b) ** 2 <= 1
        if shape.sum() >= 60 and (labels[shape] == 0).mean() > 0.97:
            labels[shape & (labels == 0)] = label
    return labels


@settings(max_examples=60, deadline=None, derandomize=True)
@given(_ellipses())
def test_perfect_maps_give_the_objects_back(labels):
    found, scores = decode_instances(_as_logits(labels))
    present = np.unique(labels[labels > 0])
    assert np.unique(found[found > 0]).tolist() == list(range(1, len(scores) + 1))
    assert found.max() == len(present)
    assert min(match(labels, found), default=1.0) > 0.85
    assert ((found > 0) <= (labels > 0)).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_any_maps_give_consecutive_connected_labels(seed, height, width):
    maps = np.random.default_rng(seed).normal(0, 3, (3, height, width)).astype(np.float32)
    found, scores = decode_instances(maps, {"min_size": 3})
    areas = np.bincount(found.ravel())[1:]
    assert len(areas) == len(scores)
    assert (areas >= 3).all()
    assert ((scores >= 0.5) & (scores <= 1)).all()
    assert (maps[0][found > 0] > 0).all()
    for label in range(1, len(scores) + 1):
        assert ndimage.label(found == label, np.ones((3, 3)))[1] == 1

import numpy as np
import pytest
import torch
from discs import draw_discs

from hf_cells.models import instance_loss, instance_targets


def test_square_by_hand():
    labels = np.zeros((7, 7), np.uint16)
    labels[1:6, 1:6] = 300
    foreground, boundary, distance = instance_targets(labels)
    assert foreground.sum() == 25
    assert boundary.sum() == 16
    assert not boundary[2:5, 2:5].any()
    np.testing.assert_allclose(distance[3, 1:6], np.array([0.5, 1.5, 2.5, 1.5, 0.5]) / 2.5)
    assert not distance[labels == 0].any()


def test_touching_objects_have_a_boundary_between_them():
    labels = np.repeat([[1] * 5 + [2] * 5], 10, axis=0)
    _, boundary, distance = instance_targets(labels)
    assert (boundary[:, 4:6] == 1).all()
    assert not boundary[:, :4].any()  # the edge of the image is no edge of the object
    assert distance[5, 4] < distance[5, 1] <= 1


def test_every_object_reaches_one_and_numbers_do_not_matter():
    _, labels = draw_discs(0)
    maps = instance_targets(labels)
    assert all(maps[2][labels == i].max() == pytest.approx(1) for i in range(1, 9))
    renamed = np.where(labels > 0, 1000 - 7 * labels, 0)
    np.testing.assert_array_equal(instance_targets(renamed), maps)


def test_turns_with_the_image():
    _, labels = draw_discs(1, size=(50, 70))
    turned = np.rot90(instance_targets(labels), axes=(1, 2))
    np.testing.assert_allclose(instance_targets(np.rot90(labels)), turned, atol=1e-6)


@pytest.mark.parametrize("labels", [np.zeros((5, 6), int), np.ones((5, 6), int), np.ones((1, 1), int)])
def test_extremes_are_finite(labels):
    maps = instance_targets(labels)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert (maps[2] == labels).all()


def test_loss_prefers_the_truth():
    _, labels = draw_discs(2, size=(64, 64), count=4)
    targets = torch.from_numpy(instance_targets(labels))[None]
    right = targets.clone()
    right[:, :2] = 20 * right[:, :2] - 10
    wrong = right.roll(8, -1)
    assert instance_loss(right, targets) < 0.01 < 0.5 < instance_loss(wrong, targets)

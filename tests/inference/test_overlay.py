"""What overlays show."""

import numpy as np
import pytest
from skimage.measure import label

from hf_cells.inference.overlay import ON_BRIGHT, ON_DARK, draw_classes, draw_instances


def two_squares(side: int = 1000) -> np.ndarray:
    labels = np.zeros((side, side), np.int32)
    labels[100:300, 100:300] = 1
    labels[100:300, 300:500] = 2  # touches the first
    return labels


@pytest.mark.parametrize(("shade", "palette"), [(0, ON_DARK), (255, ON_BRIGHT)])
def test_outlines_lie_on_the_rim_in_different_colours(shade, palette):
    labels = two_squares()
    image = np.full(labels.shape, shade, np.uint8)
    image[0, :2] = 0, 255  # sets the contrast
    overlay = draw_instances(image, labels)
    assert overlay.shape == (1000, 1000, 3)
    first, second = overlay[200, 299], overlay[200, 300]
    assert not np.array_equal(first, second)
    for colour in (first, second):
        assert (palette == colour).all(axis=1).any()
    for inside in ((200, 200), (200, 400), (200, 101), (200, 501), (99, 200)):
        assert overlay[inside].tolist() == [shade] * 3
    outlined = (overlay != shade).any(axis=-1)
    assert outlined[1:].sum() == 2 * 4 * 199  # one pixel wide


def test_small_images_are_enlarged_and_large_ones_get_thicker_lines():
    small = np.zeros((100, 200), np.int32)
    small[20:40, 20:40] = 1
    assert draw_instances(np.zeros((100, 200), np.uint8), small).shape == (400, 800, 3)
    assert draw_classes(np.zeros((400, 300), np.uint8), np.zeros((400, 300), np.uint8)).shape == (800, 600, 3)
    large = np.zeros((64, 4000), np.int32)
    large[10:50, 10:100] = 1
    overlay = draw_instances(np.zeros(large.shape, np.uint8), large)
    assert overlay.shape == (64, 4000, 3)
    assert (overlay[30] > 0).any(axis=-1).nonzero()[0].tolist() == [10, 11, 12, 97, 98, 99]


def test_near_neighbours_differ_in_colour():
    grid = np.zeros((800, 800), bool)
    for row in range(10, 790, 20):
        for column in range(10, 790, 20):
            grid[row : row + 16, column : column + 16] = True
    labels = label(grid)
    shuffled = np.random.default_rng(0).permutation(labels.max()) + 1
    labels = np.append(0, shuffled)[labels].astype(np.int32)  # neighbours in space, not in number
    overlay = draw_instances(np.zeros(labels.shape, np.uint8), labels)
    colours = overlay[10:790:20, 10:790:20].astype(int)
    assert (colours.max(axis=-1) > 0).all()
    assert (colours[1:] != colours[:-1]).any(axis=-1).all()
    assert (colours[:, 1:] != colours[:, :-1]).any(axis=-1).all()


def test_classes_are_tinted_and_outlined():
    mask = two_squares().astype(np.uint8)
    image = np.zeros(mask.shape, np.uint8)
    image[0, 0] = 255
    overlay = draw_classes(image, mask)
    for class_number, column in ((1, 200), (2, 400)):
        tint = overlay[200, column]
        np.testing.assert_allclose(tint, 0.35 * ON_DARK[class_number - 1], atol=0.51)
        np.testing.assert_array_equal(overlay[100, column], ON_DARK[class_number - 1])
    assert overlay[500, 500].tolist() == [0, 0, 0]


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        draw_instances(np.zeros((10, 10), np.uint8), np.zeros((10, 11), np.int32))

"""That every kind of image can be shown."""

import numpy as np
import pytest

from hf_cells.data.display import stretch_contrast, without_opaque_alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4, 5])
def test_every_image_can_be_shown(dtype, channels):
    rng = np.random.default_rng(0)
    shape = (60, 70, channels) if channels else (60, 70)
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = (rng.random(shape) * top * 0.1).astype(dtype)
    shown = stretch_contrast(image)
    assert shown.shape == (60, 70, 3)
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)
    constant = stretch_contrast(np.full(shape, 3, dtype))
    assert constant.min() == constant.max()


def test_hues_stay():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:50] = 100, 50, 0
    assert stretch_contrast(image)[10, 10].tolist() == [255, 128, 0]


def test_grey_stays_grey():
    dim = np.random.default_rng(0).integers(1000, 1400, (50, 50)).astype(np.uint16)
    view = stretch_contrast(dim)
    assert np.array_equal(view[..., 0], view[..., 1])
    assert np.array_equal(view[..., 0], view[..., 2])


def test_only_a_full_fourth_channel_is_alpha():
    opaque = np.full((2, 3, 4), 255, np.uint8)
    assert without_opaque_alpha(opaque).shape == (2, 3, 3)
    opaque[0, 0, 3] = 7
    assert without_opaque_alpha(opaque).shape == (2, 3, 4)

"""Preprocessing of whole images: squares, sizes, crops, depths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.models import CellClassificationImageProcessor

sides = st.integers(1, 12)


def random_image(shape, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def pixels(image, **settings_of) -> torch.Tensor:
    settings_of = {"num_channels": 1, "scaling": "dtype", **settings_of}
    return CellClassificationImageProcessor(**settings_of)(image)["pixel_values"][0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sides, sides, st.sampled_from(["white", "zero", "reflect"]), st.integers(0, 99))
def test_squares_are_centred_and_keep_every_pixel(height, width, square, seed):
    image = random_image((height, width), seed=seed)
    side = max(height, width)
    made = pixels(image, square=square)
    assert made.shape == (1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    inside = np.zeros((side, side), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_allclose(made[0][torch.from_numpy(inside)], image.ravel() / 255, atol=1e-6)
    if square == "reflect":
        pads = ((top, side - height - top), (left, side - width - left))
        np.testing.assert_allclose(made[0], np.pad(image, pads, "symmetric") / 255, atol=1e-6)
    else:
        ground = 1.0 if square == "white" else 0.0
        np.testing.assert_allclose(made[0][torch.from_numpy(~inside)], ground)


def test_an_odd_margin_has_its_extra_pixel_below_and_on_the_right():
    image = np.full((2, 5), 7, np.uint8)
    made = pixels(image, square="zero")[0] * 255
    assert made.sum(1).round().tolist() == [0, 35, 35, 0, 0]
    assert (pixels(image.T, square="zero")[0] * 255).sum(0).round().tolist() == [0, 35, 35, 0, 0]


def test_reflection_may_be_wider_than_the_image():
    made = pixels(np.array([[1, 2, 3, 4, 5, 6, 7]], np.uint8) * 30, square="reflect")[0] * 255
    np.testing.assert_allclose(made, np.tile(np.arange(1, 8) * 30, (7, 1)), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_the_brightest_value_that_the_model_sees(dtype):
    top = np.iinfo(dtype).max
    image = random_image((6, 10, 3), dtype)
    scaled = pixels(image, num_channels=3, square="white", scaling="percentile")
    np.testing.assert_allclose(scaled[:, 0], 1, atol=1e-6)
    np.testing.assert_allclose(
        pixels(image, num_channels=3, square="zero", scaling="percentile")[:, 0], 0, atol=1e-6
    )
    kept = pixels(image, num_channels=3, square="white", scaling="none")
    np.testing.assert_allclose(kept[:, 0], top)
    blank = pixels(np.full((4, 8), top, dtype), square="white", scaling="percentile")  # an empty slide
    assert blank.unique().numel() == 1
    dark = pixels(np.zeros((4, 8), dtype), square="zero", scaling="percentile")
    assert dark.unique().tolist() == [0]


def test_white_of_each_channel_alone():
    image = (random_image((6, 9, 3)) / [1, 2, 4]).astype(np.uint8)
    made = pixels(image, num_channels=3, square="white", scaling="percentile", per_channel=True)
    np.testing.assert_allclose(made[:, 0], 1, atol=1e-6)


def test_float_images_become_squares_too():
    image = np.random.default_rng(0).random((5, 8)).astype(np.float32)
    assert pixels(image, square="white")[0, 0].tolist() == [1] * 8
    assert pixels(image, square="zero")[0, 0].tolist() == [0] * 8


@pytest.mark.parametrize("scaling", ["dtype", "percentile"])
@pytest.mark.parametrize("square", ["white", "zero", "reflect"])
def test_depth_does_not_matter(scaling, square):
    """A 16-bit copy of an image: 257 times its values."""
    image = random_image((20, 31, 3))
    settings_of = {"num_channels": 3, "scaling": scaling, "square": square}
    settings_of["size"] = {"height": 24, "width": 24}
    settings_of |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    deep = pixels(image.astype(np.uint16) * 257, **settings_of)
    torch.testing.assert_close(deep, pixels(image, **settings_of), atol=1e-5, rtol=1e-5)


def test_sixteen_bits_are_kept():
    ramp = np.arange(20_000, 20_256, dtype=np.uint16).reshape(16, 16)
    assert pixels(ramp, square="white", scaling="percentile").unique().numel() == 256


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 15), st.integers(1, 15))
def test_the_crop_is_the_middle(height, width):
    image = random_image((15, 15))
    made = pixels(image, crop_size={"height": height, "width": width})
    top, left = (15 - height) // 2, (15 - width) // 2
    expected = image[top : top + height, left : left + width]
    np.testing.assert_allclose(made[0], expected / 255, atol=1e-6)
    assert made.is_contiguous()


def test_the_order_is_square_size_crop():
    """A bright column in the middle of a tall image stays in the middle, as wide as the size makes it."""
    image = np.zeros((40, 20), np.uint8)
    image[:, 9:11] = 255
    made = pixels(
        image, square="zero", size={"height": 20, "width": 20}, crop_size={"height": 10, "width": 10}
    )
    assert made.shape == (1, 10, 10)
    column = made[0].mean(0)
    assert column.argmax() in (4, 5)
    assert column.sum().item() == pytest.approx(1.0, abs=0.05)  # two pixels of forty, halved
    stretched = pixels(image, size={"height": 20, "width": 20})  # without a square: as wide as before
    assert stretched[0].mean(0).sum().item() == pytest.approx(2.0, abs=0.1)


def test_mean_and_deviation_come_last():
    image = random_image((6, 9))
    plain = pixels(image, square="white")
    made = pixels(image, square="white", image_mean=[0.25], image_std=[0.5])
    torch.testing.assert_close(made, (plain - 0.25) / 0.5)


def test_reloads(tmp_path):
    processor = CellClassificationImageProcessor(
        square="reflect",
        size={"height": 12, "width": 10},
        crop_size={"height": 8, "width": 7},
        num_channels=1,
        image_mean=[0.4],
        image_std=[0.3],
    )
    processor.save_pretrained(tmp_path)
    image = random_image((9, 14))
    again = CellClassificationImageProcessor.from_pretrained(tmp_path)
    assert torch.equal(again(image)["pixel_values"], processor(image)["pixel_values"])


def test_wrong_use_is_explained():
    with pytest.raises(ValueError, match="square='black' is unknown; choose one of white, zero, reflect"):
        CellClassificationImageProcessor(square="black")
    with pytest.raises(ValueError, match=r"crop_size 9x3 is larger than the image \(8x8\); enlarge size"):
        pixels(random_image((8, 8)), crop_size={"height": 9, "width": 3})


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sides, sides, st.sampled_from([None, "white", "zero", "reflect"]), st.integers(1, 3), st.integers(0, 99)
)
def test_maps_are_laid_over_the_image_again(height, width, square, factor, seed):
    """Of a whole enlargement, taking every n-th pixel of what came back gives the image."""
    image = random_image((height, width), seed=seed)
    framed = max(height, width) if square else None
    size = {"height": (framed or height) * factor, "width": (framed or width) * factor}
    processor = CellClassificationImageProcessor(num_channels=1, scaling="dtype", square=square, size=size)
    seen = processor(image)["pixel_values"][0]
    back = processor.to_original_size(seen, (height, width))
    assert back.shape == (1, height, width)
    if factor == 1:
        np.testing.assert_allclose(back[0], image / 255, atol=1e-6)
    flat = processor.to_original_size(torch.full_like(seen, 0.7), (height, width))
    np.testing.assert_allclose(flat, 0.7, atol=1e-6)


def test_what_a_crop_hides_is_empty():
    processor = CellClassificationImageProcessor(
        num_channels=1, square="zero", size={"height": 20, "width": 20}, crop_size={"height": 10, "width": 10}
    )
    back = processor.to_original_size(torch.ones(1, 10, 10), (8, 16))  # 20 pixels show 16: a margin of 4
    assert back.shape == (1, 8, 16)
    assert back[0, :, :3].max() == 0 and back[0, :, -3:].max() == 0 and back[0, 2:-2, 5:11].min() == 1

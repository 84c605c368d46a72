"""Augmentation: the same draw always, labels that stay on their objects, settings of zero that change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_cells.data.augmentation import Augmentation, Window, gaussian_blur, sample_generator
from hf_cells.errors import CellsError
from hf_cells.models import CellInstanceImageProcessor

NOTHING = {
    "scale": (1.0, 1.0),
    "rotation": 0.0,
    "aspect": 0.0,
    "flip": False,
    "gamma": 0.0,
    "contrast": 0.0,
    "brightness": 0.0,
    "noise": 0.0,
    "blur": 0.0,
    "invert": 0.0,
    "colour": 0.0,
    "grey": 0.0,
}
GEOMETRY = {**NOTHING, "scale": (0.6, 1.7), "rotation": 180.0, "aspect": 0.15, "flip": True}


def field(height=96, width=80, dtype=np.uint8, bright=200):
    """Bright discs of several sizes on a dark, noisy ground; returns image and labels."""
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.int32)
    for number, (y, x, radius) in enumerate([(22, 20, 11), (24, 58, 14), (66, 26, 9), (70, 60, 13)], 1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    image = np.random.default_rng(0).integers(0, bright // 10, (height, width)).astype(dtype)
    image[labels > 0] = bright
    return image, labels


def window(image, **processor):
    processor = {"num_channels": 1, "scaling": "dtype", **processor}
    return Window(CellInstanceImageProcessor(**processor), image)


def draw(position=0, epoch=0, seed=0):
    return sample_generator(seed, epoch, position)


@pytest.mark.parametrize("dtype, bright", [(np.uint8, 200), (np.uint16, 50_000)])
def test_labels_follow_the_bright_pixels(dtype, bright):
    image, labels = field(dtype=dtype, bright=bright)
    top, overlaps = np.iinfo(dtype).max, []
    for position in range(60):
        cut, truth = Augmentation(size=48, **GEOMETRY)(window(image), labels, draw(position))
        seen = cut[0].numpy() > bright / top / 2
        either = (seen | (truth > 0)).sum()
        if either > 100:
            overlaps.append((seen & (truth > 0)).sum() / either)
    assert len(overlaps) > 30
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.97


def test_objects_neither_swell_nor_shrink():
    image, labels = field()
    settings = {**NOTHING, "rotation": 180.0, "flip": True}
    areas = []
    for position in range(80):
        _, truth = Augmentation(size=160, **settings)(window(image), labels, draw(position))
        # A crop larger than the image shows mirror images too: compare the share of the field, not a count.
        areas.append((truth > 0).mean())
    assert np.mean(areas) == pytest.approx((labels > 0).mean(), rel=0.04)
    _, truth = Augmentation(**{**settings, "size": 40, "rotation": 90.0})(window(image), labels, draw(3))
    assert set(np.unique(truth)) <= set(np.unique(labels))  # looked up, never mixed


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_change_reproduces_pixels_and_labels(channels, dtype):
    image, labels = field(64, 64, dtype=dtype)
    if channels == 3:
        image = np.stack([image, image[::-1], image[:, ::-1]], -1)
    processor = CellInstanceImageProcessor(num_channels=channels)
    cut, truth = Augmentation(size=64, **NOTHING)(Window(processor, image), labels, draw(5))
    np.testing.assert_allclose(cut.numpy(), processor(image)["pixel_values"][0].numpy(), atol=1e-3)
    np.testing.assert_array_equal(truth, labels)


def test_a_crop_is_scaled_as_the_whole_image():
    image, labels = field()
    image[0, 0] = 255
    whole = Window(CellInstanceImageProcessor(num_channels=1), image)
    np.testing.assert_array_equal(whole.crop(10, 50, 20, 60), whole.crop(0, 96, 0, 80)[:, 10:50, 20:60])


def test_sixteen_bits_are_kept():
    ramp = (np.arange(64 * 64, dtype=np.uint16) + 20_000).reshape(64, 64)  # 4096 neighbouring grey levels
    cut, _ = Augmentation(size=64, **NOTHING)(window(ramp), np.zeros((64, 64), np.int32), draw())
    assert len(np.unique(np.rint(cut.numpy() * 65535))) > 4000


def test_grey_stored_as_colour_is_one_channel_and_looks_the_same():
    image, labels = field()
    processor = CellInstanceImageProcessor(num_channels=3)
    grey, colour = Window(processor, image), Window(processor, np.stack([image] * 3, -1))
    assert colour.pixels.shape == (96, 80, 1)
    for position in range(20):
        one, _ = Augmentation(size=32)(grey, labels, draw(position))
        three, _ = Augmentation(size=32)(colour, labels, draw(position))
        assert torch.equal(one, three)


def test_a_real_colour_image_keeps_its_channels_with_and_without_mean():
    image, labels = field()
    colour = np.stack([image, image // 2, 255 - image], -1)
    for mean in (None, [0.5, 0.5, 0.5]):
        processor = CellInstanceImageProcessor(num_channels=3, image_mean=mean, image_std=mean)
        cut, _ = Augmentation(size=32, **{**NOTHING, "rotation": 90.0})(
            Window(processor, colour), labels, draw()
        )
        assert cut.shape == (3, 32, 32)
        assert not torch.equal(cut[0], cut[2])


def test_light_sees_the_range_from_0_to_1_whatever_the_mean():
    """A gamma on centred pixels would cut off all that is darker than the mean."""
    image, labels = field()
    plain = Window(CellInstanceImageProcessor(num_channels=1), image)
    centred = Window(CellInstanceImageProcessor(num_channels=1, image_mean=[0.5], image_std=[0.2]), image)
    for position in range(10):
        one, _ = Augmentation(size=32)(plain, labels, draw(position))
        other, _ = Augmentation(size=32)(centred, labels, draw(position))
        assert torch.equal(one, other)


def test_draws_depend_on_seed_epoch_and_position_only():
    image, labels = field()
    cut = {}
    for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        seed, epoch, position = key
        twice = [Augmentation(size=32)(window(image), labels, draw(position, epoch, seed)) for _ in range(2)]
        assert torch.equal(twice[0][0], twice[1][0])
        cut[key] = twice[0][0].numpy().tobytes()
    assert len(set(cut.values())) == 4


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**20), st.integers(0, 2**39 - 1), st.integers(0, 2**39 - 1))
def test_neighbouring_keys_give_other_streams(seed, epoch, position, other):
    first = sample_generator(seed, epoch, position).random(4).tolist()
    assert first == sample_generator(seed, epoch, position).random(4).tolist()
    assert first != sample_generator(seed, epoch + 1, position).random(4).tolist()
    assert (first == sample_generator(seed, epoch, other).random(4).tolist()) == (position == other)


@given(position=st.integers(0, 2**30), channels=st.sampled_from([1, 3]))
def test_light_stays_finite_and_in_reach(position, channels):
    """Gain exp(±0.3), offset and noise of a few per cent, on a colour mixing of a few tenths."""
    ramp = torch.linspace(0, 1, 16 * 16 * channels).reshape(channels, 16, 16)
    lit = Augmentation().light(ramp, draw(position))
    assert lit.shape[0] in {1, channels}
    assert lit.isfinite().all()
    assert lit.min() > -3 and lit.max() < 5


def test_every_change_of_light_happens_and_off_means_off():
    ramp = torch.linspace(0, 1, 3 * 256).reshape(3, 16, 16)
    for name, value in [
        *[("gamma", 0.5), ("contrast", 0.3), ("brightness", 0.05), ("noise", 0.06)],
        *[("blur", 1.2), ("invert", 0.5), ("colour", 0.15), ("grey", 0.5)],
    ]:
        settings = Augmentation(**{**NOTHING, name: value})
        changed = [not torch.equal(settings.light(ramp, draw(p)), ramp) for p in range(40)]
        assert any(changed), name
    assert all(torch.equal(Augmentation(**NOTHING).light(ramp, draw(p)), ramp) for p in range(40))


def test_every_change_of_geometry_moves_the_labels():
    image, labels = field(64, 64)
    for name, value in [("scale", (0.5, 2.0)), ("rotation", 90.0), ("aspect", 0.3), ("flip", True)]:
        settings = Augmentation(size=64, **{**NOTHING, name: value})
        moved = [not np.array_equal(settings(window(image), labels, draw(p))[1], labels) for p in range(12)]
        assert any(moved), name


def test_magnification_keeps_its_range():
    """A square of 32 pixels becomes 32 × magnification pixels wide."""
    image = np.zeros((256, 256), np.uint8)
    labels = np.zeros((256, 256), np.int32)
    labels[112:144, 112:144] = 1
    settings = {**NOTHING, "scale": (0.5, 2.0)}
    widths = []
    for position in range(200):
        _, truth = Augmentation(size=128, **settings)(window(image), labels, draw(position))
        inside = truth[1:-1, 1:-1].any() and not (truth[[0, -1]].any() or truth[:, [0, -1]].any())
        if inside:
            widths.append(np.sqrt((truth > 0).sum()))
    assert len(widths) > 40
    assert min(widths) > 0.5 * 32 - 1.5 and max(widths) < 2 * 32 + 1.5
    assert min(widths) < 0.65 * 32 and max(widths) > 1.4 * 32


@pytest.mark.parametrize("shape", [(8, 8), (1, 40), (200, 20)])
def test_images_smaller_than_the_crop_are_mirrored_not_padded(shape):
    image = np.full(shape, 100, np.uint8)
    labels = np.ones(shape, np.int32)
    for position in range(10):
        cut, truth = Augmentation(size=64, **GEOMETRY)(window(image), labels, draw(position))
        assert cut.shape == (1, 64, 64) and truth.shape == (64, 64)
        assert (truth == 1).all()
        torch.testing.assert_close(cut, torch.full_like(cut, 100 / 255))


def test_blur_keeps_the_mean_and_spreads_by_sigma():
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    blurred = gaussian_blur(point, 2.0)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(41) - 20
    assert (blurred[0].sum(0) * offsets**2).sum() == pytest.approx(4, rel=0.15)
    torch.testing.assert_close(gaussian_blur(torch.full((2, 9, 9), 0.3), 1.5), torch.full((2, 9, 9), 0.3))


def test_settings_of_a_recipe():
    settings = Augmentation.from_dict({"size": 64, "scale": [0.5, 2]})
    assert settings == Augmentation(size=64, scale=(0.5, 2))
    with pytest.raises(
        CellsError, match=r"augmentation\.rotate is unknown; choose from: size, scale, rotation"
    ):
        Augmentation.from_dict({"rotate": 90})
    for wrong in (1.0, [0, 1], [2.0, 1.0], [1.0]):
        with pytest.raises(CellsError, match=r"augmentation\.scale is"):
            Augmentation.from_dict({"scale": wrong})

"""Augmentation of whole images: checked on marked pixels and by formula; the same in every batch."""

import colorsys

import numpy as np
import pytest
import torch
from changed_images import change, images, one_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hf_cells.data.image_augmentation import ImageAugmentation, blur
from hf_cells.errors import CellsError

QUIET = settings(max_examples=25, deadline=None, derandomize=True)
EVERYTHING = {
    "crop": (0.7, 1.0),
    "scale": (0.8, 1.25),
    "aspect": 0.2,
    "rotation": 180.0,
    "shear": 10.0,
    "shift": 0.1,
    "horizontal_flip": True,
    "vertical_flip": True,
    "hue": 0.1,
    "saturation": 0.3,
    "exposure": 0.2,
    "brightness": 0.1,
    "contrast": 0.3,
    "gamma": 0.3,
    "blur": 2.0,
    "noise": 0.05,
    "cutout": 0.4,
}
MIXES = {"mixup": 0.4, "cutmix": 1.0, "mosaic": 0.3}
LUMA = torch.tensor([0.299, 0.587, 0.114])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_defaults_change_nothing(channels):
    x, labels = images(channels=channels), one_hot()
    made, soft = change(x, labels)
    assert torch.equal(made, x) and torch.equal(soft, labels)
    assert not ImageAugmentation().mixes


@QUIET
@given(st.integers(0, 50), st.integers(0, 6), st.sampled_from([1, 3, 4]))
def test_a_sample_is_the_same_in_whatever_batch(seed, place, channels):
    """Alone, among others, and as another member of the batch."""
    x, positions = images(7, channels, seed=seed), [3, 14, 15, 92, 65, 35, 89]
    together = change(x, seed=seed, epoch=2, positions=positions, **EVERYTHING)
    own = slice(place, place + 1)
    alone = change(x[own], seed=seed, epoch=2, positions=positions[own], **EVERYTHING)
    torch.testing.assert_close(together[own], alone, atol=1e-5, rtol=1e-5)
    order = [6, 5, 4, 3, 2, 1, 0]
    turned = change(x[order], seed=seed, epoch=2, positions=[positions[k] for k in order], **EVERYTHING)
    torch.testing.assert_close(turned[order], together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_every_change_changes_something_and_depends_on_the_batch_in_nothing(name):
    x = images(8, height=24, width=24)
    made = change(x, **{name: EVERYTHING[name]})
    assert not torch.equal(made, x)
    alone = torch.cat([change(x[k : k + 1], positions=[k], **{name: EVERYTHING[name]}) for k in range(8)])
    torch.testing.assert_close(made, alone, atol=1e-5, rtol=1e-5)


def test_draws_are_functions_of_seed_epoch_and_position():
    x = images(1).expand(3, -1, -1, -1)
    settings_of = {**EVERYTHING, **MIXES}

    def made(**where):
        return change(x, one_hot(3), **{**settings_of, **where})

    for one, again in zip(made(seed=1, epoch=2), made(seed=1, epoch=2)):
        assert torch.equal(one, again)
    reference = made(seed=1, epoch=2)[0]
    assert not torch.equal(reference[0], reference[1])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not torch.equal(made(**other)[0], reference)
    shifted = change(x, seed=1, epoch=2, positions=[1, 2, 3], **EVERYTHING)
    plain = change(x, seed=1, epoch=2, positions=[0, 1, 2], **EVERYTHING)
    torch.testing.assert_close(shifted[:2], plain[1:], atol=1e-5, rtol=1e-5)


def test_switching_a_change_on_leaves_the_draws_of_the_others():
    x = images(6)
    flipped = change(x, horizontal_flip=True)
    both = change(x, horizontal_flip=True, brightness=0.5)
    offset = (both - flipped).mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(both, flipped + offset, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("name", "axis"), [("horizontal_flip", -1), ("vertical_flip", -2)], ids=["horizontal", "vertical"]
)
def test_flips_mirror_about_half_of_the_samples(name, axis):
    x = images(64)
    made = change(x, **{name: True})
    flipped = (made - x.flip(axis)).abs().amax((1, 2, 3)) < 1e-5
    same = (made - x).abs().amax((1, 2, 3)) < 1e-5
    assert (flipped ^ same).all()
    assert 20 <= flipped.sum() <= 44


def marked(height, width, y, x) -> torch.Tensor:
    picture = torch.zeros(1, 1, height, width)
    picture[..., y, x] = 1
    return picture


def centre(picture: torch.Tensor) -> np.ndarray:
    """Centre of mass in pixels from the middle of the image: down, right."""
    mass = picture[0, 0].numpy().astype(np.float64)
    at = np.array(ndimage.center_of_mass(mass))
    return at - (np.array(mass.shape) - 1) / 2


@QUIET
@given(st.integers(0, 300), st.integers(-6, 6), st.integers(-6, 6))
def test_rotation_turns_about_the_middle_and_keeps_distances(position, y, x):
    """On an image that is not square, too: angles and lengths are those of pixels."""
    picture = marked(31, 41, 15 + y, 20 + x)
    made = centre(change(picture, positions=[position], rotation=90.0, border="zeros"))
    assert np.hypot(*made) == pytest.approx(np.hypot(y, x), abs=0.3)
    turned = marked(31, 41, 15 - x, 20 + y)
    other = centre(change(turned, positions=[position], rotation=90.0, border="zeros"))
    # a second mark, a quarter turn from the first, is a quarter turn from it afterwards
    np.testing.assert_allclose(other, [-made[1], made[0]], atol=0.5)


def test_angles_fill_their_range():
    angles = []
    for position in range(80):
        made = centre(change(marked(41, 41, 20, 35), positions=[position], rotation=30.0, border="zeros"))
        angles.append(np.degrees(np.arctan2(made[0], made[1])))
    assert -31 < min(angles) < -22 and 22 < max(angles) < 31
    assert abs(np.mean(angles)) < 6


def test_shifts_move_by_a_share_of_the_side():
    moved = np.array(
        [
            centre(change(marked(41, 61, 20, 30), positions=[position], shift=0.25, border="zeros"))
            for position in range(60)
        ]
    )
    for axis, side in enumerate((41, 61)):
        assert np.abs(moved[:, axis]).max() <= 0.25 * side + 0.1
        assert np.abs(moved[:, axis]).max() > 0.2 * side
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.4  # the two axes on their own


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_scale_magnifies(scale):
    made = centre(change(marked(41, 41, 20, 24), scale=(scale, scale), border="zeros"))
    np.testing.assert_allclose(made, [0, 4 * scale], atol=0.3)


def test_scale_is_log_uniform():
    found = [
        centre(change(marked(81, 81, 40, 50), positions=[k], scale=(0.5, 2.0), border="zeros"))[1] / 10
        for k in range(100)
    ]
    assert 0.45 < min(found) < 0.6 and 1.7 < max(found) < 2.1
    assert 0.35 < np.mean(np.array(found) < 1) < 0.65


def test_aspect_stretches_one_axis_by_what_it_shrinks_the_other():
    for position in range(10):
        down, right = (
            centre(change(marked(61, 61, 30 + y, 30 + x), positions=[position], aspect=0.5, border="zeros"))
            for y, x in ((12, 0), (0, 12))
        )
        ratios = np.array([down[0], right[1]]) / 12
        assert np.prod(ratios) == pytest.approx(1, abs=0.06)
        assert abs(np.log(ratios[0] / ratios[1])) < 0.55


def test_shear_slides_rows():
    slid = []
    for position in range(30):
        made = centre(change(marked(61, 61, 45, 30), positions=[position], shear=20.0, border="zeros"))
        assert made[0] == pytest.approx(15, abs=0.3)
        slid.append(made[1])
    assert 4 < max(np.abs(slid)) <= 15 * np.tan(np.radians(20)) + 0.3
    assert min(slid) < 0 < max(slid)


@QUIET
@given(st.integers(0, 300), st.floats(0.3, 1.0))
def test_a_crop_is_a_window_of_the_image(position, share):
    """Every pixel of a ramp tells where it came from: the window lies inside, and is as large as it should be."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    x = torch.stack([rows, columns])[None]
    made = change(x, positions=[position], crop=(share, share))
    assert made.min() >= -1e-3
    assert made[:, 0].max() <= 23 + 1e-3 and made[:, 1].max() <= 31 + 1e-3
    steps = made[0, 0].diff(dim=0).mean(), made[0, 1].diff(dim=1).mean()
    for step in steps:
        assert step.item() == pytest.approx(share, abs=0.08)


def test_a_crop_of_the_size_that_is_asked_for_keeps_the_pixels():
    x = images(1, height=12, width=16).expand(300, -1, -1, -1)
    made = change(x, size=(6, 8), crop=(0.5, 0.5))
    windows = x[0].unfold(1, 6, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 6, 8)
    apart = (made[:, None] - windows[None]).abs().amax((2, 3, 4))
    assert apart.min(1).values.max() < 1e-5 and len(apart.argmin(1).unique()) == 7 * 9


def test_the_result_has_the_size_that_is_asked_for():
    x = images(2, height=20, width=30)
    made = change(x, size=(10, 15))
    assert made.shape == (2, 3, 10, 15)
    halved = torch.nn.functional.interpolate(x, (10, 15), mode="bilinear")
    torch.testing.assert_close(made, halved, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("border", ["zeros", "border", "reflection"])
def test_what_lies_beyond_the_image(border):
    made = change(torch.ones(1, 1, 20, 20), scale=(0.5, 0.5), border=border)
    assert made[..., 0, 0].item() == (0 if border == "zeros" else 1)
    assert made[..., 10, 10].item() == pytest.approx(1)


# ---------------------------------------------------------------- colours


@QUIET
@given(st.integers(0, 500), st.floats(0.01, 0.5), st.floats(0.01, 1.0))
def test_hue_and_saturation_keep_the_luma_and_greys(position, hue, saturation):
    x = images(1)
    made = change(x, positions=[position], hue=hue, saturation=saturation)
    assert not torch.allclose(made, x, atol=1e-4)
    torch.testing.assert_close(
        torch.einsum("bchw,c->bhw", made, LUMA), torch.einsum("bchw,c->bhw", x, LUMA), atol=1e-4, rtol=1e-4
    )
    grey = images(1, 1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(
        change(grey, positions=[position], hue=hue, saturation=saturation), grey, atol=1e-3, rtol=1e-3
    )


def test_a_turn_of_the_hue_is_a_turn_of_the_colour_circle():
    x = torch.tensor([0.8, 0.3, 0.3])[None, :, None, None].expand(1, 3, 2, 2)
    turns = []
    for position in range(40):
        made = change(x, positions=[position], hue=0.1)[0, :, 0, 0].clamp(0, 1)
        hue = colorsys.rgb_to_hsv(*made.tolist())[0]
        turns.append((hue + 0.5) % 1 - 0.5)
    assert 0.05 < max(np.abs(turns)) < 0.16
    assert min(turns) < -0.03 and max(turns) > 0.03


def test_saturation_scales_the_distance_from_grey():
    x = images(1)
    luma = torch.einsum("bchw,c->bhw", x, LUMA)[:, None]
    for position in range(10):
        made = change(x, positions=[position], saturation=0.7)
        gains = ((made - luma) / (x - luma))[(x - luma).abs() > 0.05]
        assert gains.std() < 1e-2 * gains.mean()
        assert np.exp(-0.71) < gains.mean() < np.exp(0.71)


def test_grey_and_many_channel_images_have_no_hue():
    for channels in (1, 2, 4):
        x = images(channels=channels)
        assert torch.equal(change(x, hue=0.5, saturation=1.0), x)


def test_light_by_hand():
    x = images(1)
    mean = x.mean()
    for position in range(5):
        louder = change(x, positions=[position], exposure=0.5)
        gain = louder.mean() / mean
        torch.testing.assert_close(louder, x * gain, atol=1e-5, rtol=1e-5)
        assert np.exp(-0.5) <= gain <= np.exp(0.5)
        offset = change(x, positions=[position], brightness=0.2) - x
        assert offset.std() < 1e-5 and abs(offset.mean()) <= 0.2
        contrast = change(x, positions=[position], contrast=0.5)
        assert contrast.mean().item() == pytest.approx(mean.item(), abs=1e-5)
        ratio = ((contrast - mean) / (x - mean))[(x - mean).abs() > 0.05]
        assert ratio.std() < 1e-3 and np.exp(-0.5) <= ratio.mean() <= np.exp(0.5)
        power = (change(x, positions=[position], gamma=0.5).log() / x.log())[(x < 0.9) & (x > 0.1)]
        assert power.std() < 1e-3 and np.exp(-0.5) <= power.mean() <= np.exp(0.5)


# ---------------------------------------------------------------- blur, noise, cutout


@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_is_blurred_by_its_own_gaussian(channels):
    x = images(4, channels, 40, 36)
    sigmas = np.array([0.0, 0.4, 1.3, 2.6])
    made = blur(x, sigmas)
    for image, result, sigma in zip(x.numpy(), made.numpy(), sigmas):
        radius = int(np.ceil(2.5 * sigma))
        for one, other in zip(image, result):
            expected = ndimage.gaussian_filter(one, sigma, mode="mirror", radius=radius) if sigma else one
            np.testing.assert_allclose(other, expected, atol=1e-5)
    assert torch.equal(made[0], x[0])


def test_no_blur_and_blurs_wider_than_the_image():
    x = images(2)
    assert blur(x, np.zeros(2)) is x
    made = blur(images(1, 1, 5, 7), np.array([9.0]))
    assert torch.isfinite(made).all() and made.std() < 0.1


def test_half_of_the_samples_are_blurred():
    x = images(60)
    sharp = (change(x, blur=2.0) - x).abs().amax((1, 2, 3)) == 0
    assert 18 <= sharp.sum() <= 42


def test_noise_is_as_strong_as_asked_for():
    x = torch.full((50, 3, 12, 10), 0.5)
    spread = (change(x, noise=0.1) - x).flatten(1).std(1)
    assert 0.08 < spread.max() < 0.11 and spread.min() < 0.03


def test_cutout_paints_a_square_with_the_mean():
    x = images(60, 3, 20, 20)
    made = change(x, cutout=0.5)
    changed = (made != x).any(1)
    assert 18 <= changed.any(-1).any(-1).sum() <= 42
    for image, result, mask in zip(x, made, changed):
        if mask.any():
            rows, columns = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
            assert len(rows) == rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 <= 10
            inside = result[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            expected = image.mean((1, 2), keepdim=True).expand_as(inside)
            torch.testing.assert_close(inside, expected)


def test_inputs_are_left_alone():
    x, labels = images(), one_hot()
    before = x.clone(), labels.clone()
    change(x, labels, **EVERYTHING, **MIXES)
    assert torch.equal(x, before[0]) and torch.equal(labels, before[1])


# ---------------------------------------------------------------- settings


def test_settings_of_a_recipe():
    made = ImageAugmentation.from_dict(
        {"scale": [0.5, 2.0], "size": [8, 9], "border": "zeros", "rotation": 5}
    )
    assert made == ImageAugmentation(scale=(0.5, 2.0), size=(8, 9), border="zeros", rotation=5)
    assert ImageAugmentation.from_dict({}) == ImageAugmentation()
    assert [name for name in MIXES if ImageAugmentation(**{name: MIXES[name]}).mixes] == list(MIXES)


@pytest.mark.parametrize(
    ("given_settings", "words"),
    [
        ({"flip": True}, "augmentation.flip is unknown; choose from: size, crop"),
        ({"border": "mirror"}, "augmentation.border='mirror' is unknown; choose from: zeros"),
        ({"scale": 0.5}, "augmentation.scale is 0.5; give the smallest and largest"),
        ({"crop": [0.0, 1.0]}, "augmentation.crop is"),
        ({"scale": [1.2, 0.8]}, "augmentation.scale is"),
        ({"size": 64}, "augmentation.size is 64; give height and width"),
    ],
)
def test_wrong_settings(given_settings, words):
    with pytest.raises(CellsError, match=words):
        ImageAugmentation.from_dict(given_settings)


# ---------------------------------------------------------------- transposition


def test_transposition_and_flips_give_all_eight_views_alike():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(800, 1, 1, 1) / 9
    turning = ImageAugmentation(transpose=True, horizontal_flip=True, vertical_flip=True)
    made, _ = turning(x, torch.zeros(800, 1), 3, 0, range(800))
    views, counts = np.unique(np.round(9 * made.numpy()).reshape(800, 9), axis=0, return_counts=True)
    assert len(views) == 8 and counts.min() > 70
    expected = np.arange(9).reshape(3, 3)
    known = {tuple(np.rot90(side, k).ravel()) for side in (expected, expected.T) for k in range(4)}
    assert {tuple(view.astype(int)) for view in views} == known


def test_transposition_alone_exchanges_the_axes_of_half():
    x = torch.rand(200, 2, 5, 5)
    made, _ = ImageAugmentation(transpose=True)(x, torch.zeros(200, 1), 0, 0, range(200))
    turned = [torch.equal(one, other.transpose(-1, -2)) for one, other in zip(made, x)]
    still = [torch.equal(one, other) for one, other in zip(made, x)]
    assert all(a != b for a, b in zip(turned, still)) and 75 < sum(turned) < 125


def test_images_that_are_not_square_are_transposed_only_alone():
    with pytest.raises(CellsError, match="square"):
        ImageAugmentation(transpose=True)(torch.rand(2, 1, 3, 5), torch.zeros(2, 1), 0, 0, [0, 1])
    shapes = {
        tuple(
            ImageAugmentation(transpose=True)(torch.rand(1, 1, 3, 5), torch.zeros(1, 1), 0, 0, [k])[0].shape[
                2:
            ]
        )
        for k in range(20)
    }
    assert shapes == {(3, 5), (5, 3)}


def test_a_share_of_the_samples_keeps_its_pixels():
    """Flipped and transposed as the coins say, but not resampled; the others are moved as they would be anyway."""
    x = images(1, height=16, width=16).expand(400, -1, -1, -1)
    moved = {"rotation": 180.0, "scale": (0.8, 1.25), "aspect": 0.2, "shear": 10.0, "shift": 0.1}
    coins = {"horizontal_flip": True, "vertical_flip": True, "transpose": True}
    still, warped = change(x, **coins), change(x, **coins, **moved)
    some = change(x, **coins, **moved, warp_probability=0.3)
    as_still = (some - still).abs().amax((1, 2, 3)) < 1e-5
    as_warped = (some - warped).abs().amax((1, 2, 3)) < 1e-5
    assert (as_still ^ as_warped).all() and 0.2 < as_warped.float().mean() < 0.4
    torch.testing.assert_close(change(x, **coins, **moved, warp_probability=0.0), still, atol=1e-5, rtol=1e-5)
    views = torch.stack([torch.rot90(v, k, (1, 2)) for v in (x[0], x[0].flip(2)) for k in range(4)])
    nearest = (still[:, None] - views).abs().amax((2, 3, 4)).min(1).values
    assert nearest.max() < 1e-5  # exact pixels of one of the eight views

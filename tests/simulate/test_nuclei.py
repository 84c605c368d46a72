"""The image itself: pure, labelled exactly, with contrast in every look."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hf_cells.errors import CellsError
from hf_cells.simulate import LOOKS, simulate_nuclei
from hf_cells.simulate.fields import smooth_field, wide_blur
from hf_cells.simulate.layout import keep_apart
from hf_cells.simulate.optics import jpeg_blocks
from hf_cells.simulate.shapes import Outlines, assign_pixels, rasterise

STAINED = ("tissue", "brightfield", "inverted")


def grey(image: np.ndarray) -> np.ndarray:
    return image.astype(float) if image.ndim == 2 else image.mean(-1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    index=st.integers(0, 2**31),
    look=st.sampled_from(list(LOOKS)),
    size=st.tuples(st.integers(16, 130), st.integers(16, 130)),
)
def test_any_request_gives_a_sound_image_twice_the_same(seed, index, look, size):
    first = simulate_nuclei(seed, index, size, look)
    again = simulate_nuclei(seed, index, size, look)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.instance_labels.tobytes() == again.instance_labels.tobytes()
    assert first.look == look
    assert first.image.shape[:2] == first.instance_labels.shape == size
    assert first.image.dtype == np.uint8 and first.instance_labels.dtype == np.int32
    areas = np.bincount(first.instance_labels.ravel())
    assert len(areas) >= 2 and areas[1:].min() >= 6, "ids run 1..n without gaps or slivers"
    assert first.image.std() > 0


@pytest.mark.parametrize("look", list(LOOKS))
def test_nuclei_stand_out_from_their_surroundings(look):
    """In nearly all images nuclei differ from the ring around them by more than the ring's spread."""
    good = 0
    for index in range(12):
        simulated = simulate_nuclei(5, index, (128, 128), look)
        labels, light = simulated.instance_labels, grey(simulated.image)
        distance = ndimage.distance_transform_edt(labels == 0)
        near = (distance > 2) & (distance < 9)
        difference = np.median(light[labels > 0]) - np.median(light[near])
        if look in STAINED:
            difference = -difference
        deviation = 1.4826 * np.median(np.abs(light[near] - np.median(light[near])))
        good += difference > max(4, deviation)
    assert good >= 10


@pytest.mark.parametrize("look", list(LOOKS))
def test_background_is_dark_in_fluorescence_and_bright_under_a_lamp(look):
    medians = []
    for index in range(6):
        simulated = simulate_nuclei(6, index, (128, 128), look)
        medians.append(np.median(grey(simulated.image)[simulated.instance_labels == 0]))
    assert np.median(medians) > 120 if look in STAINED else np.median(medians) < 60


def test_colour_looks_have_colour_and_grey_ones_one_channel():
    for look in ("tissue", "brightfield"):
        image = simulate_nuclei(0, 0, (64, 64), look).image
        assert image.shape == (64, 64, 3)
        assert np.ptp(image.astype(int), axis=-1).mean() > 5
    assert simulate_nuclei(0, 0, (64, 64), "inverted").image.shape == (64, 64)


def test_sixteen_bits_hold_more_than_eight():
    deep = [simulate_nuclei(2, index, (96, 96), None, 16) for index in range(16)]
    assert {simulated.look for simulated in deep} <= set(LOOKS) - {"tissue", "brightfield"}
    assert all(simulated.image.dtype == np.uint16 and simulated.image.max() > 255 for simulated in deep)
    assert np.median([len(np.unique(simulated.image)) for simulated in deep]) > 256
    shallow = simulate_nuclei(2, 0, (96, 96), deep[0].look, 8)
    np.testing.assert_array_equal(
        shallow.instance_labels, simulate_nuclei(2, 0, (96, 96), deep[0].look, 16).instance_labels
    )


def test_a_series_is_diverse():
    series = [simulate_nuclei(9, index, (128, 128)) for index in range(60)]
    assert {simulated.look for simulated in series} == set(LOOKS)
    counts = [simulated.instance_labels.max() for simulated in series]
    assert min(counts) <= 5 and max(counts) >= 30
    areas = [np.median(np.bincount(simulated.instance_labels.ravel())[1:]) for simulated in series]
    diameters = np.sqrt(4 / np.pi * np.array(areas))
    assert min(diameters) < 11 and max(diameters) > 35
    dark = [simulated for simulated in series if simulated.look not in STAINED]
    assert min(np.percentile(simulated.image, 99.5) for simulated in dark) < 60, "some images are very dim"
    touching = [np.any(_contacts(simulated.instance_labels)) for simulated in series]
    assert 0.2 < np.mean(touching) < 1


def _contacts(labels: np.ndarray) -> np.ndarray:
    left, right = labels[:, :-1], labels[:, 1:]
    return (left > 0) & (right > 0) & (left != right)


def test_usual_sizes_without_a_size():
    for look in ("fluorescence", "tissue"):
        assert simulate_nuclei(0, 1, None, look).instance_labels.shape in LOOKS[look].sizes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"index": -1}, "index"),
        ({"size": (15, 64)}, "at least 16"),
        ({"look": "electron"}, "unknown look 'electron'"),
        ({"bit_depth": 32}, "8 or 16"),
        ({"look": "brightfield", "bit_depth": 16}, "grey look"),
    ],
)
def test_bad_requests(arguments, message):
    with pytest.raises(CellsError, match=message):
        simulate_nuclei(**{"seed": 0, "index": 0, "size": (64, 64)} | arguments)


def discs(*centre_and_radius: tuple[float, float, float]) -> Outlines:
    numbers = np.array(centre_and_radius, np.float32)
    n = len(numbers)
    zero = np.zeros(n, np.float32)
    axes = np.repeat(numbers[:, 2:], 2, axis=1)
    return Outlines(numbers[:, :2], axes, zero, zero, np.ones((n, 64), np.float32))


def test_a_disc_is_rasterised_to_the_pixel():
    raster = rasterise(discs((30, 40, 12.3)), (64, 80))
    labels = assign_pixels(raster, np.zeros(1, np.float32))
    rows, columns = np.mgrid[:64, :80]
    distance = np.hypot(rows - 30, columns - 40)
    np.testing.assert_array_equal(labels > 0, distance < 12.3)
    np.testing.assert_allclose(raster.depth, 12.3 - distance.ravel()[raster.pixel], atol=1e-3)


def test_a_turned_ellipse_has_its_area_and_direction():
    one = Outlines(
        np.array([[50, 50]], np.float32),
        np.array([[30, 10]], np.float32),
        np.array([np.pi / 4], np.float32),
        np.zeros(1, np.float32),
        np.ones((1, 64), np.float32),
    )
    labels = assign_pixels(rasterise(one, (101, 101)), np.zeros(1, np.float32))
    assert abs((labels > 0).sum() / (np.pi * 300) - 1) < 0.02
    rows, columns = np.nonzero(labels)
    assert np.corrcoef(rows, columns)[0, 1] > 0.7


def test_equal_discs_part_in_the_middle_and_priority_lifts_one():
    pair = rasterise(discs((20, 14, 10), (20, 26, 10)), (41, 41))
    labels = assign_pixels(pair, np.zeros(2, np.float32))
    assert set(np.unique(labels[:, :20])) == {0, 1} and set(np.unique(labels[:, 21:])) == {0, 2}
    lifted = assign_pixels(pair, np.array([-5, 0], np.float32))
    assert (lifted == 1).sum() == (rasterise(discs((20, 14, 10)), (41, 41)).depth > 0).sum()


def test_keep_apart_keeps_the_first_of_a_clash():
    three = discs((10, 10, 5), (10, 17, 5), (10, 24, 5))
    assert keep_apart(three, 1.0).tolist() == [0, 2]
    assert keep_apart(three, 0.6).tolist() == [0, 1, 2]


def test_smooth_field_is_standard_and_smooth():
    field = smooth_field(np.random.default_rng(0), (256, 256), 8)
    assert field.shape == (256, 256) and field.dtype == np.float32
    assert abs(field.mean()) < 0.15 and abs(field.std() - 1) < 0.15
    assert np.abs(np.diff(field, axis=0)).max() < 0.6


def test_wide_blur_is_a_gaussian_blur():
    image = np.zeros((90, 101), np.float32)
    image[30:50, 40:47] = 100
    for sigma in (3.0, 9.0, 10.0):
        exact = ndimage.gaussian_filter(image, sigma, mode="nearest")
        np.testing.assert_allclose(wide_blur(image, sigma), exact, atol=0.04 * exact.max())


def test_jpeg_blocks_lose_more_at_low_quality():
    image = (ndimage.gaussian_filter(np.random.default_rng(0).random((50, 61)), 1) * 255).astype(np.float32)
    low, high = (np.abs(jpeg_blocks(image, quality) - image).mean() for quality in (20, 95))
    assert 0 < high < 1.5 < low
    assert jpeg_blocks(image, 50).shape == image.shape

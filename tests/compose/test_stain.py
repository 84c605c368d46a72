"""Colour as absorption: seams, scale of the stain, glass."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_cells.compose.pasting import mark, paste, turned
from hf_cells.compose.stain import GLASS, Look, glass_colour, on_reference_glass, optical_density

colour = st.tuples(*[st.integers(120, 255)] * 3)
gain = st.tuples(*[st.floats(0.5, 2)] * 3)


@settings(deadline=None)
@given(colour, gain)
def test_clear_glass_takes_the_colour_of_the_new_glass(glass, gains):
    """What does not absorb leaves no trace: a pasted rim meets the new glass without a seam."""
    look = Look(glass, gains)
    clear = Image.fromarray(on_reference_glass(np.zeros((4, 4, 3))))
    assert (np.asarray(clear.point(look.table())) == np.array(glass)).all()


@settings(deadline=None)
@given(st.floats(0.05, 1.2), colour, colour)
def test_density_survives_a_change_of_glass(density, one, other):
    light = on_reference_glass(np.full((2, 2, 3), density))
    seen = np.asarray(Image.fromarray(light).point(Look(one, (1, 1, 1)).table()))
    measured = optical_density(seen, np.array(one, np.float32))
    assert np.abs(measured - density).max() < 0.04
    again = np.asarray(Image.fromarray(on_reference_glass(measured)).point(Look(other, (1, 1, 1)).table()))
    assert np.abs(again - np.array(other) * np.exp(-density)).max() < 8


def test_glass_is_found_between_cells():
    image = np.full((60, 60, 3), (230, 225, 190), np.uint8)
    image[10:50, 10:40] = (180, 120, 140)
    assert np.abs(glass_colour(image) - (230, 225, 190)).max() < 1


def test_a_stamp_of_glass_is_invisible_and_its_label_is_not():
    stamp = Image.new("RGBA", (21, 21), (GLASS, GLASS, GLASS, 255))
    canvas = Image.new("RGB", (50, 50), (GLASS,) * 3)
    labels = np.zeros((50, 50), np.uint16)
    tilted = turned(np.asarray(stamp), 33.0, True)
    paste(canvas, tilted, 40, -5)
    mark(labels, tilted, 40, -5, 7)
    assert np.abs(np.asarray(canvas).astype(int) - GLASS).max() <= 1
    assert set(np.unique(labels)) == {0, 7} and (labels[:, :40] == 0).all()


@settings(deadline=None)
@given(st.floats(0, 360), st.booleans())
def test_turning_keeps_area_and_colour(angle, flipped):
    y, x = np.mgrid[:41, :41]
    rgba = np.zeros((41, 41, 4), np.uint8)
    rgba[..., :3] = (200, 50, 90)
    inside = (x - 20) ** 2 / 19**2 + (y - 20) ** 2 / 12**2 <= 1
    rgba[inside, 3] = 255
    rgba[~inside, :3] = 0  # what is outside the mask must not bleed into the rim
    result = np.asarray(turned(rgba, angle, flipped))
    solid = result[..., 3] >= 128
    assert abs(solid.sum() / inside.sum() - 1) < 0.05
    assert np.abs(result[solid][:, :3].astype(int) - (200, 50, 90)).max() <= 3

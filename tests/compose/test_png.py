"""The encoder: what Pillow reads back is what was given."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hf_cells.compose.png import encode_png

sides = st.integers(1, 9)


@settings(deadline=None)
@given(sides.flatmap(lambda h: sides.flatmap(lambda w: arrays.arrays(np.uint8, (h, w, 3)))))
def test_colours(pixels):
    image = Image.open(io.BytesIO(encode_png(pixels)))
    assert image.mode == "RGB" and (np.asarray(image) == pixels).all()


@settings(deadline=None)
@given(st.tuples(sides, sides).flatmap(lambda shape: arrays.arrays(np.uint16, shape)))
def test_sixteen_bits(pixels):
    image = Image.open(io.BytesIO(encode_png(pixels)))
    assert image.mode == "I;16" and (np.asarray(image) == pixels).all()


def test_a_palette_shows_colours_and_holds_numbers():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    image = Image.open(io.BytesIO(encode_png(pixels[:, ::-1], [(0, 0, 0), (9, 8, 7), (255, 0, 1)])))
    assert image.mode == "P" and (np.asarray(image) == pixels[:, ::-1]).all()
    assert image.convert("RGB").getpixel((2, 0)) == (9, 8, 7)


@pytest.mark.parametrize("size", [(1, 1), (224, 224)])
def test_flat_images_are_small(size):
    assert len(encode_png(np.full((*size, 3), 77, np.uint8))) < 1500

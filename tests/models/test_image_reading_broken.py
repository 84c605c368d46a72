"""Every broken file is named with a remedy, and no bomb is decoded."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GREY8, GREY16, RGB8, RGB16, assert_same, png_bytes, saved, tiff_bytes
from PIL import Image

from hf_cells.models import image_reading
from hf_cells.models.image_reading import read_image


def error_of(path: Path, **options: int) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_image(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_empty_folder_and_text(tmp_path: Path):
    assert "no such file" in error_of(tmp_path / "none.png")
    assert "is a folder" in error_of(tmp_path)
    path = tmp_path / "cells.png"
    path.write_bytes(b"")
    assert "0 bytes" in error_of(path)
    path.write_bytes(b"these are not the cells you are looking for")
    assert "not an image" in error_of(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "not an image" in error_of(path)  # Pillow would start Ghostscript


@pytest.mark.parametrize(
    "content",
    [
        png_bytes(GREY8),
        png_bytes(GREY16),
        png_bytes(RGB16),
        saved(Image.fromarray(RGB8), "JPEG"),
        saved(Image.fromarray(RGB8), "BMP"),
        saved(Image.fromarray(RGB8), "WEBP", lossless=True),
        tiff_bytes(GREY16),
        tiff_bytes(RGB16),
        tiff_bytes(RGB16, compression="zlib"),
        saved(Image.fromarray(GREY8), "TIFF", compression="tiff_lzw"),
    ],
    ids=["png8", "png16", "png48", "jpeg", "bmp", "webp", "tiff16", "tiff48", "tiff48z", "tifflzw"],
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, content, share):
    path = tmp_path / "cut.bin"
    path.write_bytes(content[: int(len(content) * share)])
    message = error_of(path)
    assert "corrupt or truncated" in message or "header is damaged" in message


@pytest.mark.parametrize("pixels", [GREY8, RGB16])
def test_a_flipped_byte_in_a_png_is_refused(tmp_path: Path, pixels):
    content = bytearray(png_bytes(pixels))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "flipped.png"
    path.write_bytes(content)
    assert "corrupt" in error_of(path)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([png_bytes(GREY16), tiff_bytes(RGB16), saved(Image.fromarray(RGB8), "JPEG")]), st.data()
)
def test_damaged_files_never_raise_anything_else(content, data):
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        pixels = read_image(bytes(damaged), max_pixels=1_000_000)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.dtype in (np.uint8, np.uint16, np.float32)


def test_bombs_are_refused_before_decoding(tmp_path: Path, monkeypatch):
    def decode(*args: object, **options: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr(image_reading, "_pillow_pixels", decode)
    monkeypatch.setattr(image_reading, "_read_deep_png", decode)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", decode)
    expected = (
        "20000 x 20000 is over the limit of 100,000,000 pixels; cut it into tiles, or raise max_pixels in"
    )
    path = tmp_path / "bomb.png"
    for pixels in (GREY8, RGB16):
        path.write_bytes(png_bytes(pixels, width=20_000, height=20_000))
        assert expected in error_of(path)
    path = tmp_path / "bomb.tif"
    content = bytearray(tiff_bytes(GREY8))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tag = tiff.pages[0].tags[name]
            content[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", 20_000)[:4]
        description = tiff.pages[0].tags["ImageDescription"]
        content[description.valueoffset : description.valueoffset + description.count] = (
            b"\0" * description.count
        )
    path.write_bytes(content)
    assert expected in error_of(path)


def test_the_limit_is_the_callers(tmp_path: Path, monkeypatch):
    path = tmp_path / "field.tif"
    path.write_bytes(tiff_bytes(GREY16))
    assert_same(read_image(path, max_pixels=2000), GREY16)
    assert "50 x 40 is over the limit of 1,999" in error_of(path, max_pixels=1999)
    assert_same(read_image(GREY16, max_pixels=10), GREY16)  # in memory already
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_same(read_image(png_bytes(GREY8)), GREY8)  # a limit over Pillow's own holds
    assert Image.MAX_IMAGE_PIXELS == 100
    deep = tiff_bytes(np.zeros((50, 40, 50), np.uint8), ome=True, metadata={"axes": "CYX"})
    with pytest.raises(ValueError, match="50 x 40 x 50 is over the limit"):
        read_image(deep, max_pixels=10_000)

"""No bit is lost on reading, whatever the kind of file, array or source."""

import ast
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GREY8, GREY16, RGB8, RGB16, RGBA8, RNG, assert_same, png_bytes, saved, tiff_bytes
from PIL import Image, ImageOps

from hf_cells.models import image_reading
from hf_cells.models.image_reading import read_image

# --- PNG and the other formats of Pillow --------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(),
)
def test_png_of_any_depth_and_channels_keeps_every_bit(dtype, channels, height, width, seed):
    rng = np.random.default_rng(abs(seed))
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)
    if channels == 1:
        pixels = pixels[..., 0]
    expected = pixels[..., [0, 0, 0, 1]] if channels == 2 else pixels
    assert_same(read_image(png_bytes(pixels)), expected)


def test_palette_and_one_bit_images_are_expanded():
    palette = Image.fromarray(RGB8).quantize(16)
    assert_same(read_image(saved(palette)), np.asarray(palette.convert("RGB")))
    transparent = saved(palette, transparency=0)
    found = read_image(transparent)
    assert found.shape == (40, 50, 4)
    np.testing.assert_array_equal(found[..., 3] == 0, np.asarray(palette) == 0)
    bits = GREY8 > 127
    assert_same(read_image(saved(Image.fromarray(bits))), bits.astype(np.uint8) * 255)


def test_cmyk_becomes_rgb_and_grey_alpha_becomes_rgba():
    cmyk = Image.fromarray(RGB8).convert("CMYK")
    assert_same(read_image(saved(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))
    assert read_image(saved(cmyk, "JPEG")).shape == (40, 50, 3)
    alpha = Image.fromarray(RGBA8[..., :2].copy(), "LA")
    assert_same(read_image(saved(alpha)), RGBA8[..., [0, 0, 0, 1]])
    assert_same(read_image(saved(alpha, "TIFF")), RGBA8[..., [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "JPEG", "PNG"])
def test_other_formats(kind):
    image = Image.fromarray(RGB8)
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(image, kind, **options)
    with Image.open(io.BytesIO(content)) as opened:
        assert_same(read_image(content), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(Image.fromarray(RGB8), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        assert_same(read_image(content), np.asarray(ImageOps.exif_transpose(opened)))


def test_orientation_of_a_deep_png():
    exif = Image.Exif()
    exif[274] = 6
    start = png_bytes(RGB16)
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    assert_same(read_image(start[:33] + chunk + start[33:]), np.ascontiguousarray(np.rot90(RGB16, -1)))


# --- TIFF ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [GREY8, GREY16, RGB8, RGB16, RGBA8, RGB16[..., :2]])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"byteorder": ">"}]
)
def test_tiff_keeps_every_bit(pixels, options):
    assert_same(read_image(tiff_bytes(pixels, **options)), pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("pixels", [GREY8, GREY16, RGB8])
def test_compressed_tiff_keeps_every_bit(compression, pixels):
    assert_same(read_image(saved(Image.fromarray(pixels), "TIFF", compression=compression)), pixels)


def test_tiff_without_tifffile(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert_same(read_image(tiff_bytes(GREY16)), GREY16)
    assert_same(read_image(tiff_bytes(RGB8)), RGB8)
    stack = np.stack([GREY16, GREY16 // 2, GREY16 // 3])
    assert_same(read_image(tiff_bytes(stack, photometric="minisblack")), np.moveaxis(stack, 0, -1).copy())
    assert_same(read_image(tiff_bytes(GREY16, photometric="miniswhite")), 65535 - GREY16)
    with pytest.raises(ValueError, match="pip install tifffile"):
        read_image(tiff_bytes(RGB16))
    with pytest.raises(ValueError, match="holds 6 pages; up to 5"):
        read_image(tiff_bytes(np.stack([GREY8] * 6), photometric="minisblack"))
    with pytest.raises(ValueError, match="not channels of one image"):
        read_image(tiff_bytes(np.stack([RGB8, RGB8]), photometric="rgb"))


def test_deep_png_without_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(ValueError, match="pip install torchvision"):
        read_image(png_bytes(RGB16))
    assert_same(read_image(png_bytes(GREY16)), GREY16)


@pytest.mark.parametrize(
    "options",
    [{"photometric": "minisblack"}, {"imagej": True}, {"ome": True, "metadata": {"axes": "CYX"}}],
)
@pytest.mark.parametrize("pages", [2, 3, 5])
def test_pages_of_a_tiff_are_channels(options, pages):
    stack = RNG.integers(0, 65536, (pages, 40, 50), dtype=np.uint16)
    assert_same(read_image(tiff_bytes(stack, **options)), np.ascontiguousarray(np.moveaxis(stack, 0, -1)))


def test_planar_tiff_and_tiff_of_pillow_pages():
    planes = np.ascontiguousarray(np.moveaxis(RGB16, -1, 0))
    assert_same(read_image(tiff_bytes(planes, photometric="rgb", planarconfig="separate")), RGB16)
    pages = [Image.fromarray(plane) for plane in planes]
    for compression in (None, "tiff_lzw"):
        content = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
        assert_same(read_image(content), RGB16)


def test_channels_named_in_a_tiff_may_be_many():
    stack = RNG.integers(0, 65536, (9, 40, 50), dtype=np.uint16)
    found = read_image(tiff_bytes(stack, ome=True, metadata={"axes": "CYX"}))
    assert_same(found, np.ascontiguousarray(np.moveaxis(stack, 0, -1)))


def test_white_is_zero_is_inverted():
    assert_same(read_image(tiff_bytes(GREY16, photometric="miniswhite")), 65535 - GREY16)
    assert_same(read_image(tiff_bytes(GREY8, photometric="miniswhite")), 255 - GREY8)


def test_tiff_of_other_types():
    floats = RNG.random((40, 50)).astype(np.float32)
    assert_same(read_image(tiff_bytes(floats)), floats)
    assert_same(read_image(tiff_bytes(floats.astype(np.float64))), floats)
    assert_same(read_image(tiff_bytes(GREY16.astype(np.uint32))), GREY16)
    assert_same(read_image(tiff_bytes(GREY16.astype(np.int32) + 70_000)), GREY16.astype(np.float32) + 70_000)
    palette = Image.fromarray(RGB8).quantize(16)
    assert_same(read_image(saved(palette, "TIFF")), np.asarray(palette.convert("RGB")))
    group4 = Image.fromarray(GREY8 > 127)
    assert_same(
        read_image(saved(group4, "TIFF", compression="group4")), np.asarray(group4).astype(np.uint8) * 255
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff_bytes(np.stack([GREY8] * 6), photometric="minisblack"), "holds 6 pages of 50 x 40; up to 5"),
        (tiff_bytes(np.stack([GREY8] * 3), imagej=True, metadata={"axes": "ZYX"}), "stack or a series"),
        (tiff_bytes(np.stack([RGB8] * 3), photometric="rgb"), "stack or a series"),
        (
            saved(Image.fromarray(GREY8), "TIFF", save_all=True, append_images=[Image.fromarray(GREY8[:9])]),
            "2 images of different kinds",
        ),
        (
            saved(Image.fromarray(GREY8), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY8)]),
            "2 frames",
        ),
    ],
)
def test_what_is_not_a_single_image_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_image(content)


# --- kinds of sources ---------------------------------------------------------------------------------------


def test_all_sources_give_the_same(tmp_path: Path):
    path = tmp_path / "field.png"
    content = png_bytes(RGB16)
    path.write_bytes(content)
    with path.open("rb") as file:
        assert_same(read_image(file), RGB16)
    for source in (
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        RGB16,
    ):
        assert_same(read_image(source), RGB16)
    assert_same(read_image(torch.from_numpy(RGB16).permute(2, 0, 1)), RGB16)


def test_an_undecoded_pil_image_is_read_from_its_file_and_stays_usable():
    opened = Image.open(io.BytesIO(png_bytes(RGB16)))
    assert_same(read_image(opened), RGB16)
    np.testing.assert_array_equal(np.asarray(opened), RGB16 >> 8)  # what Pillow makes of it


def test_pil_images_in_memory():
    for pixels in (GREY8, GREY16, RGB8, RGBA8):
        assert_same(read_image(Image.fromarray(pixels)), pixels)
    frames = Image.open(
        io.BytesIO(
            saved(Image.fromarray(GREY8), "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY8)])
        )
    )
    frames.seek(1)
    assert_same(read_image(frames), 255 - GREY8)


def test_axes_and_types_of_arrays():
    first = np.ascontiguousarray(np.moveaxis(RGB16, -1, 0))
    for source in (RGB16, first, first[None], RGB16.astype(">u2"), RGB16.astype(np.int64)):
        assert_same(read_image(source), RGB16)
    for source in (
        GREY8,
        GREY8[None],
        GREY8[..., None],
        torch.from_numpy(GREY8),
        torch.from_numpy(GREY8)[None, None],
    ):
        assert_same(read_image(source), GREY8)
    tiny = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert_same(read_image(tiny), tiny)
    assert_same(read_image(torch.from_numpy(tiny)), np.ascontiguousarray(np.moveaxis(tiny, 0, -1)))
    assert_same(read_image(GREY8 > 9), np.where(GREY8 > 9, np.uint8(255), np.uint8(0)))
    assert_same(read_image(GREY8 / 255), (GREY8 / 255).astype(np.float32))
    assert_same(
        read_image(torch.full((2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)),
        np.full((2, 2), 0.5, np.float32),
    )
    assert_same(read_image(np.array([[-3, 9]])), np.array([[-3, 9]], np.float32))


def test_one_pixel_is_an_image():
    assert_same(read_image(png_bytes(RGB8[:1, :1])), RGB8[:1, :1])
    assert_same(read_image(png_bytes(RGB16[:1, :1])), RGB16[:1, :1])
    assert_same(read_image(tiff_bytes(GREY16[:1, :1])), GREY16[:1, :1])
    assert_same(read_image(GREY8[:1, :1]), GREY8[:1, :1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((0, 5), np.uint8), "not one image"),
        (np.zeros(5, np.uint8), "not one image"),
        (np.zeros((2, 3, 40, 50), np.uint8), "not one image"),
        (np.zeros((20, 40, 50), np.uint8), "no axis of up to 5 channels"),
        (np.full((2, 2), np.nan), "not finite"),
        (np.full((2, 2), 1j), "not intensities"),
        (np.array([[0, 2**25]]), "do not fit 16 bits"),
        (["a.png"], "cannot read an image from a list"),
        (io.StringIO("text"), "mode 'rb'"),
    ],
)
def test_what_is_no_image_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        read_image(source)


def test_the_file_travels_with_numpy_and_pillow_alone():
    tree = ast.parse(Path(image_reading.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or "."] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "PIL"}
    from transformers.dynamic_module_utils import get_imports

    assert {"tifffile", "torchvision"}.isdisjoint(
        get_imports(image_reading.__file__)
    )  # the Hub would demand them

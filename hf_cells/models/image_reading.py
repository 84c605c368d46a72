"""Read one microscope image without losing a bit.

`read_image` takes whatever a user has (a path, bytes, an open file, a PIL image, an array, a tensor) and
returns the stored samples as one array, channels last. It travels to the Hub with the model, so it needs
numpy and Pillow only; tifffile (TIFF as microscopes write it) and torchvision (16-bit colour PNG) are taken
when a file calls for them.

Pillow alone is not enough: it cuts 16-bit colour to 8 bits without a word and knows no axes of a TIFF.
"""

import io
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

MAX_PIXELS = 100_000_000
MAX_CHANNELS = 5

# Named one by one: Pillow would also open EPS, which runs Ghostscript on the file.
_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_READABLE = "PNG, JPEG, TIFF, BMP, GIF or WebP"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION_TAG, _BITS_TAG, _PHOTOMETRIC_TAG = 274, 258, 262
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_CONVERSIONS = {
    "1": "L",
    "LA": "RGBA",
    "La": "RGBA",
    "RGBa": "RGBA",
    "PA": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}
_pillow_lock = threading.Lock()


def read_image(
    source: Any, max_pixels: int = MAX_PIXELS, channels: Sequence[str] | None = None
) -> np.ndarray:
    """Read an image at the depth and with the channels it was stored with.

    Palettes and 1-bit images are expanded, grey with alpha becomes RGBA, CMYK becomes RGB, RGBA keeps its
    alpha (the image processor decides what to do with it), and the orientation tag is applied. The pages of
    a TIFF are channels when there are at most five. Other integers become uint16 where they fit, other
    numbers float32.

    Args:
        source: A path, `bytes`, a binary file object, a PIL image, a numpy array or a tensor. Arrays are
            (H, W), (H, W, C) or (C, H, W); where both ends could be channels, an array is taken as channels
            last, a tensor as channels first. A mapping holds one such image of one channel by channel name.
        max_pixels: Files with more pixels (height x width) are refused before they are decoded. What is in
            memory already is not counted.
        channels: Names of the channels of a mapping to take, in that order; all in its own order when None.
            Other sources have no names, and are read whole.

    Returns:
        (H, W) or (H, W, C) of uint8, uint16 or float32.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is empty, corrupt, truncated, too large, not an image or not a single image.
    """
    if isinstance(source, Mapping):
        return _read_channels(source, max_pixels, channels)
    if isinstance(source, str | os.PathLike):
        return _read_path(Path(source), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _read_stream(io.BytesIO(source), "image bytes", max_pixels)
    if isinstance(source, Image.Image):
        return _read_pillow(source, max_pixels)
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "image file object"))
        content = source.read()
        if not isinstance(content, bytes):
            raise ValueError(f"{name}: was opened as text; open it with mode 'rb'")
        return _read_stream(io.BytesIO(content), name, max_pixels)
    if hasattr(source, "detach"):
        return _from_array(_tensor_to_array(source), "image tensor", channels_first=True)
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source), "image array")
    raise ValueError(
        f"cannot read an image from a {type(source).__name__}; pass a path, bytes, an open file, "
        "a PIL image, a numpy array or a tensor"
    )


def _read_channels(source: Mapping[str, Any], max_pixels: int, wanted: Sequence[str] | None) -> np.ndarray:
    names = list(source) if wanted is None else list(wanted)
    if lacking := [name for name in names if source.get(name) is None] or ([] if names else ["first"]):
        raise ValueError(
            f"there is no {lacking[0]} channel; the channels are {', '.join(map(str, source)) or 'none'}, "
            f"and needed are {', '.join(names)}"
        )
    planes = []
    for name in names:
        try:
            planes.append(read_image(source[name], max_pixels))
        except ValueError as error:
            raise ValueError(f"channel {name}: {error}") from error
        first, plane = planes[0], planes[-1]
        if plane.ndim != 2:
            raise ValueError(f"channel {name}: is an image of {plane.shape[-1]} channels; save it as grey")
        if plane.shape != first.shape or plane.dtype != first.dtype:
            found, other = (f"{image.shape[0]}x{image.shape[1]} {image.dtype}" for image in (plane, first))
            raise ValueError(
                f"channel {name}: is {found} and channel {names[0]} is {other}; the channels need one size and depth"
            )
    return np.stack(planes, axis=-1) if len(planes) > 1 else planes[0]


def _read_path(path: Path, max_pixels: int) -> np.ndarray:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; pass an image file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    with path.open("rb") as stream:
        return _read_stream(stream, str(path), max_pixels)


def _read_stream(stream: BinaryIO, name: str, max_pixels: int) -> np.ndarray:
    head = stream.read(26)
    stream.seek(0)
    if not head:
        raise ValueError(f"{name}: is empty (0 bytes); copy it again from where it came")
    if head.startswith(_TIFF_STARTS):
        return _read_tiff(stream, name, max_pixels)
    image = _open_with_pillow(stream, name, max_pixels)
    # IHDR always comes first: byte 24 is the bit depth, byte 25 the colour type (0 grey, 3 palette).
    if head.startswith(_PNG_START) and head[24] == 16 and head[25] in (2, 4, 6):
        return _read_deep_png(stream, image, name)
    return _pillow_pixels(image, name)


def _read_pillow(image: Image.Image, max_pixels: int) -> np.ndarray:
    """Go back to the file of an image that Pillow has not decoded yet: there all bits still are."""
    name = str(getattr(image, "filename", "") or "PIL image")
    stream = getattr(image, "fp", None)
    if stream is None or not getattr(image, "tile", None) or image.tell() != 0:
        return _pillow_pixels(image, name, single=False)
    place = stream.tell()
    stream.seek(0)
    try:
        return _read_stream(stream, name, max_pixels)
    finally:
        stream.seek(place)


def _tensor_to_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has no such type
        tensor = tensor.float()
    return tensor.numpy()


# --- Pillow -------------------------------------------------------------------------------------------------


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder throws into one line; decoders throw nearly everything on damaged files."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{name}: is corrupt or truncated ({reason}); copy it again or leave it out"
        ) from error


def _check_size(height: int, width: int, name: str, max_pixels: int, channels: int = 1) -> None:
    # More channels than a field has are weighed as pixels: a bomb may be deep instead of wide.
    if height * width * max(1, channels // MAX_CHANNELS) > max_pixels:
        depth = f" x {channels}" if channels > MAX_CHANNELS else ""
        raise ValueError(
            f"{name}: {width} x {height}{depth} is over the limit of {max_pixels:,} pixels; "
            "cut it into tiles, or raise max_pixels in the model's preprocessor_config.json "
            "(of a server also --max_pixels)"
        )


def _open_with_pillow(stream: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Read the header and check the size it declares; nothing is decoded."""
    # Pillow's own limit is one global for the process; while the header is read, ours takes its place.
    with _pillow_lock:
        pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(stream, formats=_PILLOW_FORMATS)
        except Exception as error:
            raise ValueError(
                f"{name}: is not an image or its header is damaged; pass a {_READABLE} file"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = pillow_limit
    _check_size(image.height, image.width, name, max_pixels)
    return image


def _pillow_pixels(image: Image.Image, name: str, single: bool = True) -> np.ndarray:
    """Decode the current frame, expand its mode, apply its orientation."""
    # MPO is the JPEG of phones: its further frames are previews.
    frames = getattr(image, "n_frames", 1)
    if single and image.format != "MPO" and frames > 1:
        raise ValueError(f"{name}: holds {frames} frames; save one frame per file")
    with _decoding(name):
        image.load()
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        mode = _CONVERSIONS.get(image.mode)
        if image.mode == "P":
            mode = "RGBA" if "transparency" in image.info else "RGB"
        pixels = np.asarray(image.convert(mode) if mode else image)
    return _from_array(_oriented(pixels, orientation), name)


def _oriented(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's turn: TIFF 6.0, tag 274, values 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _read_deep_png(stream: BinaryIO, image: Image.Image, name: str) -> np.ndarray:
    """Decode a 16-bit PNG of several channels, which Pillow would cut to 8 bits."""
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_image
    except ImportError as error:
        raise ValueError(
            f"{name}: reading 16-bit colour PNG needs torchvision; pip install torchvision or save it as TIFF"
        ) from error
    with _decoding(name):
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        stream.seek(0)
        content = torch.frombuffer(bytearray(stream.read()), dtype=torch.uint8)
        pixels = np.moveaxis(decode_image(content, ImageReadMode.UNCHANGED).numpy(), 0, -1)
    return _from_array(_oriented(_grey_alpha_to_rgba(pixels), orientation), name)


# --- TIFF ---------------------------------------------------------------------------------------------------


def _read_tiff(stream: BinaryIO, name: str, max_pixels: int) -> np.ndarray:
    try:
        from tifffile import TiffFile
    except ImportError:
        return _read_tiff_with_pillow(stream, name, max_pixels)
    with _decoding(name):
        tiff = TiffFile(stream)
        series, page = tiff.series, tiff.pages.first
        axes, shape = series[0].axes, series[0].shape
        photometric = int(page.photometric)
        orientation = page.tags.valueof(_ORIENTATION_TAG, 1)
        has_alpha = any(int(kind) in (1, 2) for kind in page.extrasamples or ())
    if len(series) > 1:
        raise ValueError(f"{name}: holds {len(series)} images of different kinds; save one per file")
    channel_axis, shape = _tiff_layout(axes, shape, name)
    height, width = (size for axis, size in enumerate(shape) if axis != channel_axis)
    _check_size(height, width, name, max_pixels, 1 if channel_axis is None else shape[channel_axis])
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):  # palette, CMYK, YCbCr, Lab
        return _read_tiff_with_pillow(stream, name, max_pixels)
    try:
        pixels = series[0].asarray().reshape(shape)
    except Exception as error:
        # Without imagecodecs, tifffile lacks LZW, JPEG and others; Pillow brings them along.
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            return _read_tiff_with_pillow(stream, name, max_pixels)
        with _decoding(name):
            raise
    if channel_axis is not None:
        pixels = np.moveaxis(pixels, channel_axis, -1)
    if photometric == _WHITE_IS_ZERO:
        pixels = _inverted(pixels)
    if has_alpha and pixels.ndim == 3:
        pixels = _grey_alpha_to_rgba(pixels)
    return _from_array(_oriented(pixels, orientation), name, channels_last=True)


def _tiff_layout(axes: str, shape: tuple[int, ...], name: str) -> tuple[int | None, tuple[int, ...]]:
    """Return the channel axis (None: a single channel) and the shape without further axes of size one.

    S (samples of a pixel) and C are channels by name, Q and I are pages that nobody named, the others
    (Z, T, …) are stacks, which would be wrong to read as channels.
    """
    kept = [(axis, size) for axis, size in zip(axes, shape) if axis in "YX" or size > 1]
    sizes = tuple(size for _, size in kept)
    if len(kept) == 2:
        return None, sizes
    extra = [axis for axis, _ in kept if axis not in "YX"]
    if len(kept) == 3 and extra in (["S"], ["C"]):
        return [axis for axis, _ in kept].index(extra[0]), sizes
    if len(kept) == 3 and extra in (["Q"], ["I"]):
        channel_axis = _channel_axis(sizes, prefer_first=extra == ["I"])
        if channel_axis is not None:
            return channel_axis, sizes
        raise ValueError(
            f"{name}: holds {sizes[0]} pages of {sizes[2]} x {sizes[1]}; "
            f"up to {MAX_CHANNELS} pages are read as channels: save one page per file"
        )
    raise ValueError(
        f"{name}: is a stack or a series (axes {axes}, shape {shape}); "
        "save one plane per file, its channels as the pages of one TIFF"
    )


def _read_tiff_with_pillow(stream: BinaryIO, name: str, max_pixels: int) -> np.ndarray:
    """Read the TIFFs that Pillow reads without loss: up to 8 bits, or one channel a page."""
    stream.seek(0)
    image = _open_with_pillow(stream, name, max_pixels)
    with _decoding(name):
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        bits = max(tags.get(_BITS_TAG, (1,)))
        inverted = tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO and image.mode.startswith("I;16")
        pages = image.n_frames  # type: ignore[attr-defined]
    if bits > 8 and image.mode not in ("I;16", "I;16B", "I;16L", "I", "F"):
        raise ValueError(
            f"{name}: {bits}-bit colour TIFF with this compression needs pip install tifffile imagecodecs; "
            "or save it without compression"
        )
    if pages > MAX_CHANNELS:
        raise ValueError(
            f"{name}: holds {pages} pages; "
            f"up to {MAX_CHANNELS} pages are read as channels: save one page per file"
        )
    planes = []
    for index in range(pages):
        with _decoding(name):
            image.seek(index)
        planes.append(_pillow_pixels(image, name, single=False))
    if pages > 1 and (planes[0].ndim > 2 or len({plane.shape for plane in planes}) > 1):
        raise ValueError(f"{name}: holds {pages} pages that are not channels of one image; save one per file")
    pixels = planes[0] if pages == 1 else np.stack(planes, axis=-1)
    return _inverted(pixels) if inverted else pixels


def _grey_alpha_to_rgba(pixels: np.ndarray) -> np.ndarray:
    """Keep alpha where a reader looks for it: fourth of four."""
    return pixels[..., [0, 0, 0, 1]] if pixels.shape[-1] == 2 else pixels


def _inverted(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == bool:
        return ~pixels
    return np.iinfo(pixels.dtype).max - pixels if pixels.dtype.kind == "u" else pixels


# --- arrays -------------------------------------------------------------------------------------------------


def _channel_axis(shape: tuple[int, ...], prefer_first: bool = False) -> int | None:
    """Tell channels from pixels by size: of three axes, the first or the last has at most five entries."""
    first, last = shape[0] <= MAX_CHANNELS, shape[2] <= MAX_CHANNELS
    if first and (prefer_first or not last):
        return 0
    return 2 if last else None


def _from_array(
    pixels: np.ndarray, name: str, channels_first: bool = False, channels_last: bool = False
) -> np.ndarray:
    """Bring an array to (H, W) or (H, W, C) and to a type that holds every value."""
    while pixels.ndim > 3 and pixels.shape[0] == 1:  # a batch of one
        pixels = pixels[0]
    if pixels.ndim not in (2, 3) or math.prod(pixels.shape) == 0:
        raise ValueError(f"{name}: shape {pixels.shape} is not one image; pass (height, width[, channels])")
    if pixels.ndim == 3 and not channels_last:
        axis = _channel_axis(pixels.shape, prefer_first=channels_first)
        if axis is None:
            raise ValueError(
                f"{name}: shape {pixels.shape} has no axis of up to {MAX_CHANNELS} channels; "
                "pass one plane at a time"
            )
        pixels = np.moveaxis(pixels, axis, -1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return np.ascontiguousarray(_to_known_type(pixels, name))


def _to_known_type(pixels: np.ndarray, name: str) -> np.ndarray:
    kind = pixels.dtype.kind
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if kind in "iu":
        low, high = int(pixels.min()), int(pixels.max())
        if low >= 0 and high <= 65535:
            return pixels.astype(np.uint16)
        if max(-low, high) <= 2**24:  # float32 counts exactly up to here
            return pixels.astype(np.float32)
        raise ValueError(f"{name}: values from {low} to {high} do not fit 16 bits; rescale it to 16 bits")
    if kind != "f":
        raise ValueError(
            f"{name}: values of type {pixels.dtype} are not intensities; convert to uint8 or uint16"
        )
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name}: has values that are not finite; replace them, for example by 0")
    return pixels.astype(np.float32, copy=False)

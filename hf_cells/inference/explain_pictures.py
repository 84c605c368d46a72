"""Pictures of where a classifier looks: heat maps, heat maps over images, boxes and labels."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.display import stretch_contrast

Box = tuple[int, int, int, int]  # top, left, bottom, right (exclusive), as of `box_of`

OPACITY = 0.75  # of the strongest point; where nothing speaks for the class one sees the image alone
_SMALLEST, _LARGEST = 384, 1536  # longer side of a picture: smaller images are enlarged, larger ones reduced
_PANEL, _GAP, _CAPTION = 384, 8, 30
_PAPER, _INK, _PLATE = (255, 255, 255), (32, 33, 36), (0, 0, 0)
# The bright ones of Okabe and Ito, and four more that are told apart from them and from the plate behind them.
COLOURS = [
    *((86, 180, 233), (230, 159, 0), (0, 200, 150), (240, 228, 66), (255, 110, 60), (225, 140, 190)),
    *((170, 150, 255), (255, 255, 255), (150, 220, 90), (180, 180, 180)),
]


class Found(NamedTuple):
    """What an image says of one class.

    Attributes:
        class_id: The class.
        name: Its name.
        probability: Of the class, 0 to 1.
        predicted: Whether the model decides for it.
        activation: `(H, W)` float32 from 0 to 1, in the pixels of the image.
        box: Around the strongest region, or None where the map is empty.
        peak: Row and column of the maximum, or None.
    """

    class_id: int
    name: str
    probability: float
    predicted: bool
    activation: np.ndarray
    box: Box | None
    peak: tuple[int, int] | None

    @property
    def caption(self) -> str:
        """Name and probability."""
        return f"{self.name} {self.probability:.2f}"

    @property
    def colour(self) -> tuple[int, int, int]:
        """The same for a class in every picture."""
        return COLOURS[self.class_id % len(COLOURS)]


def heat_map(activation: np.ndarray) -> np.ndarray:
    """Colour `(H, W)` from 0 to 1 as `(H, W, 3)` uint8 by inferno, which rises evenly in lightness."""
    return _colours()[np.rint(np.clip(activation, 0, 1) * 255).astype(np.uint8)]


def superpose(picture: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Lay the heat map over `(H, W, 3)` uint8, the more opaque the stronger it is."""
    share = (OPACITY * np.clip(activation, 0, 1))[..., None]
    return np.rint((1 - share) * picture + share * heat_map(activation)).astype(np.uint8)


def draw_labels(picture: Image.Image, found: Sequence[Found], fallback: str = "no label") -> Image.Image:
    """Write the predicted labels into the upper left corner, each in the colour of its class."""
    drawn = picture.copy()
    draw, font = ImageDraw.Draw(drawn), font_of(picture.height)
    lines = [(one.caption, one.colour) for one in found if one.predicted] or [(fallback, (255, 255, 255))]
    top = 4.0
    for text, colour in lines:
        top = _plate(draw, (4, top), text, colour, font) + 2
    return drawn


def draw_box(picture: Image.Image, found: Found, size: tuple[int, int], caption: bool = True) -> Image.Image:
    """Draw box, peak and caption of a class onto a picture of an image whose height and width are `size`."""
    drawn = picture.copy()
    draw, font = ImageDraw.Draw(drawn), font_of(picture.height)
    x, y = picture.width / size[1], picture.height / size[0]
    width = max(2, round(picture.height / 160))
    if found.box is not None:
        top, left, bottom, right = found.box
        corners = (left * x, top * y, max(right * x - 1, left * x), max(bottom * y - 1, top * y))
        draw.rectangle(corners, outline=found.colour, width=width)
        if caption:
            height = font.getbbox("Ag")[3] + 6
            above = top * y - height
            place = (left * x, above if above >= 0 else min(bottom * y, picture.height - height))
            _plate(draw, place, found.caption, found.colour, font)
    if found.peak is not None:
        row, column = (found.peak[0] + 0.5) * y, (found.peak[1] + 0.5) * x
        arm = 3 * width
        for shade, thick in (((0, 0, 0), width + 2), ((255, 255, 255), width)):
            draw.line((column - arm, row, column + arm, row), shade, thick)
            draw.line((column, row - arm, column, row + arm), shade, thick)
    return drawn


def shown(image: np.ndarray) -> Image.Image:
    """Stretch the contrast of any image, and bring it to a size at which labels can be read."""
    return sized(Image.fromarray(stretch_contrast(image)))


def sized(picture: Image.Image) -> Image.Image:
    """Enlarge a small picture and reduce a large one; the aspect stays."""
    longest = max(picture.size)
    factor = min(max(1.0, _SMALLEST / longest), _LARGEST / longest)
    if factor == 1:
        return picture
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def pictures_of(picture: Image.Image, found: Found) -> tuple[Image.Image, Image.Image]:
    """Heat map, and heat map over the picture, both of the picture's size."""
    activation = _resized(found.activation, picture.size)
    return Image.fromarray(heat_map(activation)), Image.fromarray(superpose(np.asarray(picture), activation))


def row_picture(
    picture: Image.Image, found: Sequence[Found], size: tuple[int, int], method: str
) -> Image.Image:
    """Put all of it into one picture: a row for each class with labels, heat map, superposition and box."""
    factor = min(_PANEL / picture.width, _PANEL / picture.height)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    columns, line = 4, height + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, len(found) * line + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, one in enumerate(found):
        heat, over = pictures_of(small, one)
        first = draw_labels(small, found) if place == 0 else small
        panels = [first, heat, over, draw_box(small, one, size)]
        score = one.caption if one.predicted else f"{one.caption} (not predicted)"
        captions = [score, method, "over the image", "box by Otsu" if one.box else "empty map"]
        top = _GAP + place * line
        for column, (panel, text) in enumerate(zip(panels, captions, strict=True)):
            left = _GAP + column * (width + _GAP)
            _write(draw, (left, top + 4), text, width)
            sheet.paste(panel, (left, top + _CAPTION))
    return sheet


@cache
def font_of(height: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, for a picture of this height."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), int(np.clip(height / 24, 11, 40)))


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, width: int) -> None:
    font = font_of(_PANEL)
    while text and draw.textlength(text, font) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    draw.text(place, text, _INK, font)


def _plate(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Any, font: Any) -> float:
    """Write on a dark plate, so that it can be read on any image; returns where the plate ends."""
    length, height = draw.textlength(text, font), font.getbbox("Ag")[3]
    x, y = place
    canvas = draw.im.size if draw.im is not None else (0, 0)
    x = max(0, min(x, canvas[0] - length - 8))
    draw.rectangle((x, y, x + length + 8, y + height + 5), fill=_PLATE)
    draw.text((x + 4, y + 1), text, colour, font)
    return y + height + 5


def _resized(activation: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if activation.shape == size[::-1]:
        return activation
    return np.asarray(Image.fromarray(activation.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


@cache
def _colours() -> np.ndarray:
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)

"""The animation over a folder: each image with its labels, and beside it what speaks for a class."""

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from ..files import atomic_write
from .explain_pictures import Found, draw_box, draw_labels, font_of, pictures_of

SIDE = 480  # pixels, of the longer side of a frame
FRAMES, MILLISECONDS = 120, 900
_BAR, _GAP = 26, 4
_PANEL = (SIDE - 3 * _GAP) // 2
_GROUND, _INK = (24, 24, 28), (240, 240, 240)


def make_frame(
    picture: Image.Image, found: Sequence[Found], one: Found, size: tuple[int, int]
) -> Image.Image:
    """Draw a frame of 480 pixels with a palette: labels on the left, the map with its box on the right."""
    factor = min(_PANEL / picture.width, _PANEL / picture.height)
    small = picture.resize(
        [max(1, round(side * factor)) for side in picture.size],  # type: ignore[arg-type]
        Image.Resampling.BICUBIC,
    )
    over = draw_box(pictures_of(small, one)[1], one, size, caption=False)
    frame = Image.new("RGB", (SIDE, _PANEL + _BAR + 2 * _GAP), _GROUND)
    for place, panel in enumerate((draw_labels(small, found), over)):
        mounted = ImageOps.pad(panel, (_PANEL, _PANEL), color=_GROUND)
        frame.paste(mounted, (_GAP + place * (_PANEL + _GAP), _BAR + _GAP))
    text = one.caption if one.predicted else f"{one.caption} (not predicted)"
    ImageDraw.Draw(frame).text((_PANEL + 3 * _GAP, 7), text, one.colour, font_of(_PANEL))
    # Undithered: noise is what makes a GIF large. Octrees keep rare colours, such as those of the labels.
    return frame.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def write_animation(frames: Sequence[Image.Image], path: str | os.PathLike[str]) -> None:
    """Write the frames, at least one, as a GIF that goes round for ever.

    Raises:
        CellsError: It cannot be written.
    """
    with atomic_write(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=list(frames[1:]),
            duration=MILLISECONDS,
            loop=0,
            optimize=True,
        )

"""Example images of a model repository: what the Hub's widget, a demo and the comparison of an export show first."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.display import stretch_contrast
from ..files import atomic_write
from ..models.image_reading import read_image

_LONGEST = 1024  # larger ones are cut in the middle: a widget sends the whole file


def write_widget_examples(
    rows: Iterable[Mapping[str, Any]], model_dir: str | Path, count: int = 3
) -> list[Path]:
    """Write `examples/example_<n>.png` from the first rows of as many groups.

    Widgets read 8-bit grey and RGB only: other depths are stretched, images of other channels make no example. Names of
    raw files do not appear.

    Args:
        rows: With `image` (bytes or path) and, where known, `group`.
        model_dir: Folder of the model.
        count: How many at most.
    """
    seen: set[Any] = set()
    written: list[Path] = []
    for row in rows:
        group = row.get("group") or row.get("image_id")
        if len(written) == count:
            break
        if group in seen or isinstance(row["image"], Mapping):
            continue
        pixels = _as_widgets_read(read_image(row["image"]))
        if pixels is None:
            continue
        seen.add(group)
        path = Path(model_dir) / "examples" / f"example_{len(written) + 1}.png"
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as temporary:
            Image.fromarray(pixels).save(temporary, optimize=True)
        written.append(path)
    return written


def _as_widgets_read(image: np.ndarray) -> np.ndarray | None:
    """`(H, W)` or `(H, W, 3)` uint8, or None for images of other channels."""
    if image.ndim == 3 and image.shape[-1] in (2, 4):  # an alpha channel
        image = image[..., :-1]
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim == 3 and image.shape[-1] != 3:
        return None
    top, left = (max(0, (side - _LONGEST) // 2) for side in image.shape[:2])
    image = image[top : top + _LONGEST, left : left + _LONGEST]
    if image.dtype != np.uint8:
        stretched = stretch_contrast(image)
        image = stretched[..., 0] if image.ndim == 2 and stretched.ndim == 3 else stretched
    return np.ascontiguousarray(image)

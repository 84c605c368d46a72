"""Example images: 8 bits, no names of raw files, one of each group."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_cells.hub.widget_examples import write_widget_examples


def row(image: np.ndarray, group: str | None = None, name: str = "S-2019-1") -> dict[str, Any]:
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, format="PNG")
    return {"image_id": name, "group": group, "image": stored.getvalue()}


def test_one_of_each_group_under_numbers_of_their_own(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    rows = [
        row(grey, "a"),
        row(grey + 1, "a"),
        row(np.stack([grey] * 3, -1), "b"),
        row(grey, "c"),
        row(grey, "d"),
    ]
    written = write_widget_examples(rows, tmp_path, count=3)
    assert [path.name for path in written] == ["example_1.png", "example_2.png", "example_3.png"]
    assert np.array_equal(np.asarray(Image.open(written[0])), grey)  # the very pixels
    assert np.asarray(Image.open(written[1])).shape == (8, 8, 3)


def test_sixteen_bits_and_an_alpha_channel_become_what_widgets_read(tmp_path: Path) -> None:
    deep = np.linspace(1000, 9000, 64).astype(np.uint16).reshape(8, 8)
    clear = np.full((8, 8, 4), 200, np.uint8)
    first, second = write_widget_examples([row(deep, "a"), row(clear, "b")], tmp_path)
    shown = np.asarray(Image.open(first))
    assert shown.dtype == np.uint8 and shown.shape == (8, 8) and np.ptp(shown) > 200
    assert np.asarray(Image.open(second)).shape == (8, 8, 3)


def test_fields_of_several_stains_make_no_example(tmp_path: Path) -> None:
    assert (
        write_widget_examples(
            [{"image_id": "x", "group": None, "image": {"red": b"", "blue": b""}}], tmp_path
        )
        == []
    )


def test_a_large_image_is_cut_in_the_middle(tmp_path: Path) -> None:
    large = np.zeros((1500, 1100), np.uint8)
    large[750, 550] = 255
    (path,) = write_widget_examples([row(large)], tmp_path)
    shown = np.asarray(Image.open(path))
    assert shown.shape == (1024, 1024) and shown.max() == 255

"""Images that are kept as one file a channel: stacked by name, by the reader and by the image processor."""

import io

import numpy as np
import pytest
from PIL import Image

from hf_cells.models.image_processing_classification import CellClassificationImageProcessor
from hf_cells.models.image_reading import read_image


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def planes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 65535, (5, 7), np.uint16) for name in ("red", "green", "blue", "yellow")}


def test_channels_are_stacked_in_order_without_loss(planes, tmp_path):
    stored = {name: png(plane) for name, plane in planes.items()}
    assert (read_image(stored) == np.stack(list(planes.values()), -1)).all()
    chosen = read_image(stored, channels=["blue", "red"])
    assert chosen.dtype == np.uint16 and (chosen == np.stack([planes["blue"], planes["red"]], -1)).all()
    (tmp_path / "g.png").write_bytes(stored["green"])
    mixed = read_image({"a": planes["red"], "b": tmp_path / "g.png"})
    assert (mixed[..., 1] == planes["green"]).all()
    assert (read_image(stored, channels=["green"]) == planes["green"]).all()


def test_the_processor_takes_its_own_channels(planes):
    settings = {"scaling": "dtype", "image_mean": None, "image_std": None}
    names = ["yellow", "green"]
    processor = CellClassificationImageProcessor(num_channels=2, channel_names=names, **settings)
    pixels = processor({name: png(plane) for name, plane in planes.items()})["pixel_values"][0].numpy()
    np.testing.assert_allclose(pixels, np.stack([planes[name] for name in names]) / 65535, rtol=1e-6)
    whole = CellClassificationImageProcessor(num_channels=4, **settings)(planes)["pixel_values"]
    assert whole.shape == (1, 4, 5, 7)
    with pytest.raises(ValueError, match="there is no yellow channel; the channels are red"):
        processor({"red": planes["red"]})


def test_channels_that_do_not_fit_are_named(planes):
    with pytest.raises(ValueError, match=r"channel green: is 4x7 uint16 and channel red is 5x7 uint16"):
        read_image({"red": planes["red"], "green": planes["green"][:4]})
    with pytest.raises(ValueError, match="channel green: is 5x7 uint8"):
        read_image({"red": planes["red"], "green": planes["green"].astype(np.uint8)})
    with pytest.raises(ValueError, match="channel green: is an image of 3 channels"):
        read_image({"red": planes["red"], "green": np.zeros((5, 7, 3), np.uint8)})
    with pytest.raises(ValueError, match="channel red: image bytes: is empty"):
        read_image({"red": b""})
    with pytest.raises(ValueError, match="there is no first channel"):
        read_image({})

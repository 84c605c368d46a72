"""What the tests of the server share: the shipped model, files of images, and the type of the fixture `serving`."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

NUCLEI = Path(__file__).parents[2] / "model_cards" / "dsb2018_instance"
Serving = Callable[..., AbstractContextManager[TestClient]]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()

"""Textures that tell two pictures apart, and datasets of them."""

import io
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from PIL import Image
from scipy import ndimage


def texture(seed: int, size: int = 48, mean: float = 110.0) -> np.ndarray:
    """A (size, size) uint8 picture of blobs, different for every seed."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = ndimage.gaussian_filter(noise, size / 24)
    return np.clip(mean + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def dataset(
    image_ids: Sequence[str],
    images: Sequence[np.ndarray | bytes],
    labels: Sequence[int] | None = None,
    class_names: Sequence[str] = ("round", "long"),
    **columns: Sequence[str | None],
) -> datasets.Dataset:
    """Rows as the builders make them; further columns are text."""
    stored = [image if isinstance(image, bytes) else encode(image) for image in images]
    rows: dict[str, Any] = {
        "image_id": list(image_ids),
        "image": [{"bytes": content, "path": None} for content in stored],
        **{name: list(values) for name, values in columns.items()},
    }
    features: dict[str, Any] = dict.fromkeys(rows, datasets.Value("string"))
    features["image"] = datasets.Image()
    if labels is not None:
        rows["label"] = list(labels)
        features["label"] = datasets.ClassLabel(names=list(class_names))
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

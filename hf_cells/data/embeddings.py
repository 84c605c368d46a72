"""Features of a model in place of the fixed descriptor of an audit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ..errors import CellsError
from ..progress import track
from .image_scan import read_pixels, stored_rows

CALIBRATED_ON = 256  # images
_BATCH = 32

Embedder = Callable[[list[np.ndarray]], np.ndarray]


def embed_images(
    splits: Mapping[str, datasets.Dataset], places: Sequence[tuple[str, int]], model: str
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Compute the features of images, and of changed copies of some of them.

    Args:
        splits: Datasets by split name.
        places: Split and row of each image.
        model: Folder or repository of a model of this package that has `features`, or a name of timm.

    Returns:
        (N, D) float32, and {row: (D,)} of copies at half the resolution and 0.8 of the intensity, which tell
        how alike two pictures of one thing are to this model.

    Raises:
        CellsError: The model cannot be loaded or has no features.
    """
    rows, network = stored_rows(splits), load_embedder(model)

    def embed(images: list[np.ndarray]) -> np.ndarray:
        try:
            return network(images)
        except ValueError as error:  # of the image processor: wrong channels, say
            raise CellsError(f"--embedding {model}: {error}") from error

    def read(index: int) -> np.ndarray:
        split, row = places[index]
        stored = rows[split][row]
        return read_pixels(split, stored["image_id"], stored["image"])

    starts = range(0, len(places), _BATCH)
    features = [
        embed([read(index) for index in range(start, min(start + _BATCH, len(places)))])
        for start in track(starts, "Computing features", total=len(starts))
    ]
    sample = np.unique(np.linspace(0, len(places) - 1, CALIBRATED_ON).astype(int)).tolist()
    again = {index: embed([changed_copy(read(index))])[0] for index in sample}
    return np.concatenate(features), again


def load_embedder(model: str) -> Embedder:
    """Return the function from a list of images to (N, D) float32 features.

    Raises:
        CellsError: As `embed_images`.
    """
    import timm

    if Path(model).exists() or "/" in model:
        return _own_embedder(model)
    if timm.is_model(model):
        return _timm_embedder(model)
    raise CellsError(
        f"--embedding {model}: no such folder, and timm knows no model of this name; "
        "give the model/ folder of a run, a repository, or a name of timm.list_models()"
    )


def changed_copy(pixels: np.ndarray) -> np.ndarray:
    """Return an image at half its resolution, enlarged again, and 0.8 of its intensity; same shape and type."""
    from skimage.transform import resize

    half = (max(1, pixels.shape[0] // 2), max(1, pixels.shape[1] // 2))
    small = resize(pixels, half, order=1, anti_aliasing=True, preserve_range=True)
    copy = 0.8 * resize(small, pixels.shape[:2], order=1, preserve_range=True)
    return copy.astype(pixels.dtype) if pixels.dtype.kind == "f" else np.rint(copy).astype(pixels.dtype)


def _own_embedder(model: str) -> Embedder:
    import torch

    from ..models.loading import pipeline

    pipe = pipeline(model)
    network: Any = pipe.model
    if not hasattr(network, "features"):
        raise CellsError(
            f"--embedding {model}: a {network.config.model_type} model gives no features of an image; "
            "give a classification model"
        )

    def embed(images: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            pixel_values = pipe.image_processor(images)["pixel_values"].to(network.device)
            return network.features(pixel_values).float().cpu().numpy()

    return embed


def _timm_embedder(model: str) -> Embedder:
    import timm
    import torch
    from PIL import Image

    try:
        network: Any = timm.create_model(model, pretrained=True, num_classes=0).eval()
    except Exception as error:  # the network, the Hub and the loader each have errors of their own
        reason = " ".join(str(error).split())[:200]
        raise CellsError(
            f"--embedding {model}: its weights are not within reach ({reason}); check the network, "
            "or give the folder of a model of this package"
        ) from error
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(network))

    def embed(images: list[np.ndarray]) -> np.ndarray:
        batch = torch.stack([transform(Image.fromarray(as_rgb(image))) for image in images])
        with torch.inference_mode():
            return network(batch).float().numpy()

    return embed


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return an 8-bit RGB view, (H, W, 3), of an image (H, W) or (H, W, C) of any depth.

    One stretch between the 0.5 and 99.8 percentiles for all channels; of more than three the first three.
    """
    channels = np.atleast_3d(pixels)[..., :3].astype(np.float32)
    low, high = np.percentile(channels, [0.5, 99.8])
    view = (np.clip((channels - low) / max(high - low, 1e-6), 0, 1) * 255).round().astype(np.uint8)
    return np.concatenate([view, np.repeat(view[..., -1:], 3 - view.shape[-1], axis=-1)], axis=-1)

"""An audit by the features of a model: of this package, of timm, and of neither."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import timm
import torch
from textures import dataset, texture

from hf_cells import models
from hf_cells.data.audit_report import audit_dataset
from hf_cells.data.embeddings import as_rgb, changed_copy, embed_images, load_embedder
from hf_cells.errors import CellsError


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = models.CellClassificationConfig(
        num_channels=1,
        image_size=32,
        hidden_sizes=(8, 16),
        id2label={0: "round", 1: "long"},
        pooling="flatten",
    )
    processor = models.CellClassificationImageProcessor(
        num_channels=1, size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.25]
    )
    network = models.CellForImageClassification(config)
    return models.save_model_repository(network, processor, tmp_path_factory.mktemp("models") / "classifier")


def test_features_of_an_own_model_find_a_changed_copy(classifier: Path) -> None:
    images = [texture(seed) for seed in range(40)]
    splits = {
        "train": dataset([f"{n:02d}" for n in range(40)], images),
        "test": dataset(["40", "41"], [changed_copy(images[7]), texture(99)]),
    }
    places = [("train", row) for row in range(40)] + [("test", 0), ("test", 1)]
    features, again = embed_images(splits, places, str(classifier))
    pipe = models.pipeline(classifier)
    with torch.inference_mode():
        expected = pipe.model.features(pipe.image_processor([images[3]])["pixel_values"].to(pipe.device))
    assert features.shape == (42, 1024) and features.dtype == np.float32
    np.testing.assert_allclose(features[3], expected[0].cpu().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again[7], features[40], rtol=1e-4, atol=1e-5)

    report = audit_dataset(splits, embedding=str(classifier)).report
    assert report["near_duplicates"]["method"] == f"features of {classifier}"
    assert [member[:2] for member in report["near_duplicates"]["members"]] == [
        [["train", "07"], ["test", "40"]]
    ]
    assert report["near_duplicates"]["threshold"] < 0.99
    far = audit_dataset(splits, embedding=str(classifier), similarity=-1.0).report
    assert far["near_duplicates"]["pairs"] == 42 * 41 // 2


def test_a_model_without_features_and_unknown_names_are_refused(tmp_path: Path) -> None:
    config = models.CellUNetSemanticConfig(hidden_sizes=(4, 8), id2label={0: "background", 1: "nucleus"})
    folder = models.save_model_repository(
        models.CellUNetForSemanticSegmentation(config), models.CellSemanticImageProcessor(), tmp_path / "unet"
    )
    with pytest.raises(
        CellsError, match="a cell_unet_semantic model gives no features of an image; give a class"
    ):
        load_embedder(str(folder))
    with pytest.raises(CellsError, match="holds no config.json"):
        load_embedder(str(tmp_path))
    with pytest.raises(
        CellsError, match="no_such_model: no such folder, and timm knows no model of this name"
    ):
        load_embedder("no_such_model")


def test_names_of_timm_need_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    build = timm.create_model

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        CellsError, match=r"resnet10t: its weights are not within reach \(no route to host\); check"
    ):
        load_embedder("resnet10t")

    # Untrained weights take the place of those that tests do not fetch.
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **kw: build(name, pretrained=False, **kw)
    )
    embed = load_embedder("resnet10t")
    images = [texture(0), texture(0).astype(np.uint16) * 257, np.stack([texture(1)] * 4, -1)]
    features = embed(images)
    assert features.shape == (3, 512) and features.dtype == np.float32
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert np.abs(features[0] - features[2]).max() > 1e-3


def test_what_the_processor_refuses_is_one_line(classifier: Path) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([texture(n) for n in range(5)]), photometric="minisblack")
    deep = {"train": dataset(["a"], [buffer.getvalue()])}
    with pytest.raises(CellsError, match="^--embedding .*: the image has 5 channels, the model takes 1"):
        embed_images(deep, [("train", 0)], str(classifier))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(9, 7), (8, 8, 3), (1, 5)])
def test_a_changed_copy_keeps_shape_and_type(dtype: Any, shape: tuple[int, ...]) -> None:
    flat = np.full(shape, 100, dtype)
    copy = changed_copy(flat)
    assert copy.shape == shape and copy.dtype == dtype
    np.testing.assert_allclose(copy, 80, atol=1e-3)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 5])
def test_every_image_has_an_rgb_view(channels: int | None) -> None:
    pixels = texture(0) if channels is None else np.stack([texture(n) for n in range(channels)], -1)
    view = as_rgb(pixels.astype(np.uint16) * 99)
    assert view.shape == (48, 48, 3) and view.dtype == np.uint8
    assert view.min() == 0 and view.max() == 255
    assert not as_rgb(np.full((4, 4), 7.0)).any()

"""Our pipeline and the stock one, on a network that was trained for a second."""

import io
import json
import shutil

import httpx
import numpy as np
import pytest
import torch
from discs import draw_discs, match
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from PIL import Image
from transformers import pipeline as stock_pipeline

import hf_cells
from hf_cells.errors import CellsError
from hf_cells.models import (
    CellInstanceImageProcessor,
    CellSegmentationPipeline,
    CellSemanticImageProcessor,
    tiled_logits,
)


def _same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_instances_as_promised(pipe):
    image, labels = draw_discs(100, size=(120, 90))
    result = pipe(image)
    assert set(result) == {"instance_labels", "scores", "label_ids"}
    found = result["instance_labels"]
    assert (found.shape, found.dtype) == ((120, 90), np.int32)
    assert np.unique(found).tolist() == list(range(9))
    assert min(match(labels, found)) > 0.7
    assert (result["scores"].shape, result["scores"].dtype) == ((8,), np.float32)
    assert (result["scores"] > 0.8).all()
    assert (result["label_ids"] == 0).all()
    assert result["label_ids"].dtype == np.int64
    assert pipe.model.config.id2label == {0: "nucleus"}


def test_semantic_masks_as_promised(semantic_folder):
    pipe = hf_cells.pipeline(semantic_folder, device="cpu")
    image, labels = draw_discs(101)
    result = pipe(image)
    assert set(result) == {"semantic_mask", "probabilities"}
    assert (result["semantic_mask"].shape, result["semantic_mask"].dtype) == (labels.shape, np.uint8)
    assert result["probabilities"].dtype == np.float32
    np.testing.assert_allclose(result["probabilities"].sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(result["probabilities"].argmax(0), result["semantic_mask"])
    assert ((result["semantic_mask"] == 1) == (labels > 0)).mean() > 0.97


def test_all_kinds_of_input_agree(pipe, tmp_path):
    image, _ = draw_discs(102)
    Image.fromarray(image).save(tmp_path / "cells.png")
    expected = pipe(image)
    content = (tmp_path / "cells.png").read_bytes()
    for source in (tmp_path / "cells.png", str(tmp_path / "cells.png"), content, io.BytesIO(content)):
        _same(pipe(source), expected)
    _same(pipe(Image.open(tmp_path / "cells.png")), expected)
    _same(pipe(torch.from_numpy(image.astype(np.int32))), expected)


def test_sixteen_bits_are_kept(pipe):
    """Discs that differ from the background by 200 of 65,535: within one level of 8 bits all but gone."""
    image, _ = draw_discs(103, low=5150, high=5350)
    assert len(pipe(image)["scores"]) == 8
    cut = pipe((image >> 8).astype(np.uint8))
    assert not np.array_equal(cut["instance_labels"], pipe(image)["instance_labels"])


def test_lists_batches_and_generators_keep_the_order(pipe):
    images = [draw_discs(seed, size=size)[0] for seed, size in enumerate([(96, 96)] * 3 + [(80, 100)] * 2)]
    images.insert(1, images.pop())  # two sizes, mixed
    alone = [pipe(image)["instance_labels"] for image in images]
    for results in (
        pipe(images, batch_size=3),
        pipe(tuple(images), batch_size=2),
        list(pipe((image for image in images), batch_size=2)),
    ):
        assert len(results) == len(images)
        for result, labels in zip(results, alone):
            assert result["instance_labels"].shape == labels.shape
            assert (result["instance_labels"] == labels).mean() > 0.999
    assert pipe([]) == []


def test_large_images_go_in_tiles(pipe, monkeypatch):
    image, _ = draw_discs(104, size=(200, 150), count=20)
    whole = pipe(image)
    shapes = []
    forward = pipe.model.forward
    monkeypatch.setattr(pipe.model, "forward", lambda x: shapes.append(tuple(x.shape[-2:])) or forward(x))
    tiled = pipe(image, tile=96, overlap=48)
    assert len(shapes) > 4
    assert max(max(shape) for shape in shapes) <= 96
    assert len(tiled["scores"]) == len(whole["scores"]) == 20
    assert ((tiled["instance_labels"] > 0) == (whole["instance_labels"] > 0)).mean() > 0.999


@pytest.mark.parametrize("views", [4, 8, True])
def test_test_time_augmentation_turns_with_the_image(pipe, views):
    """A mean over all flips cannot depend on how the image lies; a single view does."""
    x = torch.randn(1, 1, 48, 64)

    def maps(value, views):
        inputs = {"pixel_values": value, "size": value.shape[-2:]}
        return pipe.forward(inputs, test_time_augmentation=views)["logits"]

    torch.testing.assert_close(maps(x.flip(-1), views).flip(-1), maps(x, views), atol=1e-4, rtol=1e-4)
    turned = torch.rot90(maps(torch.rot90(x, 1, (-2, -1)), views), -1, (-2, -1))
    is_same = torch.allclose(turned, maps(x, views), atol=1e-4, rtol=1e-4)
    assert is_same == (views != 4)
    assert not torch.allclose(maps(x.flip(-1), False).flip(-1), maps(x, False), atol=1e-3)


def test_thresholds(pipe):
    image, labels = draw_discs(105)
    image = np.where(labels == 3, (image * 0.55).astype(np.uint16), image)
    all_of_them, sure = pipe(image), pipe(image, threshold=0.9)
    assert (sure["scores"] >= 0.9).all()
    assert len(sure["scores"]) == (all_of_them["scores"] >= 0.9).sum() == sure["instance_labels"].max()
    assert len(pipe(image, threshold=1.01)["scores"]) == 0
    assert len(pipe(image, decision_thresholds={"min_size": 1e6})["scores"]) == 0


def test_precision(pipe):
    image, _ = draw_discs(106)
    exact, fast = pipe(image), pipe(image, precision="bf16")
    assert len(fast["scores"]) == len(exact["scores"])
    assert ((fast["instance_labels"] > 0) == (exact["instance_labels"] > 0)).mean() > 0.98


def test_resized_images_come_back_in_their_own_size(instance_model):
    processor = CellInstanceImageProcessor(num_channels=1, size={"height": 96, "width": 96})
    image, labels = draw_discs(107, size=(96, 96))
    pipe = CellSegmentationPipeline(instance_model, image_processor=processor, device="cpu")
    doubled = image.repeat(2, 0).repeat(2, 1)
    result = pipe(doubled)
    assert result["instance_labels"].shape == (192, 192)
    assert min(match(labels.repeat(2, 0).repeat(2, 1), result["instance_labels"])) > 0.6


def test_a_training_loop_may_lend_its_model(instance_model):
    processor = CellInstanceImageProcessor(num_channels=1)
    pipe = CellSegmentationPipeline(instance_model, image_processor=processor, device="cpu")
    image, _ = draw_discs(108)
    expected = pipe(image)
    state = {name: value.clone() for name, value in instance_model.state_dict().items()}
    instance_model.train()
    try:
        _same(pipe(image), expected)
        assert instance_model.training
        assert all(torch.equal(value, state[name]) for name, value in instance_model.state_dict().items())
    finally:
        instance_model.eval()


def test_stock_pipeline_gives_instances(instance_folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run code"))
    stock = stock_pipeline("image-segmentation", model=str(instance_folder), device="cpu")
    assert type(stock.image_processor) is CellInstanceImageProcessor
    image, labels = draw_discs(109)
    segments = stock(Image.fromarray((image >> 8).astype(np.uint8)), threshold=0.5)
    assert len(segments) == 8
    assert {segment["label"] for segment in segments} == {"nucleus"}
    assert all(0.5 <= segment["score"] <= 1 for segment in segments)
    together = np.max([np.asarray(segment["mask"]) for segment in segments], 0)
    assert ((together > 0) == (labels > 0)).mean() > 0.96


def test_stock_pipeline_gives_semantic_masks(semantic_folder):
    stock = stock_pipeline("image-segmentation", model=str(semantic_folder), device="cpu")
    image, labels = draw_discs(110)
    segments = stock(Image.fromarray((image >> 8).astype(np.uint8)))
    assert [segment["label"] for segment in segments] == ["background", "cell"]
    assert [segment["score"] for segment in segments] == [None, None]
    assert ((np.asarray(segments[1]["mask"]) > 0) == (labels > 0)).mean() > 0.97


def test_registered_task(pipe, instance_folder):
    by_name = stock_pipeline(
        "cell-segmentation", model=str(instance_folder), device="cpu", trust_remote_code=True, tile=512
    )
    image, _ = draw_discs(111)
    _same(by_name(image), pipe(image))


def test_wrong_use_is_explained(pipe, instance_model, instance_folder, tmp_path):
    with pytest.raises(TypeError, match="unknown option tiles; the pipeline knows decision_thresholds"):
        pipe(np.zeros((8, 8)), tiles=3)
    with pytest.raises(ValueError, match="precision='fp8' is unknown"):
        hf_cells.pipeline(instance_folder, precision="fp8")
    with pytest.raises(ValueError, match="test_time_augmentation"):
        pipe(np.zeros((8, 8)), test_time_augmentation=3)
    with pytest.raises(
        ValueError, match="CellSemanticImageProcessor does not suit a cell_unet_instance model"
    ):
        CellSegmentationPipeline(instance_model, image_processor=CellSemanticImageProcessor(), device="cpu")
    with pytest.raises(ValueError, match="needs the model's image processor"):
        CellSegmentationPipeline(instance_model, device="cpu")
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        pipe(tmp_path / "none.tif")
    with pytest.raises(CellsError, match=r"holds no config\.json"):
        hf_cells.pipeline(tmp_path)
    with pytest.raises(CellsError, match=r"nowhere: no such folder, and no name of a repository"):
        hf_cells.pipeline(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CellsError, match="its model_type 'bert' is none of cell_unet_semantic"):
        hf_cells.pipeline(tmp_path)


def test_whole_and_tiled_are_the_same_function(pipe):
    """The pipeline's tiles are `tiled_logits` on the model, nothing more."""
    x = torch.randn(1, 1, 100, 100)
    inputs = {"pixel_values": x, "size": (100, 100)}
    by_pipe = pipe.forward(inputs, tile=64, overlap=16)["logits"]
    with torch.inference_mode():
        by_hand = tiled_logits(lambda v: pipe.model(v).logits, x, 64, 16, pipe.model.unet.multiple)
    torch.testing.assert_close(by_pipe, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", 99, "meta", ""])
def test_a_device_that_is_not_here(instance_folder, device):
    with pytest.raises(CellsError, match=f"^--device {device}: no such device here; use cpu"):
        hf_cells.pipeline(instance_folder, device)


def test_the_first_devices_are_always_there(instance_folder):
    for device in ("cpu", -1, torch.device("cpu")):
        assert hf_cells.pipeline(instance_folder, device).device.type == "cpu"


def test_a_card_without_weights_says_how_to_get_them(instance_folder, tmp_path):
    card = tmp_path / "card"
    shutil.copytree(instance_folder, card)
    (card / "model.safetensors").unlink()
    with pytest.raises(CellsError, match=r"cannot load a model of hf-cells from .*model\.safetensors"):
        hf_cells.pipeline(card)  # nothing says what it was trained by
    (card / "results.json").write_text(json.dumps({"run": {"recipe": "hep2_best"}}))
    expected = "card: holds a card without weights .*accelerate launch train.py --recipe hep2_best$"
    with pytest.raises(CellsError, match=expected):
        hf_cells.pipeline(card)


def test_what_cannot_be_a_name_is_not_asked_of_the_hub(monkeypatch):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("asked"))
    for name in ("nomodel", "runs/nuclei/model"):
        with pytest.raises(CellsError, match=f"^{name}: no such folder, and no name of a repository"):
            hf_cells.pipeline(name)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (LocalEntryNotFoundError("disabled"), "no such folder, and the Hub could not be reached; check"),
        (
            RepositoryNotFoundError(
                "404", response=httpx.Response(404, request=httpx.Request("GET", "http://h"))
            ),
            "no such folder, and no repository of the Hub that you may read; check the name, or log in",
        ),
    ],
)
def test_a_name_that_is_neither_here_nor_on_the_hub(monkeypatch, cause, message):
    def fail(*arguments, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co'") from cause

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", fail)
    with pytest.raises(CellsError, match=f"^nobody/nothing: {message}"):
        hf_cells.pipeline("nobody/nothing")

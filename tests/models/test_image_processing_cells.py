"""The one preprocessing: depth, channels, sizes, scaling, and the way back."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoImageProcessor

from hf_cells.models import (
    DECODING_DEFAULTS,
    CellImageProcessor,
    CellInstanceImageProcessor,
    CellSemanticImageProcessor,
    instance_targets,
)


def _random(shape, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def _pixels(processor, image) -> torch.Tensor:
    return processor(image)["pixel_values"]


@pytest.mark.parametrize("scaling", ["percentile", "dtype"])
def test_depth_does_not_matter(scaling):
    processor = CellImageProcessor(scaling=scaling, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    deep = _random((40, 50, 3), np.uint16)
    difference = _pixels(processor, deep) - _pixels(processor, (deep >> 8).astype(np.uint8))
    assert 0 < difference.abs().max() < 1 / 250 / 0.2 * 1.1


def test_sixteen_bits_are_kept():
    """260 levels inside one level of an 8-bit image."""
    ramp = np.arange(20_000, 20_260, dtype=np.uint16).reshape(20, 13)
    values = _pixels(CellImageProcessor(num_channels=1), ramp)
    assert len(values.unique()) == 260


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((9, 8), 3), ((9, 8, 1), 3), ((9, 8, 3), 3), ((9, 8, 4), 3), ((9, 8), 1), ((9, 8, 2), 1)],
)
def test_channels_are_brought_to_the_model(shape, wanted):
    image = _random(shape)
    pixels = _pixels(CellImageProcessor(num_channels=wanted, scaling="dtype"), image)
    assert pixels.shape == (1, wanted, 9, 8)
    colours = image.reshape(9, 8, -1)
    for channel in range(wanted):
        source = colours[..., channel] if colours.shape[-1] >= wanted else colours[..., 0]
        np.testing.assert_allclose(pixels[0, channel], source / 255, atol=1e-6)


def test_colour_becomes_luma():
    image = np.zeros((2, 3, 3), np.uint16)
    image[..., 1] = 50_000
    pixels = _pixels(CellImageProcessor(num_channels=1, scaling="dtype"), image)
    np.testing.assert_allclose(pixels, 0.587 * 50_000 / 65_535, atol=1e-4)


def test_alpha_is_no_channel():
    grey = _random((12, 10))
    alpha = Image.fromarray(np.stack([grey, np.full_like(grey, 90)], -1), "LA")
    processor = CellImageProcessor(num_channels=1)
    assert torch.equal(_pixels(processor, alpha), _pixels(processor, grey))


def test_paths_bytes_pil_arrays_and_tensors_agree(tmp_path):
    image = _random((20, 24, 3))
    path = tmp_path / "cells.png"
    Image.fromarray(image).save(path)
    content = io.BytesIO(path.read_bytes())
    processor = CellImageProcessor()
    expected = _pixels(processor, image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for source in (path, str(path), path.read_bytes(), content, Image.open(path), tensor):
        assert torch.equal(_pixels(processor, source), expected), type(source)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 1000),
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.floats(0, 20), st.floats(80, 100)),
)
def test_percentiles_agree_with_numpy(seed, dtype, percentiles):
    rng = np.random.default_rng(seed)
    image = (rng.gamma(2, 0.1, (31, 17, 1)).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    low, high = CellImageProcessor(num_channels=1, percentiles=percentiles).intensity_range(image)
    by_numpy = np.percentile(image, percentiles, method="inverted_cdf")
    np.testing.assert_array_equal([low[0], high[0]], by_numpy)


def test_percentiles_of_floats_and_of_single_channels():
    image = np.random.default_rng(0).normal(5, 2, (30, 30, 3)).astype(np.float32) * [1, 10, 100]
    image = image.astype(np.float32)
    low, high = CellImageProcessor(percentiles=(1, 99), per_channel=True).intensity_range(image)
    np.testing.assert_allclose([low, high], np.percentile(image, (1, 99), axis=(0, 1)), rtol=1e-5)
    pixels = _pixels(CellImageProcessor(percentiles=(0, 100), per_channel=True), image)
    np.testing.assert_allclose(pixels.amin((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(pixels.amax((0, 2, 3)), 1, atol=1e-5)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_constant_image_is_finite(value, dtype):
    pixels = _pixels(CellImageProcessor(), np.full((5, 6), value, dtype))
    assert torch.isfinite(pixels).all()
    assert pixels.abs().max() <= 1


def test_sizes_are_padded_and_cropped_back():
    images = [_random((10, 30)), _random((25, 12, 3), seed=1)]
    processor = CellSemanticImageProcessor(num_channels=1)
    pixels = processor(images)["pixel_values"]
    assert pixels.shape == (2, 1, 25, 30)
    for image, padded in zip(images, pixels):
        height, width = image.shape[:2]
        assert torch.equal(padded[:, :height, :width], _pixels(processor, image)[0])
    assert torch.equal(pixels[0, :, 10:], pixels[0, :, 9:10].expand(1, 15, 30))
    logits = torch.cat([-pixels, pixels], 1)
    masks = processor.post_process_semantic_segmentation({"logits": logits}, [(10, 30), (25, 12)])
    assert [tuple(mask.shape) for mask in masks] == [(10, 30), (25, 12)]
    assert torch.equal(masks[1], logits[1, :, :25, :12].argmax(0))


def test_resizing_and_back():
    image = np.zeros((40, 80), np.uint8)
    image[:, 40:] = 200
    processor = CellSemanticImageProcessor(num_channels=1, size={"height": 16, "width": 16}, scaling="dtype")
    pixels = _pixels(processor, image)
    assert pixels.shape == (1, 1, 16, 16)
    logits = torch.cat([torch.full_like(pixels, 0.4), pixels], 1)
    (mask,) = processor.post_process_semantic_segmentation({"logits": logits}, [(40, 80)])
    assert mask.shape == (40, 80)
    assert (mask.numpy() == (image > 0)).mean() > 0.97


def test_instances_leave_with_scores_and_consecutive_numbers():
    labels = np.zeros((40, 60), int)
    labels[5:20, 5:20], labels[5:20, 30:45], labels[25:38, 10:30] = 1, 2, 3
    maps = torch.from_numpy(instance_targets(labels))
    maps[:2] = 12 * maps[:2] - 6
    maps[0][torch.from_numpy(labels == 2)] = 0.4  # doubtful
    processor = CellInstanceImageProcessor()
    outputs = {"logits": maps[None]}
    (all_of_them,) = processor.post_process_instance_segmentation(outputs, target_sizes=[(40, 60)])
    (sure,) = processor.post_process_instance_segmentation(outputs, threshold=0.9)
    assert [item["id"] for item in all_of_them["segments_info"]] == [1, 2, 3]
    assert [item["id"] for item in sure["segments_info"]] == [1, 2]
    assert sure["segmentation"].unique().tolist() == [0, 1, 2]
    assert not sure["segmentation"][5:20, 30:45].any()
    large = {"min_size": 250.0}
    (larger,) = processor.post_process_instance_segmentation(outputs, decision_thresholds=large)
    assert len(larger["segments_info"]) == 1


@pytest.mark.parametrize("processor_class", [CellSemanticImageProcessor, CellInstanceImageProcessor])
def test_round_trip(processor_class, tmp_path):
    settings = {
        "num_channels": 2,
        "channel_names": ["DNA", "actin"],
        "scaling": "dtype",
        "percentiles": [1.0, 99.0],
        "per_channel": True,
        "image_mean": [0.1, 0.2],
        "image_std": [0.3, 0.4],
        "size": {"height": 20, "width": 30},
        "max_pixels": 5000,
    }
    if processor_class is CellInstanceImageProcessor:
        settings["decision_thresholds"] = {**DECODING_DEFAULTS, "foreground": 0.42}
    processor = processor_class(**settings)
    processor.save_pretrained(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(again) is processor_class
    for name, value in settings.items():
        loaded = getattr(again, name)
        assert (dict(loaded) if isinstance(value, dict) else loaded) == value, name
    image = _random((25, 40, 2), np.uint16)
    assert torch.equal(_pixels(again, image), _pixels(processor, image))
    assert (tmp_path / "image_reading.py").is_file()


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="2 channels, the model takes 3; give 3 or 1"):
        CellImageProcessor()(_random((8, 8, 2)))
    with pytest.raises(ValueError, match="scaling='log' is unknown; choose one of percentile"):
        CellImageProcessor(scaling="log")
    with pytest.raises(ValueError, match=r"unknown decision_thresholds \['forground'\]; known: foreground"):
        CellInstanceImageProcessor(decision_thresholds={"forground": 0.3})
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        CellImageProcessor()(tmp_path / "none.png")
    Image.fromarray(_random((30, 30))).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png.*limit of 100 pixels"):
        CellImageProcessor(max_pixels=100)(tmp_path / "large.png")


@pytest.mark.parametrize("shape", [(40, 60), (33, 17), (1, 1)])
def test_magnification_enlarges_the_input_and_brings_the_maps_back(shape: tuple[int, int]) -> None:
    processor = CellSemanticImageProcessor(magnification=1.5)
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    pixel_values = processor(image)["pixel_values"]
    assert tuple(pixel_values.shape[-2:]) == processor.network_size(shape)
    assert processor.network_size((40, 60)) == (60, 90)
    maps = torch.stack([pixel_values[0, 0], 1 - pixel_values[0, 0]])[None]
    label_map = processor.post_process_semantic_segmentation({"logits": maps}, target_sizes=[shape])[0]
    assert tuple(label_map.shape) == shape


def test_magnified_maps_of_a_padded_batch_lose_their_padding_first() -> None:
    processor = CellSemanticImageProcessor(magnification=2.0)
    small, large = np.zeros((10, 10), np.uint8), np.zeros((30, 20), np.uint8)
    logits = torch.zeros(2, 2, *processor([small, large])["pixel_values"].shape[-2:])
    logits[0, 1, :20, :20] = 1.0  # exactly what the small image fills
    first, second = processor.post_process_semantic_segmentation(
        {"logits": logits}, target_sizes=[(10, 10), (30, 20)]
    )
    assert bool((first == 1).all()) and tuple(second.shape) == (30, 20)

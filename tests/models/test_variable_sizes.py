"""Cells of several sizes: padded, kept as they are, and pooled without their padding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_cells.models import (
    CellClassificationConfig,
    CellClassificationImageProcessor,
    CellForImageClassification,
)

SIZE = {"height": 12, "width": 16}


def processor(sizing: str, **changes) -> CellClassificationImageProcessor:
    given = {"num_channels": 1, "scaling": "dtype", "size": SIZE, "sizing": sizing, **changes}
    return CellClassificationImageProcessor(**given)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


# ---------------------------------------------------------------- the image processor


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 16), st.booleans())
def test_padding_keeps_every_pixel_in_the_middle_of_the_dark(height, width, normalised):
    """Dark is what black is to the model: minus mean over deviation."""
    changes = {"image_mean": [0.3], "image_std": [0.5]} if normalised else {}
    image, made = noise(height, width), processor("pad", **changes)
    pixels = made(image)["pixel_values"][0, 0]
    assert pixels.shape == (12, 16)
    expected = np.zeros((12, 16), np.float32)
    top, left = (12 - height) // 2, (16 - width) // 2
    expected[top : top + height, left : left + width] = image / 255
    expected = (expected - 0.3) / 0.5 if normalised else expected
    np.testing.assert_allclose(pixels, expected, atol=1e-5)
    back = made.to_original_size(pixels[None], (height, width))
    torch.testing.assert_close(back[0], pixels[top : top + height, left : left + width], atol=1e-6, rtol=0)


@pytest.mark.parametrize("sizing", ["pad", "variable"])
def test_what_is_larger_is_shrunk_with_its_aspect(sizing):
    made = processor(sizing)
    assert made.network_size((24, 16)) == (12, 8)
    assert made.network_size((10, 64)) == (2, 16)
    assert made.network_size((1, 900)) == (1, 16)
    shape = made(noise(24, 16))["pixel_values"].shape[-2:]
    assert tuple(shape) == ((12, 16) if sizing == "pad" else (12, 8))


def test_variable_images_keep_their_pixels():
    image = noise(5, 9)
    np.testing.assert_allclose(processor("variable")(image)["pixel_values"][0, 0], image / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizing": "stretch"}, "sizing='stretch' is unknown"),
        ({"sizing": "pad", "size": None}, "needs size"),
        ({"sizing": "variable", "square": "zero"}, "takes no square"),
        ({"sizing": "pad", "crop_size": SIZE}, "no crop_size"),
    ],
)
def test_sizings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CellClassificationImageProcessor(**{"size": SIZE, **changes})


# ---------------------------------------------------------------- the network


def network(**changes) -> CellForImageClassification:
    torch.manual_seed(0)
    config = CellClassificationConfig(
        num_channels=1,
        id2label={0: "a", 1: "b"},
        problem_type="multi_label_classification",
        **{"hidden_sizes": [4], "norm": "none", **changes},
    )
    return CellForImageClassification(config).eval()


def batch(sizes, channels=1):
    torch.manual_seed(1)
    images = [torch.randn(channels, height, width) for height, width in sizes]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    padded = torch.stack(
        [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    )
    return images, padded, torch.tensor(sizes)


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_one_layer_sees_of_a_padded_image_what_it_sees_of_it_alone(pooling, stem_stride):
    model = network(pooling=pooling, stem_stride=stem_stride)
    images, padded, sizes = batch([(6, 8), (10, 4), (12, 12), (2, 2)])
    with torch.no_grad():
        together = model(padded, image_sizes=sizes).logits
        alone = torch.cat([model(image[None]).logits for image in images])
        careless = model(padded).logits
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (careless - alone).abs()[[0, 1, 3]].max() > 1e-2


def test_a_deep_network_comes_far_closer_than_with_the_padding_pooled():
    model = network(hidden_sizes=[8, 16, 16], norm="batch", residual=True)
    images, padded, sizes = batch([(64, 64), (128, 128), (96, 40)])
    with torch.no_grad():
        alone = torch.cat([model(image[None]).logits for image in images])
        together = model(padded, image_sizes=sizes).logits
        careless = model(padded).logits
    assert (together - alone).norm() < 0.6 * (careless - alone).norm()
    torch.testing.assert_close(together[1], alone[1], atol=1e-4, rtol=1e-4)  # has no padding


def test_of_a_timm_network_the_cells_of_the_last_map_that_an_image_reaches_are_pooled():
    """ResNet-18 shrinks by 32: of 4 x 4 cells the images reach 2 x 2, all, and 3 x 2."""
    model = network(backbone="resnet18", hidden_sizes=[])
    _, padded, sizes = batch([(64, 64), (128, 128), (96, 40)])
    with torch.no_grad():
        features = model.features(padded, sizes)
        maps = model.backbone.forward_features(padded)
    for feature, own, (rows, columns) in zip(features, maps, [(2, 2), (4, 4), (3, 2)]):
        torch.testing.assert_close(feature, own[:, :rows, :columns].mean((1, 2)), atol=1e-5, rtol=1e-5)


def test_equal_sizes_change_nothing_and_the_loss_is_there():
    model = network(hidden_sizes=[4, 8])
    _, padded, sizes = batch([(9, 7), (9, 7)])
    with torch.no_grad():
        plain = model(padded, labels=torch.eye(2))
        sized = model(padded, labels=torch.eye(2), image_sizes=sizes)
    torch.testing.assert_close(plain.logits, sized.logits)
    torch.testing.assert_close(plain.loss, sized.loss)


@pytest.mark.parametrize(
    "changes",
    [{"pooling": "flatten", "image_size": 12}, {"backbone": "alexnet"}, {"backbone": "vit_tiny_patch16_224"}],
)
def test_networks_that_cannot_leave_padding_out_say_so(changes):
    model = network(**changes)
    with pytest.raises(ValueError, match="several sizes need"):
        model(torch.zeros(2, 1, 224, 224), image_sizes=torch.tensor([[224, 224], [100, 90]]))
    with pytest.raises(ValueError, match="one by one"):
        network(test_time_views=4)(torch.zeros(1, 1, 8, 8), image_sizes=torch.tensor([[8, 8]]))

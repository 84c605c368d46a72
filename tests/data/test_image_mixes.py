"""MixUp, CutMix and Mosaic: the labels say exactly what the pixels show."""

import pytest
import torch
from changed_images import change, images
from hypothesis import given, settings
from hypothesis import strategies as st

QUIET = settings(max_examples=25, deadline=None, derandomize=True)


def classes_as_pixels(batch=6, height=20, width=16) -> tuple[torch.Tensor, torch.Tensor]:
    """Image k is all k: a pixel tells whose it is."""
    x = torch.arange(batch, dtype=torch.float32)[:, None, None, None].expand(batch, 1, height, width)
    return x.clone(), torch.eye(batch)


@QUIET
@given(st.integers(0, 1000), st.floats(0.1, 3))
def test_the_label_of_mixup_is_the_share_of_its_pixels(seed, beta):
    x, labels = classes_as_pixels()
    made, soft = change(x, labels, seed=seed, mixup=beta)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    expected = (soft * torch.arange(6.0)).sum(1)
    torch.testing.assert_close(made, expected[:, None, None, None].expand_as(made), atol=1e-5, rtol=1e-5)
    assert ((soft > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("kind", ["cutmix", "mosaic"])
@QUIET
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 30), st.integers(2, 7))
def test_the_label_of_a_collage_is_the_area_of_its_parts(kind, seed, height, width, batch):
    if kind == "mosaic" and min(height, width) < 2:  # four parts need two rows and two columns
        return
    x, labels = classes_as_pixels(batch, height, width)
    made, soft = change(x, labels, seed=seed, **{kind: 1.0})
    torch.testing.assert_close(soft.sum(1), torch.ones(batch))
    for result, truth in zip(made, soft):
        areas = torch.tensor([(result.round() == k).float().mean() for k in range(batch)])
        torch.testing.assert_close(areas, truth, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(result, result.round(), atol=1e-5, rtol=0)


def test_a_mosaic_shows_four_whole_images():
    """Each corner is its whole image, shrunk: a gradient still runs from end to end."""
    ramp = torch.linspace(0, 1, 32)[None, None, None].expand(4, 1, 32, 32)
    made, soft = change(ramp.contiguous(), torch.eye(4), mosaic=1.0)
    for result, truth in zip(made, soft):
        assert (truth > 0.05).all()
        row = result[0, 0]
        edge = int(row.diff().argmin()) + 1  # where the second begins anew
        assert 9 <= edge <= 23
        assert row[0] < 0.05 and row[edge - 1] > 0.93 and row[edge] < 0.07 and row[-1] > 0.93


def test_shares_of_mixed_samples():
    x, labels = classes_as_pixels(200)
    for ranges, low, high in (
        ({"mixup": 1.0, "mix_probability": 0.3}, 35, 85),
        ({"cutmix": 1.0, "mixup": 1.0}, 190, 200),
        ({"mosaic": 0.25}, 30, 70),
    ):
        _, soft = change(x, labels, **ranges)
        assert low <= ((soft > 0).sum(1) > 1).sum() <= high
    made, soft = change(x, labels, mixup=1.0, cutmix=1.0)
    pure = ((made - made.round()).abs().amax((1, 2, 3)) < 1e-6).sum()
    assert 60 <= pure <= 140  # half of them are collages


def test_mixes_of_several_labels_and_of_one_image_alone():
    x, labels = images(3), torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    _, soft = change(x, labels, mixup=0.4, cutmix=1.0, mosaic=0.3)
    assert (soft >= 0).all() and (soft <= 1).all()
    made, soft = change(x[:1], labels[:1], mixup=1.0)
    torch.testing.assert_close(made, x[:1])
    torch.testing.assert_close(soft, labels[:1])

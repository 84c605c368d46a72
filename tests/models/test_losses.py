"""Losses against values worked out by hand or by plain torch."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_cells.models import focal_loss, semantic_loss, soft_dice_loss


def test_dice_by_hand():
    probabilities = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    targets = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert soft_dice_loss(probabilities, targets).item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))
    assert soft_dice_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).item() == 0


def test_two_label_cross_entropy_is_the_binary_one():
    logits, labels = torch.randn(2, 2, 5, 6), torch.randint(0, 2, (2, 5, 6))
    binary = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], labels.float())
    torch.testing.assert_close(semantic_loss(logits, labels), binary)


def test_focal_fades_where_the_model_is_sure():
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)  # probability 3/4
    expected = (1 - 0.75) ** 2 * -math.log(0.75)
    assert focal_loss(logits, labels, ignore_index=255).item() == pytest.approx(expected, rel=1e-5)


def test_sum_of_losses():
    logits, labels = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 5, 6))
    parts = semantic_loss(logits, labels, "cross_entropy") + semantic_loss(logits, labels, "dice")
    torch.testing.assert_close(semantic_loss(logits, labels, "cross_entropy+dice"), parts)


def test_dice_of_labels_is_that_of_their_masks():
    logits, labels = torch.randn(2, 4, 9, 7), torch.randint(0, 4, (2, 9, 7))
    labels[:, :2] = 255
    valid = labels != 255
    masks = F.one_hot(labels.masked_fill(~valid, 0), 4).movedim(-1, 1)
    expected = soft_dice_loss(logits.softmax(1)[:, 1:], masks[:, 1:], valid[:, None])
    torch.testing.assert_close(semantic_loss(logits, labels, "dice"), expected)


def test_the_weight_map_is_the_weight_of_each_pixels_label():
    logits, labels = torch.randn(1, 3, 5, 6), torch.randint(0, 3, (1, 5, 6))
    weights = torch.tensor([0.2, 1.0, 5.0])
    map_of_weights = weights[labels]
    expected = (
        F.cross_entropy(logits, labels, reduction="none") * map_of_weights
    ).sum() / map_of_weights.sum()
    torch.testing.assert_close(semantic_loss(logits, labels, class_weights=weights.tolist()), expected)


@pytest.mark.parametrize("name", ["dice", "focal"])
def test_nothing_known_is_no_loss(name):
    labels = torch.full((1, 4, 4), 255)
    assert semantic_loss(torch.randn(1, 2, 4, 4), labels, name).item() == 0


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown loss 'lovasz'; choose cross_entropy"):
        semantic_loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2), "lovasz")

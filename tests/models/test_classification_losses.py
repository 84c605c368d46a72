"""Classification losses against torch's own, and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hf_cells.models import classification_loss

NAMES = ("cross_entropy", "bce", "focal", "smooth_l1", "hinge")
seeds = st.integers(0, 10_000)


def batch(seed: int, rows: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, ids of the classes, and weights of the classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    return logits, labels, 0.1 + torch.rand(classes, generator=generator)


def several(seed: int, rows: int = 6, classes: int = 4) -> torch.Tensor:
    return (torch.rand(rows, classes, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seeds, st.floats(0, 0.9), st.booleans())
def test_cross_entropy_is_torchs(seed, smoothing, weighted):
    logits, labels, weights = batch(seed)
    weights = weights if weighted else None
    ours = classification_loss(
        logits,
        labels,
        class_weights=None if weights is None else weights.tolist(),
        label_smoothing=smoothing,
    )
    close(ours, F.cross_entropy(logits, labels, weights, label_smoothing=smoothing))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds, st.floats(0, 0.9))
def test_cross_entropy_of_soft_labels_is_torchs(seed, smoothing):
    logits, _, _ = batch(seed)
    soft = batch(seed + 1)[0].softmax(1)
    close(
        classification_loss(logits, soft, label_smoothing=smoothing),
        F.cross_entropy(logits, soft, label_smoothing=smoothing),
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_hinge_is_torchs_multi_margin(seed):
    logits, labels, weights = batch(seed)
    close(classification_loss(logits, labels, "hinge"), nn.MultiMarginLoss()(logits, labels))
    # torch divides by the number of images, this by their weights, as torch's own cross-entropy does
    weighted = nn.MultiMarginLoss(weight=weights, reduction="sum")(logits, labels) / weights[labels].sum()
    close(classification_loss(logits, labels, "hinge", class_weights=weights.tolist()), weighted)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_binary_cross_entropy_is_torchs(seed):
    logits, labels, weights = batch(seed)
    truth = several(seed)
    close(
        classification_loss(logits, truth, "bce", multi_label=True),
        F.binary_cross_entropy_with_logits(logits, truth),
    )
    close(
        classification_loss(logits, truth, "bce", multi_label=True, class_weights=weights.tolist()),
        F.binary_cross_entropy_with_logits(logits, truth, weights),
    )
    one_against_rest = F.binary_cross_entropy_with_logits(
        logits, F.one_hot(labels, 4).float(), reduction="none"
    )
    close(classification_loss(logits, labels, "bce"), one_against_rest.sum(1).mean())


def test_smooth_l1_is_torchs_on_probabilities():
    logits, labels, _ = batch(0)
    expected = nn.SmoothL1Loss(reduction="none", beta=0.5)(logits.softmax(1), F.one_hot(labels, 4).float())
    close(classification_loss(logits, labels, "smooth_l1"), expected.sum(1).mean())
    truth = several(0)
    expected = nn.SmoothL1Loss(beta=0.5)(logits.sigmoid(), truth)
    close(classification_loss(logits, truth, "smooth_l1", multi_label=True), expected)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_focal_without_an_exponent_is_cross_entropy(seed):
    logits, labels, weights = batch(seed)
    for given_weights in (None, weights.tolist()):
        settings_of = {"class_weights": given_weights}
        close(
            classification_loss(logits, labels, "focal", focal_gamma=0, **settings_of),
            classification_loss(logits, labels, "cross_entropy", **settings_of),
        )
    truth = several(seed)
    close(
        classification_loss(logits, truth, "focal", focal_gamma=0, multi_label=True),
        classification_loss(logits, truth, "bce", multi_label=True),
    )


def test_focal_by_hand():
    sure = torch.tensor([[0.0, math.log(3)]])  # probability 3/4
    expected = (1 - 0.75) ** 2 * -math.log(0.75)
    assert classification_loss(sure, torch.tensor([1]), "focal").item() == pytest.approx(expected, rel=1e-5)
    # Lin et al. 2017, a sigmoid for each label: 3/4 for the present one, 1/4 for the absent one
    logits = torch.tensor([[math.log(3), -math.log(3)]])
    truth = torch.tensor([[1.0, 0.0]])
    found = classification_loss(logits, truth, "focal", multi_label=True, focal_gamma=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_hinge_of_several_labels_by_hand():
    logits, truth = torch.tensor([[0.25, 3.0, -0.5]]), torch.tensor([[1.0, 1.0, 0.0]])
    found = classification_loss(logits, truth, "hinge", multi_label=True)
    assert found.item() == pytest.approx((0.75 + 0 + 0.5) / 3)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["cross_entropy", "bce", "focal", "hinge"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(seeds, st.floats(0, 1))
def test_the_loss_of_mixed_labels_is_the_mixture_of_the_losses(name, multi_label, seed, share):
    """What MixUp means by a soft label."""
    if multi_label and name == "cross_entropy":
        return
    logits, labels, _ = batch(seed)
    if multi_label:
        one, other = several(seed), several(seed + 1)
    else:
        one, other = (F.one_hot(ids, 4).float() for ids in (labels, labels.flip(0)))

    def loss(truth):
        return classification_loss(logits, truth, name, multi_label=multi_label)

    close(loss(share * one + (1 - share) * other), share * loss(one) + (1 - share) * loss(other))


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_one_hot_labels_agree(name):
    logits, labels, weights = batch(3)
    for given_weights in (None, weights.tolist()):
        found = [
            classification_loss(logits, truth, name, class_weights=given_weights)
            for truth in (labels, F.one_hot(labels, 4).float())
        ]
        close(*found)


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_of_a_class_is_how_often_its_images_count(name):
    """A weight of 3 for a class is the mean over a batch with its images thrice."""
    logits, labels, _ = batch(5)
    rare = torch.nonzero(labels == labels[0]).flatten()
    repeated = torch.cat([torch.arange(6), rare, rare])
    weights = [3.0 if k == labels[0] else 1.0 for k in range(4)]
    close(
        classification_loss(logits, labels, name, class_weights=weights),
        classification_loss(logits[repeated], labels[repeated], name),
    )


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_gradients_are_finite_where_the_model_is_sure(name, multi_label, gamma):
    for scale in (0.0, 30.0, 1e4):
        logits = (scale * torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])).requires_grad_()
        truth = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        loss = classification_loss(logits, truth, name, multi_label=multi_label, focal_gamma=gamma)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_computed_in_full():
    logits, labels, _ = batch(1)
    found = classification_loss(logits.bfloat16(), labels)
    assert found.dtype == torch.float32
    close(found, F.cross_entropy(logits.bfloat16().float(), labels))


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown loss 'dice'; choose cross_entropy, bce"):
        classification_loss(*batch(0)[:2], "dice")


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_focal_alpha_weighs_present_labels_against_absent_ones_by_hand():
    """Present at .9 and absent at .2, gamma 2: .8 * .1^2 * -ln .9 and .2 * .2^2 * -ln .8."""
    logits, labels = torch.tensor([[logit(0.9), logit(0.2)]]), torch.tensor([[1.0, 0.0]])
    expected = (0.8 * 0.01 * -math.log(0.9) + 0.2 * 0.04 * -math.log(0.8)) / 2
    made = classification_loss(logits, labels, "focal", multi_label=True, focal_gamma=2.0, focal_alpha=0.8)
    assert float(made) == pytest.approx(expected, rel=1e-5)
    even = classification_loss(logits, labels, "focal", multi_label=True, focal_alpha=0.5)
    plain = classification_loss(logits, labels, "focal", multi_label=True)
    close(even, plain / 2)


def test_tversky_of_several_labels_by_hand():
    """Hits .9 + .6, false positives .2 + .5, false negatives .1 + .4, costs .8 and .5."""
    p = [[0.9, 0.2], [0.5, 0.6]]
    logits = torch.tensor([[logit(v) for v in row] for row in p])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    made = classification_loss(logits, labels, "tversky", multi_label=True)
    assert float(made) == pytest.approx(1 - 2.5 / (1.5 + 0.8 * 0.7 + 0.5 * 0.5 + 1), rel=1e-5)
    other = classification_loss(
        logits, labels, "tversky", multi_label=True, tversky_alpha=0.5, tversky_beta=0.8
    )
    assert float(other) == pytest.approx(1 - 2.5 / (1.5 + 0.5 * 0.7 + 0.8 * 0.5 + 1), rel=1e-5)
    weighted = classification_loss(logits, labels, "tversky", multi_label=True, class_weights=[2.0, 1.0])
    hits, false_positives, false_negatives = 2 * 0.9 + 0.6, 0.2 + 2 * 0.5, 2 * 0.1 + 0.4
    expected = 1 - (hits + 1) / (hits + 0.8 * false_positives + 0.5 * false_negatives + 1)
    assert float(weighted) == pytest.approx(expected, rel=1e-5)


def test_tversky_of_one_label_and_of_none():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    made = classification_loss(logits, torch.tensor([0]), "tversky")
    assert float(made) == pytest.approx(1 - 1.7 / (0.7 + 0.8 * 0.3 + 0.5 * 0.3 + 1), rel=1e-5)
    nothing = classification_loss(torch.full((2, 3), -40.0), torch.zeros(2, 3), "tversky", multi_label=True)
    assert float(nothing) == pytest.approx(0, abs=1e-6)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seeds)
def test_tversky_falls_with_every_step_towards_the_truth(seed):
    logits, _, _ = batch(seed)
    truth = several(seed + 1)
    logits.requires_grad_(True)
    classification_loss(logits, truth, "tversky", multi_label=True).backward()
    assert ((logits.grad < 0) == (truth == 1)).all()

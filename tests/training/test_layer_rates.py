"""Rates that fall from layer to layer, and layers that have none."""

import pytest
import torch

from hf_cells.errors import CellsError
from hf_cells.models import CellClassificationConfig, CellForImageClassification
from hf_cells.training.optimisers import Schedule, make_optimizer

TINY_VIT = {"backbone": "test_vit", "pooling": None, "backbone_kwargs": {"img_size": 32}}


def make_model(**changes) -> CellForImageClassification:
    torch.manual_seed(0)
    return CellForImageClassification(
        CellClassificationConfig(**{"num_channels": 1, "hidden_sizes": [8, 8], **changes})
    )


@pytest.mark.parametrize("changes", [{"hidden_sizes": [4, 8, 8]}, TINY_VIT], ids=str)
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above(changes, name):
    model = make_model(**changes)
    groups = make_optimizer(model, {"name": name, "lr": 0.1, "weight_decay": 0.2}, 0.5).param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert set(rate) == {id(p) for p in model.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(rate)
    assert all(rate[id(p)] == pytest.approx(0.1) for p in model.head.parameters())
    layers = model.layers()
    for height, layer in enumerate(reversed(layers), 1):
        assert all(rate[id(p)] == pytest.approx(0.1 * 0.5**height) for p in layer.parameters())
    for parameter in model.backbone.parameters(recurse=False):  # class token and positions: with the input
        assert rate[id(parameter)] == pytest.approx(0.1 * 0.5 ** len(layers))
    assert all(decay[id(p)] == (0.2 if p.ndim > 1 else 0) for p in model.parameters())
    assert groups[0]["lr"] == pytest.approx(0.1)  # the one that displays show
    plain = make_optimizer(make_model(**changes), {"name": name}, 0.5).param_groups  # torch's own rate
    assert {round(group["lr"] / plain[0]["lr"], 6) for group in plain} == {
        round(0.5**height, 6) for height in range(len(layers) + 1)
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "cosine", "warmup": 2},
        {"name": "one_cycle"},
        {"name": "piecewise", "milestones": [1], "values": [0.1, 0.01]},
        {"name": "plateau", "factor": 0.5, "patience": 0},
    ],
    ids=lambda settings: settings["name"],
)
def test_schedules_keep_the_shares(settings):
    model = make_model()
    optimizer = make_optimizer(model, {"name": "adamw", "lr": 0.1}, 0.5)
    schedule, seen = Schedule(optimizer, settings, 5, 4), set()
    for step in range(20):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rates[0] * share for share in (1, 1, 0.5, 0.5, 0.25, 0.25)])
        seen.add(round(rates[0], 9))
        optimizer.step()
        schedule.step()
        if (step + 1) % 5 == 0:
            schedule.after_validation(1.0)
    assert len(seen) > 1


def test_frozen_layers_have_no_rate():
    model = make_model(hidden_sizes=[4, 8, 8])
    model.freeze(2)
    groups = make_optimizer(model, {"name": "sgd", "lr": 0.1}, 0.5).param_groups
    assert sorted({group["lr"] for group in groups if group["params"]}) == pytest.approx([0.05, 0.1])
    model.freeze()
    model.head.requires_grad_(False)
    with pytest.raises(CellsError, match="no weight of the model learns"):
        make_optimizer(model, {"name": "sgd", "lr": 0.1}, 0.5)

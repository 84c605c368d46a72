"""Optimisers, schedules and the moving average, against the formulas."""

import copy
import math

import pytest
import timm.optim
import torch
from torch import nn

from hf_cells.errors import CellsError
from hf_cells.training.averaging import MovingAverage
from hf_cells.training.optimisers import Schedule, make_optimizer


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def update(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(2, 1, 8, 8)).square().mean().backward()
    optimizer.step()


def rates(settings, steps=20, per_epoch=5, epochs=4, lr=0.1, name="adamw", validate=None):
    """Learning rate of each update; `validate` gives the loss after each epoch."""
    model = make_model()
    optimizer = make_optimizer(model, {"name": name, "lr": lr})
    schedule = Schedule(optimizer, settings, per_epoch, epochs)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        update(model, optimizer)
        schedule.step()
        if validate and (step + 1) % per_epoch == 0:
            schedule.after_validation(validate[step // per_epoch])
    return found


@pytest.mark.parametrize(
    "name, kind",
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("muon", timm.optim.Muon),
    ],
)
def test_optimisers_learn_and_decay_spares_biases_and_norms(name, kind):
    model = make_model()
    optimizer = make_optimizer(model, {"name": name, "lr": 0.01, "weight_decay": 0.3})
    assert isinstance(optimizer, kind)
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == 0.3 and spared["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert len(spared["params"]) == 4  # two biases, and scale and shift of the norm
    before = model(torch.ones(2, 1, 8, 8)).square().mean().item()
    for _ in range(20):
        update(model, optimizer)
    assert model(torch.ones(2, 1, 8, 8)).square().mean().item() < before


def test_decay_by_hand():
    """Without a gradient AdamW multiplies weights by 1 - lr × decay and leaves biases."""
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, {"name": "adamw", "lr": 0.1, "weight_decay": 0.5})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight, before["weight"] * 0.95)
    torch.testing.assert_close(model.bias, before["bias"])


def test_muon_turns_kernels_in_all_directions_alike():
    """The update of a kernel, as a matrix of outputs by inputs, has equal singular values whatever the gradient."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 8, 3)
    before = model.weight.detach().clone()
    optimizer = make_optimizer(model, {"name": "muon", "lr": 0.1})
    model.weight.grad = torch.randn(8, 27).mul(torch.logspace(0, -2, 27)).reshape(model.weight.shape)
    model.bias.grad = torch.ones(8)
    optimizer.step()
    values = torch.linalg.svdvals((model.weight.detach() - before).reshape(8, 27))
    assert values.max() / values.min() < 1.5 < torch.linalg.cond(model.weight.grad.reshape(8, 27))


def test_frozen_parameters_are_left_out():
    model = make_model()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, {"name": "sgd", "lr": 0.1, "momentum": 0.9})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"name": "adamx"},
            "training.optimizer.name='adamx' is unknown; choose from: adam, adamw, sgd, muon",
        ),
        ({"name": "adam", "speed": 1}, "training.optimizer: .*speed"),
        *(
            ({"name": "adam", "lr": lr}, f"training.optimizer.lr={lr}: give a number above 0, such as 1.0e-3")
            for lr in (-1.0, 0, "nan", float("nan"), float("inf"), None, True)
        ),
    ],
)
def test_wrong_optimisers(settings, message):
    with pytest.raises(CellsError, match=message):
        make_optimizer(make_model(), settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "linear"}, "training.schedule.name='linear' is unknown; choose from: constant, cosine"),
        ({"name": "cosine", "warm": 1}, "training.schedule: .*warm"),
        ({"name": "piecewise", "milestones": [1, 2], "values": [0.1, 0.2]}, "one more entry in values"),
        ({"name": "piecewise"}, "training.schedule: .*milestones"),
        ({"name": "cosine_restarts", "T_0": 0.3}, "training.schedule: .*T_0"),
    ],
)
def test_wrong_schedules(settings, message):
    with pytest.raises(CellsError, match=message):
        Schedule(make_optimizer(make_model(), {"name": "sgd", "lr": 0.1}), settings, 5, 4)


def test_constant():
    assert rates({"name": "constant"}) == [0.1] * 20


def test_cosine_by_formula():
    found = rates({"name": "cosine", "warmup": 4, "floor": 0.1})
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    for step in range(4, 20):
        share = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 16))
        assert found[step] == pytest.approx(0.1 * share)


def test_cosine_warms_up_for_a_fifth_at_most_and_never_rises_again():
    found = rates({"name": "cosine", "warmup": 1000}, steps=30)  # 10 updates more than planned
    assert max(found) == found[4] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in zip(found[4:], found[5:]))
    assert found[20:] == pytest.approx([0.1 * 0.005] * 10)


def test_cosine_restarts_in_epochs():
    found = rates({"name": "cosine_restarts", "T_0": 1, "T_mult": 2, "eta_min": 0.01}, steps=15)
    assert found[0] == found[5] == pytest.approx(0.1)  # after one epoch, then after two more
    by_hand = [0.01 + 0.045 * (1 + math.cos(math.pi * step / 5)) for step in range(5)]
    assert found[:5] == pytest.approx(by_hand)
    assert found[5:15] == pytest.approx([0.01 + 0.045 * (1 + math.cos(math.pi * s / 10)) for s in range(10)])


def test_one_cycle_rises_and_falls_over_exactly_the_planned_updates():
    found = rates({"name": "one_cycle", "max_lr": 0.5, "pct_start": 0.25}, steps=20)
    peak = found.index(max(found))
    assert max(found) == pytest.approx(0.5, rel=0.02)
    assert 4 <= peak <= 6
    assert found[0] == pytest.approx(0.5 / 25)
    assert found[-1] < 0.01
    own = rates({"name": "one_cycle"})  # the optimiser's own rate is the peak by default
    assert max(own) == pytest.approx(0.1, rel=0.02)


def test_piecewise_in_epochs():
    found = rates({"name": "piecewise", "milestones": [1, 3], "values": [0.1, 0.01, 0.002]})
    assert found == pytest.approx([0.1] * 5 + [0.01] * 10 + [0.002] * 5)


def test_plateau_watches_the_validation_loss():
    settings = {"name": "plateau", "factor": 0.5, "patience": 1, "min_lr": 0.02}
    found = rates(settings, steps=40, epochs=8, validate=[1.0, 0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8])
    assert found == pytest.approx([0.1] * 20 + [0.05] * 15 + [0.025] * 5)


SCHEDULES = [
    {"name": "constant"},
    {"name": "cosine", "warmup": 3},
    {"name": "cosine_restarts", "T_0": 2},
    {"name": "one_cycle"},
    {"name": "piecewise", "milestones": [1, 2], "values": [0.1, 0.03, 0.01]},
    {"name": "plateau", "factor": 0.5, "patience": 0},
]


@pytest.mark.parametrize("settings", SCHEDULES, ids=lambda settings: settings["name"])
@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_a_restart_continues_rates_and_weights(settings, name, tmp_path):
    """Through a file, as a checkpoint does: the restored run makes the same updates, bit by bit."""

    def start():
        model = make_model()
        optimizer = make_optimizer(model, {"name": name, "lr": 0.1, "weight_decay": 0.1})
        return model, optimizer, Schedule(optimizer, settings, 5, 4)

    def go(model, optimizer, schedule, steps):
        found = []
        for step in steps:
            update(model, optimizer)
            schedule.step()
            if (step + 1) % 5 == 0:
                schedule.after_validation(1.0 + step // 10)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    whole = start()
    go(*whole, range(7))
    states = [whole[0].state_dict(), whole[1].state_dict(), whole[2].state_dict()]
    torch.save(states, tmp_path / "state.pt")
    expected = go(*whole, range(7, 20))

    again = start()
    weights, optimizer, schedule = torch.load(tmp_path / "state.pt", weights_only=True)
    again[0].load_state_dict(weights)
    again[1].load_state_dict(optimizer)
    again[2].load_state_dict(schedule)
    assert go(*again, range(7, 20)) == expected
    assert all(
        torch.equal(a, b) for a, b in zip(whole[0].state_dict().values(), again[0].state_dict().values())
    )


@pytest.mark.parametrize("settings", SCHEDULES, ids=lambda settings: settings["name"])
def test_another_rate_and_length_on_resume_win(settings):
    """`--resume RUN training.optimizer.lr=…`, the remedy of a diverged loss, and `training.epochs=…`."""

    def start(lr, epochs):
        model = make_model()
        optimizer = make_optimizer(model, {"name": "adamw", "lr": lr})
        return model, optimizer, Schedule(optimizer, settings, 5, epochs)

    def go(model, optimizer, schedule, steps):
        found = []
        for _ in range(steps):
            update(model, optimizer)
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    model, optimizer, schedule = start(0.1, 4)
    go(model, optimizer, schedule, 7)
    resumed, other, again = start(0.01, 8)
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    found = go(resumed, other, again, 33)  # to the end of the longer plan, without an error
    if settings["name"] == "piecewise":  # its values are rates, not shares of one
        assert found[0] == pytest.approx(0.03) and found[-1] == pytest.approx(0.01)
    else:
        fresh = start(0.01, 8)
        assert found == pytest.approx(go(*fresh, 40)[7:])


def test_another_kind_of_schedule_is_refused():
    def start(name):
        return Schedule(make_optimizer(make_model(), {"name": "adamw", "lr": 0.1}), {"name": name}, 5, 4)

    with pytest.raises(ValueError, match="the schedule is cosine, it was plateau"):
        start("cosine").load_state_dict(start("plateau").state_dict())


def test_moving_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, 0.5)
    by_hand = 1.0
    for step, value in enumerate([3.0, 5.0, -1.0, 2.0, 7.0, 0.0, 1.0, 9.0, 4.0, 4.0, 4.0], 1):
        model.weight.data.fill_(value)
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))  # warms up: 2/11, 3/12, … 0.5 from the eighth update on
        by_hand = decay * by_hand + (1 - decay) * value
        assert average.shadow["weight"].item() == pytest.approx(by_hand, rel=1e-6)


def test_moving_average_is_lent_to_the_model_and_taken_back():
    model = make_model()
    average = MovingAverage(model, 0.9)
    model(torch.rand(2, 1, 8, 8))  # moves the running statistics and the count of batches
    with torch.no_grad():
        model[0].weight.add_(1)
    average.update(model)
    assert int(average.shadow["1.num_batches_tracked"]) == 1  # copied, not averaged
    own = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(KeyError), average.applied(model):
        for name, value in model.state_dict().items():
            assert torch.equal(value, average.shadow[name])
        assert not torch.equal(model[0].weight, own["0.weight"])
        raise KeyError  # even then
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def test_moving_average_through_a_checkpoint():
    model = make_model()
    average = MovingAverage(model, 0.9)
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.mul_(1.5)
        average.update(model)
    restored = MovingAverage(make_model(), 0.9)
    restored.load_state_dict({k: v.clone() for k, v in average.state_dict().items()})
    assert restored.step == 3
    average.update(model)
    restored.update(model)
    assert all(torch.equal(average.shadow[k], restored.shadow[k]) for k in average.shadow)
    begun = MovingAverage(make_model(), 0.9)
    begun.load_state_dict(model.state_dict())  # resumed with an average that the run did not have
    assert begun.step == 0 and torch.equal(begun.shadow["0.weight"], model[0].weight)

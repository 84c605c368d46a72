"""The fastest candidate wins, the launcher's choice wins over auto, and timing leaves no trace."""

import pytest
import torch

from hf_cells.errors import CellsError
from hf_cells.models import CellUNetForInstanceSegmentation, CellUNetInstanceConfig
from hf_cells.training import precision
from hf_cells.training.precision import choose_precision

CPU = torch.device("cpu")
BATCH = {"pixel_values": torch.rand(4, 1, 16, 16), "target_maps": torch.rand(4, 3, 16, 16)}


def make_model():
    torch.manual_seed(0)
    config = CellUNetInstanceConfig(num_channels=1, hidden_sizes=[8, 8], dropout=0.3)
    return CellUNetForInstanceSegmentation(config)


@pytest.fixture
def clock(monkeypatch):
    """Seconds of each candidate; what was asked for is kept in `clock.asked`."""

    class Clock(dict[tuple[str, str], float]):
        asked: list[tuple[str, str]]

    seconds = Clock()
    seconds.asked = []

    def fake(model, batch, device, number_format, memory_format):
        seconds.asked.append((number_format, memory_format))
        return seconds[number_format, memory_format]

    monkeypatch.setattr(precision, "_seconds", fake)
    seconds |= {("fp32", "contiguous"): 4.0, ("fp32", "channels_last"): 3.0}
    seconds |= {("bf16", "contiguous"): 2.0, ("bf16", "channels_last"): 1.0}
    return seconds


@pytest.mark.parametrize(
    "fastest",
    [(p, f) for p in ("fp32", "bf16") for f in ("contiguous", "channels_last")],
)
def test_auto_takes_the_fastest(clock, fastest):
    clock[fastest] = 0.5
    *chosen, speeds = choose_precision(make_model(), BATCH, CPU, "auto", "auto")
    assert tuple(chosen) == fastest
    assert speeds[" ".join(fastest)] == 8.0  # images per second: a batch of 4 in half a second
    assert len(speeds) == 4


def test_what_is_given_is_not_timed(clock):
    assert choose_precision(make_model(), BATCH, CPU, "fp32", "contiguous") == ("fp32", "contiguous", {})
    assert choose_precision(make_model(), BATCH, CPU, "bf16", "contiguous") == ("bf16", "contiguous", {})
    assert not clock.asked
    assert choose_precision(make_model(), BATCH, CPU, "fp32", "auto")[:2] == ("fp32", "channels_last")
    assert clock.asked == [("fp32", "contiguous"), ("fp32", "channels_last")]


@pytest.mark.parametrize(
    "launched, asked, chosen",
    [
        ("bf16", "auto", "bf16"),  # the launcher wins over auto
        ("bf16", "fp32", "fp32"),  # the recipe's own word wins over the launcher
        ("no", "auto", "fp32"),  # `accelerate launch` always says so: it counts as unset
        ("no", "bf16", "bf16"),
    ],
)
def test_the_launcher(clock, monkeypatch, launched, asked, chosen):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    clock["fp32", "contiguous"] = 0.1
    assert choose_precision(make_model(), BATCH, CPU, asked, "contiguous")[0] == chosen


def test_timing_leaves_weights_statistics_gradients_and_random_state():
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    random = torch.get_rng_state()
    chosen = choose_precision(model, BATCH, CPU, "auto", "auto")  # with the real clock
    assert len(chosen[2]) == 4 and min(chosen[2].values()) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    "number_format, memory_format, message",
    [
        ("fp64", "auto", "training.precision='fp64' is unknown; choose from: auto, fp32, bf16, fp16"),
        (
            "auto",
            "nhwc",
            "training.memory_format='nhwc' is unknown; choose from: auto, contiguous, channels_last",
        ),
        ("fp16", "auto", "fp16 needs a GPU"),
    ],
)
def test_wrong_names(number_format, memory_format, message):
    with pytest.raises(CellsError, match=message):
        choose_precision(make_model(), BATCH, CPU, number_format, memory_format)


def test_fp16_of_the_launcher_on_a_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(CellsError, match="fp16 needs a GPU"):
        choose_precision(make_model(), BATCH, CPU, "auto", "auto")

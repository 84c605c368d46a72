"""The energy of a training."""

import subprocess

import pytest

from hf_cells.training import energy
from hf_cells.training.energy import energy_estimate


def test_an_hour_on_two_cores_by_hand() -> None:
    assert energy_estimate(3600, 2) == {
        "watt_hours": 20.0,
        "assumes": "10 W for each of 2 cores; not metered",
    }


def test_a_card_counts_with_the_limit_that_its_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    told = subprocess.CompletedProcess([], 0, stdout="700.00\n700.00\n")
    monkeypatch.setattr(energy.subprocess, "run", lambda *args, **kwargs: told)
    found = energy_estimate(3600, 1, gpus=2)
    assert found == {
        "watt_hours": 1410.0,
        "assumes": "10 W for each of 1 core and 700 W for each of 2 GPUs; not metered",
    }


def test_without_a_driver_the_assumption_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(energy.subprocess, "run", missing)
    assert "300 W for each of 1 GPU;" in energy_estimate(60, 1, gpus=1)["assumes"]

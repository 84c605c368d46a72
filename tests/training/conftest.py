"""Simulated nuclei for all training tests, and accelerate's process-wide state made new for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import torch
from training_runs import forget_processes, write_recipe

from hf_cells.simulate import simulate_dsb2018

LAUNCHER_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR", "ACCELERATE_USE_CPU")


@pytest.fixture(scope="session")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a contest folder of 24 images of 48 × 48: 17 for training, 2 for validation, 5 for the test."""
    return simulate_dsb2018(tmp_path_factory.mktemp("nuclei") / "data", n_train=24, size=(48, 48), seed=5)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of prepared datasets."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def recipe(nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny recipe's file."""
    return write_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml", nuclei)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """Run as one process on the CPU, with the cache of this session; leave nothing behind for the next test."""
    for name in [*LAUNCHER_VARIABLES, *(name for name in os.environ if name.startswith("ACCELERATE_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    forget_processes()

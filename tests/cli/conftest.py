"""The program in this process, on simulated files and tiny untrained models."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import datasets
import pytest
from typer.testing import CliRunner, Result

from hf_cells.cli import app
from hf_cells.simulate import simulate_dsb2018

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder and a cache of its own; the environment is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with mock.patch.dict(os.environ):
        os.environ.pop("HF_CELLS_DEBUG", None)
        yield


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run `hf-cells` with these arguments."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="hf-cells")

    return run


@pytest.fixture(scope="session")
def failing(cli: Cli) -> Callable[..., str]:
    """Run `hf-cells`, which must fail with one line on stderr and nothing else; return that line."""

    def run(*arguments: object) -> str:
        result = cli(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stdout == "" and result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
        return result.stderr.removeprefix("error: ").strip()

    return run


@pytest.fixture(scope="session")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated contest folder: 6 training and 3 test images of 64x64."""
    return simulate_dsb2018(tmp_path_factory.mktemp("nuclei") / "sim", n_train=6, n_test=3, size=(64, 64))


@pytest.fixture(scope="session")
def instance_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from hf_cells import models

    torch.manual_seed(0)
    config = models.CellUNetInstanceConfig(hidden_sizes=(4, 8), id2label={0: "nucleus"})
    network = models.CellUNetForInstanceSegmentation(config)
    folder = tmp_path_factory.mktemp("models") / "instance"
    return models.save_model_repository(network, models.CellInstanceImageProcessor(), folder)


@pytest.fixture(scope="session")
def semantic_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from hf_cells import models

    torch.manual_seed(0)
    config = models.CellUNetSemanticConfig(hidden_sizes=(4, 8), id2label={0: "background", 1: "nucleus"})
    network = models.CellUNetForSemanticSegmentation(config)
    folder = tmp_path_factory.mktemp("models") / "semantic"
    return models.save_model_repository(network, models.CellSemanticImageProcessor(), folder)

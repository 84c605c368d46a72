"""`train` is train.py."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

Cli = Callable[..., Result]
TINY = """
data.simulate.n_train=8 data.simulate.size=[64,64] model.config.hidden_sizes=[8,16] augmentation.size=64
training.epochs=1 training.samples_per_epoch=2 training.batch_size=2 training.precision=fp32
training.memory_format=contiguous training.validate_every=1 training.threads=1
evaluation.n_resamples=5 evaluation.tune=false
"""


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps one state a process: leave none behind."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_model_is_trained_measured_and_has_a_true_card(
    cli: Cli, fresh_accelerator: None, tmp_path: Path
) -> None:
    result = cli("train", "--output-dir", "run", "--seed", 5, *TINY.split())
    assert result.exit_code == 0, result.output
    assert "everything is in run (model and card: run/model)" in result.stdout
    for noise in ("Writing model shards", "Loading weights", "Generating", "is not supported"):
        assert noise not in result.output
    assert "seed: 5\n" in (tmp_path / "run/recipe.yaml").read_text()
    assert cli("card", "run/model", "--check").exit_code == 0
    assert (
        "hf-cells simulate dsb2018 --seed 5 --n_train 8 --size 64x64 --output_dir DIR\n"
        in (tmp_path / "run/model/README.md").read_text()
    )


def test_recipes_are_listed(cli: Cli) -> None:
    names = [line.split()[0] for line in cli("train", "--list").stdout.splitlines()]
    assert {"quickstart", "dsb2018_instance"} <= set(names)


def test_train_refuses(cli: Cli, failing: Callable[..., str]) -> None:
    assert "no recipe 'nope'; choose from" in failing("train", "--recipe", "nope")
    assert "unknown key training.speed" in failing("train", "training.speed=9")
    assert "missing is no run folder" in failing("train", "--resume", "missing")
    assert "missing" in failing("train", "--data-dir", "missing")
    assert cli("train", "--recipes").exit_code == 2
    assert isinstance(cli("train", "--recipe", "nope", "--debug").exception, Exception)

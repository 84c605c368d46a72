"""`search` from the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_cells import write_cells, write_classifier_recipe
from typer.testing import Result

Cli = Callable[..., Result]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A tiny recipe; accelerate keeps one state a process: leave none behind."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield write_classifier_recipe(
        tmp_path / "tiny.yaml", write_cells(tmp_path / "cells", specimens=8, each=1)
    )
    AcceleratorState._reset_state(reset_partial_state=True)


def test_two_trials_and_a_recipe(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("model.config.hidden_act: [relu, gelu]\n")
    options = ["--trials", 2, "--epochs", 1, "--share", 0.5, "--space", space, "--no-final", "--seed", 4]
    result = cli("search", tiny, "training.batch_size=4", "--output-dir", "found", *options)
    assert result.exit_code == 0, result.output
    assert "trials learn from " in result.stdout and "trial 0 (1 of 2): the recipe as it is" in result.stdout
    assert "train the winner: hf-cells train --recipe found/best.yaml" in result.stdout
    recipe = (tmp_path / "found" / "best.yaml").read_text()
    assert "name: tiny_search" in recipe and "seed: 4" in recipe and "batch_size: 4" in recipe
    assert {"study.db", "trials.csv", "search.png", "base.yaml"} <= {p.name for p in Path("found").iterdir()}
    assert not list(Path("found").glob("final-trial-*"))


def test_search_refuses(cli: Cli, failing: Callable[..., str], tiny: Path, tmp_path: Path) -> None:
    assert "no recipe 'nope'; choose from" in failing("search", "nope")
    assert "missing: no such file or folder" in failing("search", tiny, "--data-dir", "missing")
    assert "cannot read none.yaml" in failing("search", tiny, "--space", "none.yaml")
    assert "unknown key training.speed" in failing("search", tiny, "training.speed=9")
    (tmp_path / "space.yaml").write_text("training.epochs: 3")
    assert "must be a list of values" in failing("search", tiny, "--space", "space.yaml")
    assert cli("search").exit_code == 2
    assert cli("search", tiny, "--trials", 0).exit_code == 2

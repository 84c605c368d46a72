"""The training benchmarks do what they say, on tiny images and for two steps; nothing is timed."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = {"precision": "fp32", "memory_format": "contiguous", "workers": 0, "threads": 1}
QUICK |= {"batch_size": 4, "samples_per_epoch": None}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run on one thread of the CPU with a cache of its own; leave nothing behind in this process."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def classification(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import classification_throughput

    return classification_throughput


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Class folders of dark and bright noise, told apart in a few steps."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4)):
        for name, mean in (("dark", 60), ("bright", 190)):
            folder = tmp_path / "cells" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(mean, 20, (20, 20)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}{i}.png")
    return tmp_path / "cells"


def small(module: ModuleType, recipe: dict[str, Any], cells: Path, run_dir: Path) -> dict[str, Any]:
    """Turn a recipe of the benchmark into one that takes a second."""
    module.use_data(recipe, str(cells))
    recipe["output_dir"] = str(run_dir)
    recipe["training"] |= QUICK
    recipe["training"]["optimizer"] = {"name": "adamw", "lr": 0.01}
    recipe["model"]["config"] = {"hidden_sizes": [4, 8], "norm": "none"}
    return recipe


def test_two_steps_of_both_loops(classification: ModuleType, cells: Path, tmp_path: Path) -> None:
    recipe = small(classification, classification.throughput_recipe(2), cells, tmp_path / "run")
    recipe["processor"]["size"] = {"height": 16, "width": 16}
    recipe["training"]["samples_per_epoch"] = 8
    assert classification.plain_throughput(recipe) > 0
    speed, how = classification.our_speed(recipe)
    assert speed > 0 and how == "fp32 contiguous"


def test_the_plain_loop_transforms_as_the_example_does(
    classification: ModuleType, cells: Path, tmp_path: Path
) -> None:
    recipe = small(classification, classification.throughput_recipe(2), cells, tmp_path / "run")
    recipe["processor"]["size"] = {"height": 16, "width": 16}
    _, splits, loader = classification.plain_parts(recipe)
    batch = next(iter(loader(splits["train"], 5, True)))
    assert batch["pixel_values"].shape == (5, 3, 16, 16) and batch["labels"].shape == (5,)
    whole = torch.cat([b["pixel_values"] for b in loader(splits["validation"], 3, False)])
    assert len(whole) == 8 and -1 <= float(whole.min()) < float(whole.max()) <= 1
    twice = [next(iter(loader(splits["validation"], 8, False)))["pixel_values"] for _ in range(2)]
    assert torch.equal(*twice)
    names = splits["train"].features["label"].names
    labels = torch.cat([b["labels"] for b in loader(splits["validation"], 3, False)])
    assert torch.equal(whole.mean((1, 2, 3)) > 0, labels == names.index("bright"))


def test_the_whole_job_ends_at_the_mark(
    classification: ModuleType, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def recipe(run: str, epochs: int) -> dict[str, Any]:
        made = small(classification, classification.whole_job_recipe(epochs), cells, tmp_path / run)
        made["processor"]["scaling"] = "dtype"  # percentiles would make dark and bright alike
        made["training"] |= {"schedule": {"name": "cosine", "warmup": 2}, "ema_decay": None}
        made["augmentation"] = {"horizontal_flip": True}
        return made

    seconds, reached, how = classification.our_job(recipe("a", 12), 0.9)
    assert reached and seconds > 0 and how == "fp32 contiguous"
    assert "hf-cells: accuracy" in capsys.readouterr().out
    seconds, reached = classification.plain_job(recipe("b", 12), 0.9, limit=600)
    assert reached and seconds > 0
    told = capsys.readouterr().out.strip().splitlines()[-1]
    assert float(told.split("accuracy ")[1].split(",")[0]) >= 0.9
    assert classification.our_job(recipe("c", 1), 1.01)[1] is False
    assert classification.plain_job(recipe("d", 1), 1.01, limit=600)[1] is False
    assert classification.plain_job(recipe("e", 50), 1.01, limit=0)[1] is False  # gives up after a step


def test_prediction_runs_from_the_files(classification: ModuleType, cells: Path, tmp_path: Path) -> None:
    recipe = small(classification, classification.whole_job_recipe(None), cells, tmp_path / "run")
    assert classification.prediction(recipe, "fp32", count=20) > 0


def test_two_steps_of_segmentation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_throughput

    from hf_cells.simulate import simulate_dsb2018

    data = simulate_dsb2018(tmp_path / "data", n_train=10, size=(48, 48), looks=["fluorescence"])
    recipe = training_throughput.recipe_for(str(data), 2, str(tmp_path / "run"))
    recipe["training"] |= {**QUICK, "samples_per_epoch": 8}
    recipe["model"]["config"] = {"hidden_sizes": [4, 8]}
    recipe["augmentation"] = {"size": 32}
    assert training_throughput.plain_loop(recipe) > 0
    AcceleratorState._reset_state(reset_partial_state=True)
    speed, _ = training_throughput.our_speed(recipe)
    assert speed > 0

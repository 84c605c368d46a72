"""What the repository ships under model_cards/ is sound: cards true to their results, weights that predict."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hf_cells
from hf_cells.evaluation import evaluate_segmentation, read_results
from hf_cells.hub.card import check_card
from hf_cells.hub.push import push_model
from hf_cells.hub.safety import scan
from hf_cells.metrics import aggregate_instances, score_instances
from hf_cells.simulate import simulate_nuclei

FOLDERS = sorted(path.parent for path in (Path(__file__).parent.parent / "model_cards").glob("*/README.md"))
WITH_WEIGHTS = [folder for folder in FOLDERS if (folder / "model.safetensors").exists()]


def test_there_are_cards() -> None:
    assert FOLDERS and WITH_WEIGHTS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_card_tells_what_was_measured(folder: Path) -> None:
    assert check_card(folder) == []
    results = read_results(folder / "results.json")
    # A published split that leaks is told as such, beside the numbers of one that does not.
    clean = [entry["leaks"] == 0 for entry in results.get("beside", [])]
    assert results["split"]["leaks"] == 0 or any(clean)
    assert results["decision"]["chosen_on"] in ("validation", "default")
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert list(scan(folder, files)) == []


@pytest.mark.parametrize("folder", WITH_WEIGHTS, ids=lambda path: path.name)
def test_it_can_be_pushed_as_it_is(folder: Path) -> None:
    sent = push_model(folder, "your-name/your-model", dry_run=True)
    assert {"model.safetensors", "config.json", "instance_decoding.py", "README.md"} <= set(sent)
    assert (folder / "model.safetensors").stat().st_size <= 10e6


def test_the_nuclei_model_finds_simulated_nuclei() -> None:
    pipe = hf_cells.pipeline(Path(__file__).parent.parent / "model_cards" / "dsb2018_instance")
    rows = []
    for index, look in enumerate(("fluorescence", "large", "clumps", "tissue")):
        made = simulate_nuclei(77, index, size=(192, 192), look=look)
        rows.append(score_instances(made.instance_labels, pipe(made.image)["instance_labels"]))
    assert aggregate_instances(rows)["ap50_image_mean"] > 0.5


def test_the_nuclei_model_on_real_images(real_data: Callable[[str], Path]) -> None:
    """A few images of the very test split that the card speaks of; the whole split takes minutes."""
    folder = Path(__file__).parent.parent / "model_cards" / "dsb2018_instance"
    pipe = hf_cells.pipeline(folder)
    test = hf_cells.load_dataset(
        "dsb2018", "instance", data_dir=real_data("dsb2018_stage1_train.zip"), split="test"
    )
    measured = evaluate_segmentation(pipe, test.select(range(12)), split_name="test[:12]", n_resamples=50)
    assert measured.results["metrics"]["dsb_score"]["value"] > 0.45
    image = test[0]["image"]
    good = pipe(np.asarray(image))["scores"] >= 0.9  # what the stock pipeline keeps
    assert good.mean() > 0.5

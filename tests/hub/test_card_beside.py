"""Numbers of other splits beside a model's own, on its card."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hf_cells.errors import CellsError
from hf_cells.evaluation.beside import put_beside, summarise_beside
from hf_cells.hub.card import check_card, write_card


def of_config(results: dict[str, Any], config: str, score: float | None) -> dict[str, Any]:
    other = copy.deepcopy(results)
    other["dataset"]["config"] = config
    other["metrics"]["dsb_score"]["value"] = score
    return other


@pytest.fixture
def folds(tmp_path: Path, results: dict[str, Any]) -> Path:
    """A folder of two finished runs."""
    for name, score in (("fold-0", 0.5), ("fold-1", 0.3)):
        (tmp_path / "folds" / name).mkdir(parents=True)
        text = json.dumps(of_config(results, "by_modality", score))
        (tmp_path / "folds" / name / "results.json").write_text(text)
    return tmp_path / "folds"


def test_mean_spread_and_difference_by_hand(results: dict[str, Any]) -> None:
    others = [of_config(results, "by_modality", score) for score in (0.5, 0.3)]
    (entry,) = summarise_beside(results, others)
    assert (entry["config"], entry["runs"], entry["unit"]) == ("by_modality", 2, "image")
    score = entry["metrics"]["dsb_score"]
    assert score["values"] == [0.5, 0.3]
    assert score["mean"] == pytest.approx(0.4)
    assert score["standard_deviation"] == pytest.approx(0.2 / 2**0.5)  # n - 1
    assert score["difference"] == pytest.approx(0.4 - 0.61234)


def test_one_run_has_no_spread_and_an_undefined_value_no_mean(results: dict[str, Any]) -> None:
    (entry,) = summarise_beside(results, [of_config(results, "by_modality", None)])
    score = entry["metrics"]["dsb_score"]
    assert score == {"values": [None], "mean": None, "standard_deviation": None, "difference": None}


def test_each_configuration_is_an_entry_of_its_own(results: dict[str, Any]) -> None:
    others = [of_config(results, config, 0.5) for config in ("a", "b", "a")]
    assert [(entry["config"], entry["runs"]) for entry in summarise_beside(results, others)] == [
        ("a", 2),
        ("b", 1),
    ]


def test_real_images_beside_the_simulated_ones_of_the_training(
    results: dict[str, Any], card_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "results.json").write_text(json.dumps(results))
    results["dataset"]["title"] = "simulated images in the layout of dsb2018"
    (card_folder / "results.json").write_text(json.dumps(results))
    put_beside(card_folder, [tmp_path / "real"])
    assert "| `instance`, test, of dsb2018 | `dsb_score` | 0.612 |" in write_card(card_folder).read_text()
    assert check_card(card_folder) == []


def test_other_folds_of_the_same_configuration_may_stand_beside(results: dict[str, Any]) -> None:
    results["split"]["options"] = {"fold": 0}
    others = [copy.deepcopy(results) for _ in range(2)]
    others[0]["split"]["options"] = {"fold": 1}
    others[0]["metrics"]["dsb_score"]["value"] = 0.5
    (entry,) = summarise_beside(results, others[:1])
    assert (entry["config"], entry["runs"], entry["metrics"]["dsb_score"]["mean"]) == ("instance", 1, 0.5)
    with pytest.raises(CellsError, match="as the model itself; give runs of another configuration or fold"):
        summarise_beside(results, others)


def test_the_card_shows_every_run_and_is_checked(card_folder: Path, folds: Path) -> None:
    put_beside(card_folder, [folds])
    text = write_card(card_folder).read_text()
    assert text.count("### On other splits of the same data") == 1
    assert "| `by_modality`, test | `dsb_score` | 0.400 ± 0.141 | 0.500, 0.300 | -0.212 |" in text
    assert check_card(card_folder) == []
    (card_folder / "README.md").write_text(text.replace("0.500, 0.300", "0.500, 0.400"))
    assert any("0.500, 0.400" in problem for problem in check_card(card_folder))


def test_the_same_command_again_changes_nothing(card_folder: Path, folds: Path) -> None:
    put_beside(card_folder, [folds])
    once = (card_folder / "results.json").read_text()
    put_beside(card_folder, [folds / "fold-0", folds / "fold-1"])
    assert (card_folder / "results.json").read_text() == once


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("dataset", "name", "hep2", "is of hep2, the model of dsb2018"),
        ("dataset", "config", "instance", "as the model itself"),
    ],
)
def test_runs_that_do_not_belong_beside(
    results: dict[str, Any], section: str, key: str, value: str, message: str
) -> None:
    other = of_config(results, "by_modality", 0.5)
    other[section][key] = value
    with pytest.raises(CellsError, match=message):
        summarise_beside(results, [other])


def test_a_folder_without_results_is_named(card_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellsError, match="empty: has no results"):
        put_beside(card_folder, [tmp_path / "empty"])

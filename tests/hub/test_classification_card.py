"""The card of a classifier: how to load it, both decisions, intervals of every class, the metrics explained."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hf_cells.evaluation.results import HEADLINES, WHOLE_SPLIT, WITHOUT_COPIES, metrics_line
from hf_cells.hub.card import check_card, render_card, write_card
from hf_cells.hub.tables import headlines, result_tables, weakest_stratum
from hf_cells.metrics import classification_metrics, multilabel_metrics

CONFIG = {"model_type": "cell_classification", "architectures": ["CellForImageClassification"]}


def entry(value: float, ci: list[float] | None = None, n: int = 100) -> dict[str, Any]:
    return {"value": value, "ci": ci, "n": n}


@pytest.fixture
def classified(results: dict[str, Any]) -> dict[str, Any]:
    """What `evaluate_classification` writes, in the surroundings of the other cards."""
    rates = {"precision": 0.91, "recall": 0.87, "support": 40}
    accuracy = entry(0.934, [0.9, 0.96]) | {
        "per_class": {"Golgi": rates, "NuMem": {**rates, "recall": None}},
        "per_class_ci": {"Golgi": {"precision": [0.8, 0.97], "recall": [0.75, 0.95]}, "NuMem": {}},
    }
    return {
        **{section: results[section] for section in ("dataset", "split", "run")},
        "metrics": {
            "accuracy": accuracy,
            "mean_class_accuracy": entry(0.925, [0.88, 0.95]),
            "log_loss": entry(0.21),
        },
        "argmax": {"accuracy": entry(0.941), "mean_class_accuracy": entry(0.899, [0.85, 0.93])},
        "confusion_matrix": {
            "classes": ["Golgi", "NuMem"],
            "predicted": [[1, 0], [0, 1]],
            "argmax": [[1, 0], [0, 1]],
        },
        "strata": {
            WHOLE_SPLIT: {"mean_class_accuracy": entry(0.925)},
            WITHOUT_COPIES: {"mean_class_accuracy": entry(0.915, n=90)},
        },
        "decision": {
            "thresholds": {"Golgi": 0.45, "NuMem": 1.0},
            "temperature": 1.31,
            "chosen_on": "validation",
            "rule": "balanced",
        },
    }


def render(results: dict[str, Any]) -> str:
    return render_card(results, config=CONFIG, recipe=None, figures=[]).text


def test_it_says_how_to_load_and_what_was_decided(classified: dict[str, Any]) -> None:
    text = render(classified)
    assert "classifies microscopy images of cells" in text
    assert "its `mean_class_accuracy` is **0.925**, 95 % interval 0.880 to 0.950, n = 100." in text
    assert 'print(entry["label"], entry["score"], entry["predicted"])' in text
    assert "- Rule: balanced.\n" in text
    assert "Thresholds: `Golgi` 0.450, `NuMem` 1.000." in text
    assert "Temperature: 1.310, folded into the last layer" in text
    assert "- `log_loss`: mean of -ln of the probability of the true class; lower is better." in text
    assert "\n\n\n" not in text and "None" not in text


def test_both_decisions_stand_side_by_side(classified: dict[str, Any]) -> None:
    text = render(classified)
    assert "### What the thresholds change" in text
    assert "| `accuracy` | 0.941 | 0.934 (0.900 to 0.960) |" in text
    assert "| `mean_class_accuracy` | 0.899 (0.850 to 0.930) | 0.925 (0.880 to 0.950) |" in text
    for name, measured in classified["metrics"].items():
        if name in classified["argmax"]:
            classified["argmax"][name] = measured
    assert "What the thresholds change" not in render(classified)


def test_every_class_has_its_intervals_where_they_are_known(classified: dict[str, Any]) -> None:
    table = result_tables(classified)[-1]
    assert table.title == "Per class: `accuracy`"
    assert table.rows == [
        ["Golgi", "0.910 (0.800 to 0.970)", "0.870 (0.750 to 0.950)", "40"],
        ["NuMem", "0.910", "–", "40"],
    ]


def test_a_split_without_its_copies_is_no_weak_part_of_it(classified: dict[str, Any]) -> None:
    text = render(classified)
    assert f"| {WITHOUT_COPIES} | 90 | 0.915 |" in text
    assert weakest_stratum(classified) is None and "Weakest stratum" not in text
    classified["strata"] |= {
        "dim": {"mean_class_accuracy": entry(0.7)},
        "bright": {"mean_class_accuracy": entry(0.99)},
    }
    assert weakest_stratum(classified) == ("dim", "mean_class_accuracy", "0.700")


def test_every_metric_is_explained(classified: dict[str, Any]) -> None:
    p = [[0.9, 0.1], [0.2, 0.8]]
    both = classification_metrics([0, 1], p, [0, 1], ["a", "b"])
    both |= multilabel_metrics([[1, 0], [0, 1]], p, [[1, 0], [0, 1]], ["a", "b"])
    names = [name for name in both if name != "per_class"]
    classified["metrics"] = {name: entry(0.5) for name in names}
    explained = re.findall(r"^- `(\w+)`: \w", render(classified), flags=re.MULTILINE)
    assert sorted(explained) == sorted(names)


def test_cards_and_the_line_for_people_have_one_order(classified: dict[str, Any]) -> None:
    assert metrics_line(classified).startswith("mean_class_accuracy 0.925 [0.88, 0.95] · accuracy 0.934")
    assert headlines([dict.fromkeys(reversed(HEADLINES))]) == list(HEADLINES)
    assert headlines([classified["metrics"]]) == ["mean_class_accuracy", "accuracy", "log_loss"]


def test_a_fresh_card_passes_its_own_check(classified: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(classified))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    readme = write_card(tmp_path)
    assert check_card(tmp_path) == []
    readme.write_text(readme.read_text().replace("| `accuracy` | 0.941 |", "| `accuracy` | 0.841 |"))
    assert "is not what results.json says" in check_card(tmp_path)[0]

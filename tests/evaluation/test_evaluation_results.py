"""results.json: round trip, contract, the line for people."""

import copy
import getpass
import json
import math
import platform

import numpy as np
import pytest

from hf_cells.errors import CellsError
from hf_cells.evaluation.results import (
    describe_hardware,
    library_versions,
    metrics_line,
    read_results,
    write_results,
)


@pytest.fixture
def results():
    return {
        "dataset": {"name": "tiny", "config": "instance", "fingerprint": "0f", "license": "cc0-1.0"},
        "split": {"name": "test", "unit": "image", "groups": 133, "leaks": 0, "audit": "clean"},
        "metrics": {
            "dice_per_image": {"value": 0.9, "ci": [0.89, 0.91], "n": 133},
            "dsb_score": {"value": 0.6123, "ci": (0.58, np.float64(0.64)), "n": np.int64(133)},
        },
        "strata": {"fluorescence": {"dsb_score": {"value": 0.7, "n": 100}}},
        "decision": {"thresholds": {"seed": 0.5}, "temperature": 1.0, "chosen_on": "validation"},
        "run": {"recipe": "r", "seed": 0, "seconds": 1.5, "hardware": "h", "versions": {"torch": "2"}},
    }


def test_round_trip_gives_plain_values(results, tmp_path):
    path = tmp_path / "run" / "results.json"
    write_results(path, results)
    read = read_results(path)
    assert read["metrics"]["dsb_score"] == {"value": 0.6123, "ci": [0.58, 0.64], "n": 133}
    assert read["strata"] == results["strata"]
    assert list(read["metrics"]) == list(results["metrics"])


def test_nan_becomes_null_and_the_file_is_strict_json(results, tmp_path):
    results["metrics"]["dsb_score"] |= {"value": math.nan, "per_class": {"x": {"iou": np.float32("inf")}}}
    write_results(tmp_path / "r.json", results)

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert read["metrics"]["dsb_score"]["value"] is None
    assert read["metrics"]["dsb_score"]["per_class"]["x"]["iou"] is None


def _without(*keys):
    def change(results):
        for key in keys[:-1]:
            results = results[key]
        del results[keys[-1]]

    return change


def _with(value, *keys):
    def change(results):
        for key in keys[:-1]:
            results = results[key]
        results[keys[-1]] = value

    return change


BREAKS = [
    (_without("split"), "section 'split' is missing"),
    (_without("dataset", "license"), "dataset.license is missing"),
    (_without("run", "versions"), "run.versions is missing"),
    (_with(None, "dataset", "name"), "dataset.name is not a string"),
    (_with(0.5, "metrics", "dsb_score"), "metrics.dsb_score is not a table"),
    (_with("0.5", "metrics", "dsb_score", "value"), "metrics.dsb_score.value is not a number"),
    (_without("metrics", "dsb_score", "ci"), "metrics.dsb_score.ci is missing"),
    (_with([0.7, 0.6], "metrics", "dsb_score", "ci"), r"metrics.dsb_score.ci is not \[low, high\]"),
    (_with([0.7], "metrics", "dsb_score", "ci"), r"metrics.dsb_score.ci is not \[low, high\]"),
    (_without("metrics", "dsb_score", "n"), "metrics.dsb_score.n is not a count"),
    (_with(1.5, "metrics", "dsb_score", "n"), "metrics.dsb_score.n is not a count"),
    (_without("strata", "fluorescence", "dsb_score", "n"), "strata.fluorescence.dsb_score.n is not a count"),
    (_with([], "strata"), "strata is not a table"),
    (_with(None, "decision", "thresholds"), "decision.thresholds is not a table"),
]


@pytest.mark.parametrize(("change", "message"), BREAKS)
def test_a_broken_contract_names_the_file_and_the_place(results, tmp_path, change, message):
    path = tmp_path / "results.json"
    write_results(path, results)
    good = path.read_text()
    broken = copy.deepcopy(results)
    change(broken)

    with pytest.raises(CellsError, match=message) as raised:
        write_results(path, broken)
    assert str(path) in str(raised.value)
    assert path.read_text() == good  # the last good file stays
    assert [item.name for item in tmp_path.iterdir()] == ["results.json"]

    stored = json.loads(good)
    change(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(CellsError, match=message):
        read_results(path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", ""])
def test_a_file_that_is_no_results_file_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CellsError, match=r"r\.json.*not.*JSON"):
        read_results(tmp_path / "r.json")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(CellsError, match="hf-cells evaluate"):
        read_results(tmp_path / "absent.json")


def test_the_line_puts_the_telling_metric_first(results):
    assert metrics_line(results) == (
        "dsb_score 0.612 [0.58, 0.64] · dice_per_image 0.900 [0.89, 0.91] (test, 133 images)"
    )
    assert metrics_line(results, limit=1) == "dsb_score 0.612 [0.58, 0.64] (test, 133 images)"


def test_the_line_without_interval_or_value(results):
    results["metrics"] = {
        "dsb_score": {"value": None, "ci": None, "n": 1},
        "pq": {"value": 0.5, "ci": None, "n": 1},
    }
    assert metrics_line(results) == "dsb_score n/a · pq 0.500 (test, 1 image)"
    results["metrics"] = {"unheard_of": {"value": 1.0, "ci": None, "n": 2}}
    assert metrics_line(results) == "unheard_of 1.000 (test, 2 images)"


def test_hardware_names_processor_and_cores_and_nobody():
    text = describe_hardware()
    assert " core" in text
    assert platform.node() not in text
    assert getpass.getuser() not in text.split()


def test_several_equal_gpus_are_counted(monkeypatch):
    import torch

    names = ["NVIDIA A", "NVIDIA A", "NVIDIA B"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert describe_hardware().endswith("; 2 x NVIDIA A; NVIDIA B")


def test_versions_of_what_moves_a_number():
    versions = library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert {"torch", "datasets", "hf-cells"} <= versions.keys()

"""The verb `explore`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Cli = Callable[..., Result]


def test_simulated_nuclei(cli: Cli, nuclei: Path, tmp_path: Path) -> None:
    result = cli(
        "explore", "dsb2018", "split_seed=1", "--data_dir", nuclei, "--output_dir", "seen", "--limit", 2
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == "" and result.stdout.startswith("dsb2018: ") and "objects" in result.stdout
    assert result.stdout.endswith("see seen/explore.html and seen/explore.json\n")
    assert "passed on" not in result.stdout  # simulated
    report = json.loads((tmp_path / "seen/explore.json").read_text())
    assert report["simulated"] and report["limit"] == 2
    assert all((tmp_path / "seen" / figure).exists() for figure in report["figures"])
    assert list(report["objects"]["by_class"]) == ["nucleus"]


def test_one_split_and_its_terms(cli: Cli, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("round", "long"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (32, 32), 5 * number + len(name)).save(
                tmp_path / f"cells/{name}/{name}{number}.png"
            )
    result = cli("explore", "cells", "--split", "train")
    assert result.exit_code == 0, result.output
    assert "train; 2 labels" in result.stdout and "may not be passed on" in result.stdout
    assert list(json.loads((tmp_path / "explore/explore.json").read_text())["splits"]) == ["train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such dataset or folder"),
        (["hep2", "--data_dir", "none"], "none: no such file or folder; check data_dir"),
        (
            ["dsb2018", "--data_dir", "{nuclei}", "--split", "dev"],
            "no split 'dev' in this data; choose from: train",
        ),
        (["dsb2018", "--output_dir", "file/explore"], "cannot write into file/explore"),
    ],
)
def test_explore_refuses(
    failing: Callable[..., str], nuclei: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    assert message in failing("explore", *(argument.format(nuclei=nuclei) for argument in arguments))

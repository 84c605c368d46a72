"""A published dataset: plain `load_dataset` reads it back, its card is whole, and its terms are kept."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from hub_metadata import metadata_errors
from loopback_hub import LoopbackHub
from PIL import Image
from tiny_cells import write_cells
from typer.testing import CliRunner

from hf_cells.cli.app import app
from hf_cells.data.loading import load_dataset
from hf_cells.errors import CellsError
from hf_cells.hub.push_dataset import push_dataset
from hf_cells.simulate import simulate_dsb2018

READ = """
import sys, datasets
splits = datasets.load_dataset("tester/cells")
splits.save_to_disk(sys.argv[1])
"""


def push(name: str | Path, hub: LoopbackHub, *arguments: str, **settings: object) -> str | dict[str, int]:
    return push_dataset(name, "tester/cells", *arguments, endpoint=hub.endpoint, token=hub.token, **settings)


def read_back(hub: LoopbackHub, folder: Path) -> datasets.DatasetDict:
    command = [sys.executable, "-c", READ, str(folder)]
    done = subprocess.run(command, env={**os.environ, **hub.environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return datasets.load_from_disk(str(folder))


def test_plain_load_dataset_reads_it_back_equal(tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    raw = simulate_dsb2018(tmp_path / "raw", n_train=6, n_test=2, size=(64, 64))
    push("dsb2018", loopback_hub, "instance", data_dir=raw, cache_dir=tmp_path / "cache")
    assert loopback_hub.repos["dataset", "tester/cells"].private
    ours = load_dataset("dsb2018", "instance", data_dir=raw, cache_dir=tmp_path / "cache")
    theirs = read_back(loopback_hub, tmp_path / "back")
    assert list(theirs) == list(ours)
    for split in ours:
        assert theirs[split].features == ours[split].features
        for mine, other in zip(ours[split], theirs[split], strict=True):
            assert mine["image_id"] == other["image_id"]
            for column in ("image", "instance_labels"):
                assert np.array_equal(np.asarray(mine[column]), np.asarray(other[column]))

    files = loopback_hub.files("tester/cells", "dataset")
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata_errors(card) == [] and metadata["license"] == "cc0-1.0"
    for part in (
        "## Splits",
        "## Leak audit",
        "## Features",
        "caicedo2019nucleus",
        "Nothing leaks",
        "| objects |",
    ):
        assert part in card, part
    assert 'datasets.load_dataset("tester/cells")' in card and "(figures/sample.png)" in card
    (tmp_path / "sample.png").write_bytes(files["figures/sample.png"])
    assert np.asarray(Image.open(tmp_path / "sample.png")).std() > 10

    messages = loopback_hub.repos["dataset", "tester/cells"].messages
    before = list(messages)
    push("dsb2018", loopback_hub, "instance", data_dir=raw, cache_dir=tmp_path / "cache")
    assert messages == before  # nothing changed, nothing is sent
    with pytest.raises(CellsError, match="holds the configuration instance already, and this is semantic"):
        push("dsb2018", loopback_hub, "semantic", data_dir=raw, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hep2", r"hep2 may not be passed on: its licence is 'other'.*--allow_restricted"),
        ("glomeruli", r"glomeruli may not be passed on: its licence is 'unknown'.*--allow_restricted"),
    ],
)
def test_restricted_data_is_refused_before_anything_is_read(
    name: str, message: str, tmp_path: Path, loopback_hub: LoopbackHub
) -> None:
    with pytest.raises(CellsError, match=message):
        push(name, loopback_hub, data_dir=tmp_path)
    with pytest.raises(CellsError, match="has its own licence"):
        push(name, loopback_hub, data_dir=tmp_path, licence="mit")
    assert loopback_hub.requests == []


def test_own_images_need_a_licence_or_the_flag(tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    folder, cache = write_cells(tmp_path / "cells", specimens=6), tmp_path / "cache"
    with pytest.raises(CellsError, match="nothing says that these images may be published"):
        push(folder, loopback_hub)
    options = {"cache_dir": cache, "groups": r"^(s\d+)_"}
    sizes = push(folder, loopback_hub, licence="cc-by-4.0", dry_run=True, **options)
    assert isinstance(sizes, dict) and sizes["data/train-00000-of-00001.parquet"] > 1000
    assert loopback_hub.requests == []
    push(folder, loopback_hub, allow_restricted=True, **options)
    files = loopback_hub.files("tester/cells", "dataset")
    assert "figures/sample.png" not in files and b"Not cleared for redistribution" in files["README.md"]
    push(folder, loopback_hub, licence="cc-by-4.0", tag="v1", **options)
    card = loopback_hub.files("tester/cells", "dataset", "v1")["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"
    assert "| dark | " in card and "figures/sample.png" in card and str(tmp_path) not in card


def test_names_of_patients_never_leave(tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    folder = write_cells(tmp_path / "cells", specimens=6)
    one = sorted((folder / "light").iterdir())[0]
    one.rename(one.with_name("S-2019-012345_3.png"))
    with pytest.raises(
        CellsError, match=r"column image_id of the split \w+, row \d+ \(S-2…\) holds what looks"
    ) as caught:
        push(folder, loopback_hub, licence="mit", cache_dir=tmp_path / "cache")
    assert "012345" not in str(caught.value) and loopback_hub.requests == []


def test_the_verb_tells_the_terms_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["push-dataset", "hep2", "--repo_id", "me/hep2", "--data_dir", str(tmp_path)]
    )
    assert done.exit_code == 1 and done.output.startswith("error: hep2 may not be passed on")
    assert done.output.count("\n") == 1

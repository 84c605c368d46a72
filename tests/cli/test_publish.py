"""`card` and `push`: from a measured model to a Hub on this machine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, loopback_hub  # noqa: F401  (a fixture)
from typer.testing import Result

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def measured(cli: Cli, nuclei: Path, instance_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with its results, by `evaluate` alone."""
    folder = tmp_path_factory.mktemp("measured") / "model"
    shutil.copytree(instance_model, folder)
    arguments = ["--dataset", "dsb2018", "--data_dir", nuclei, "--output", folder / "results.json"]
    assert cli("evaluate", folder, *arguments).exit_code == 0
    return folder


@pytest.fixture
def model(measured: Path, tmp_path: Path) -> Path:
    shutil.copytree(measured, tmp_path / "model")
    return tmp_path / "model"


def test_card_writes_what_it_then_finds_true(cli: Cli, failing: Callable[..., str], model: Path) -> None:
    assert cli("card", "model", "--repo-id", "lab/nuclei").stdout == "the card is model/README.md\n"
    readme = model / "README.md"
    commands = readme.read_text()
    assert "\nhf-cells predict lab/nuclei photo.png\n" in commands
    assert "\nhf-cells evaluate lab/nuclei --dataset dsb2018 --data_dir DIR --split test --output" in commands
    assert cli("card", "model", "--check").stdout == "the card of model says what results.json says\n"
    readme.write_text(readme.read_text().replace("Research use only;", "For hospitals;"))
    assert "README.md: the card does not say 'Research use only" in failing("card", "model", "--check")


def test_the_commands_of_a_card_are_commands(cli: Cli, nuclei: Path, model: Path, tmp_path: Path) -> None:
    """What a reader copies from the card runs, and makes the same numbers."""
    assert cli("card", "model", "--repo_id", "model").exit_code == 0
    shutil.copyfile(next(nuclei.glob("stage1_test/*/images/*.png")), "photo.png")
    (tmp_path / "DIR").symlink_to(nuclei)
    lines = [line for line in (model / "README.md").read_text().splitlines() if line.startswith("hf-cells ")]
    assert len(lines) == 2
    for line in lines:
        result = cli(*line.split()[1:])
        assert result.exit_code == 0, result.output
    again = (tmp_path / "results.json").read_text()
    metrics = again.partition('"metrics"')[2].partition('"decision"')[0]
    assert metrics and metrics in (model / "results.json").read_text()


def test_the_owner_of_images_says_what_they_are(cli: Cli, failing: Callable[..., str], model: Path) -> None:
    described = ["--license", "cc-by-4.0", "--title", "cells of my lab"]
    assert "dsb2018 has its own title and licence" in failing("card", "model", *described)
    assert "--check only reads it" in failing("card", "model", "--check", "--license", "mit")
    path = model / "results.json"
    path.write_text(path.read_text().replace('"name": "dsb2018"', '"name": "my_cells"'))
    assert cli("card", "model", *described).exit_code == 0
    card = (model / "README.md").read_text()
    assert "Licence of the data: cc-by-4.0." in card and "license_name: data-cc-by-4.0" in card
    assert (
        "trained on cells of my lab" in card and "\ndatasets:" not in card
    )  # a folder has no page on the Hub
    assert cli("card", "model", "--check").exit_code == 0


def test_card_needs_results(failing: Callable[..., str], instance_model: Path, tmp_path: Path) -> None:
    assert "results.json is missing; write it with `hf-cells evaluate`" in failing("card", instance_model)
    assert "README.md cannot be read" in failing("card", instance_model, "--check")
    assert "missing/results.json is missing" in failing("card", "missing")


def test_push_sends_a_model_privately(
    cli: Cli,
    model: Path,
    loopback_hub: LoopbackHub,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", loopback_hub.token)
    cli("card", "model")
    target = ["push", "model", "tester/cells", "--endpoint", loopback_hub.endpoint]
    dry = cli(*target, "--dry_run")
    *files, total = dry.stdout.splitlines()
    listed = [line.split()[-1] for line in files]  # after the bytes
    assert total.endswith(f"in {len(listed)} files, nothing was sent")
    assert dry.exit_code == 0 and "model.safetensors" in listed
    assert loopback_hub.requests == []

    sent = cli(*target, "--revision", "trial")
    assert sent.exit_code == 0 and sent.stderr == ""
    assert (
        sent.stdout.startswith(f"{loopback_hub.endpoint}/tester/cells/commit/")
        and sent.stdout.count("\n") == 1
    )
    assert sorted(loopback_hub.files("tester/cells", revision="trial")) == sorted([".gitattributes", *listed])
    assert loopback_hub.repos["model", "tester/cells"].private
    cli("push", "model", "tester/open", "--public", "--endpoint", loopback_hub.endpoint)
    assert not loopback_hub.repos["model", "tester/open"].private


def test_push_refuses(failing: Callable[..., str], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "missing is no folder" in failing("push", "missing", "tester/cells")
    for name in ("cells", "my lab/cells", "a/b/c"):
        assert f"'{name}' is no name on the Hub" in failing("push", "model", name, "--dry-run")
    assert "model has no model card" in failing("push", "model", "tester/cells", "--dry-run")

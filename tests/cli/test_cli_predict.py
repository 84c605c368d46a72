"""`predict` on files, folders and patterns, good and broken."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

Cli = Callable[..., Result]


@pytest.fixture
def images(nuclei: Path, tmp_path: Path) -> Path:
    """`images/0.png`, `images/more/1.png`, `images/2.png`."""
    places = [tmp_path / "images" / name for name in ("0.png", "more/1.png", "2.png")]
    for source, place in zip(sorted(nuclei.glob("stage1_test/*/images/*.png")), places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.read_bytes())
    return tmp_path / "images"


def test_predict_takes_files_folders_and_patterns(
    cli: Cli, images: Path, instance_model: Path, tmp_path: Path
) -> None:
    result = cli("predict", instance_model, "images/0.png", "images", "images/*.png", "--rle")
    assert result.exit_code == 0 and result.stderr == ""
    summary = json.loads((tmp_path / "predictions/summary.json").read_text())
    assert result.stdout.count("\n") == 1
    assert result.stdout.startswith(f"3 images, {summary['objects']} objects in ")
    assert [entry["image"] for entry in summary["predictions"]] == ["0", "2", "1"]
    assert Image.open(tmp_path / "predictions/labels/2.png").size == (64, 64)
    assert Image.open(tmp_path / "predictions/overlays/2.png").mode == "RGB"
    with (tmp_path / "predictions/objects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == summary["objects"]
    with (tmp_path / "predictions/rle.csv").open(newline="") as file:
        assert {row["ImageId"] for row in csv.DictReader(file)} == {"0", "1", "2"}


def test_options_reach_the_pipeline(
    cli: Cli, images: Path, instance_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_cells.models import loading

    given: dict[str, object] = {}

    def remembering(model: str, device: str | None, **options: object) -> object:
        given.update(options, device=device)
        return original(model, device, **options)

    original = loading.pipeline
    monkeypatch.setattr(loading, "pipeline", remembering)
    options = ["--threshold", 1, "--tile", 64, "--test-time-augmentation", "--device", "cpu", "--no_overlays"]
    result = cli("predict", instance_model, "images", "--output-dir", "out", *options)
    assert given == {"threshold": 1.0, "tile": 64, "test_time_augmentation": True, "device": "cpu"}
    assert result.stdout.startswith("3 images, 0 objects in ")  # no score is a full one
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "labels",
        "objects.csv",
        "summary.json",
    ]


def test_a_semantic_model_predicts_masks(
    cli: Cli, images: Path, semantic_model: Path, tmp_path: Path
) -> None:
    assert cli("predict", semantic_model, "images/0.png").exit_code == 0
    summary = json.loads((tmp_path / "predictions/summary.json").read_text())
    assert summary["predictions"][0]["class_fractions"].keys() == {"background", "nucleus"}


def test_a_broken_file_is_named_and_the_others_are_predicted(
    cli: Cli, images: Path, instance_model: Path, tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes((images / "0.png").read_bytes()[:100])
    result = cli("predict", instance_model, "images")
    assert result.exit_code == 1 and result.stdout.startswith("3 images, ") and result.stdout.count("\n") == 1
    assert result.stderr.startswith("error: images/broken.png: ") and result.stderr.count("\n") == 1
    assert (tmp_path / "predictions/labels/2.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "missing.png"], "missing.png: no such file or folder"),
        (["MODEL", "empty"], "empty: holds no image"),
        (["MODEL", "images/*.tif"], "images/*.tif: no image matches this pattern"),
        (["MODEL", "images", "--output_dir", "file/out"], "cannot write file/out"),
        (
            ["MODEL", "images", "--output_dir", "file"],
            "cannot write file/objects.csv: file is a file; give a",
        ),
        (["empty", "images"], "empty: holds no config.json"),
    ],
)
def test_predict_refuses(
    failing: Callable[..., str],
    images: Path,
    instance_model: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    given = [instance_model if word == "MODEL" else word for word in arguments]
    assert failing("predict", *given).startswith(message)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls everything sclerotic, with a probability of 0.4: its thresholds say so."""
    import torch

    from hf_cells import models

    config = models.CellClassificationConfig(
        hidden_sizes=(4,),
        id2label={0: "non-sclerotic", 1: "sclerotic"},
        decision_thresholds={"non-sclerotic": 0.7, "sclerotic": 0.3},
    )
    network = models.CellForImageClassification(config)
    with torch.no_grad():
        network.head.classifier.weight.zero_()
        network.head.classifier.bias.copy_(torch.tensor([0.6, 0.4]).log())
    processor = models.CellClassificationImageProcessor(size={"height": 32, "width": 32})
    folder = tmp_path_factory.mktemp("models") / "classifier"
    return models.save_model_repository(network, processor, folder)


def evaluation(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_cannot_be_a_name_is_not_asked_of_the_hub(
    failing: Callable[..., str], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: pytest.fail("asked"))
    for options in ([], ["--numeric"], ["--format", "hpa"]):
        told = failing("predict", "nomodel", "images", *options)
        assert "nomodel: no such folder, and no name of a repository" in told


def test_a_classifier_writes_the_table_of_the_glomeruli(
    cli: Cli, images: Path, classifier: Path, tmp_path: Path
) -> None:
    result = cli("predict", classifier, "images")
    assert result.exit_code == 0 and result.stderr == "" and result.stdout.count("\n") == 1
    assert result.stdout.startswith("3 images (non-sclerotic 0, sclerotic 3) in ")
    rows = evaluation(tmp_path / "predictions")
    probabilities = {"probability_non-sclerotic": "0.6", "probability_sclerotic": "0.4"}
    names = ("0.png", "2.png", "1.png")
    assert rows == [{"name": name, "ground truth": "sclerotic", **probabilities} for name in names]
    assert Image.open(tmp_path / "predictions/contact_sheet.png").size[0] == 1350
    assert json.loads((tmp_path / "predictions/summary.json").read_text())["counts"]["sclerotic"] == 3


def test_options_of_classifiers(cli: Cli, images: Path, classifier: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes((images / "0.png").read_bytes()[:100])
    options = ["--numeric", "--no-contact-sheet", "--output_dir", "out", "--device", "cpu"]
    result = cli("predict", classifier, "images/*.png", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: images/broken.png: ") and result.stderr.count("\n") == 1
    assert [row["ground truth"] for row in evaluation(tmp_path / "out")] == ["1", "1"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["evaluation.csv", "summary.json"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("classifier", ["--tile", 64, "--rle"], "--tile, --rle: for segmentation models only, and "),
        ("classifier", ["--no-overlays"], "--no-overlays: for segmentation models only, and "),
        ("instance_model", ["--numeric"], "--numeric: for classifiers only, and "),
        ("instance_model", ["--no-contact_sheet"], "--no-contact_sheet: for classifiers only, and "),
    ],
)
def test_options_of_the_other_kind_are_refused(
    failing: Callable[..., str],
    images: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    options: list[object],
    message: str,
) -> None:
    assert failing("predict", request.getfixturevalue(kind), "images", *options).startswith(message)
    assert not (tmp_path / "predictions").exists()


def test_another_magnification_gives_labels_of_the_images_size(
    cli: Cli, images: Path, instance_model: Path, tmp_path: Path
) -> None:
    result = cli("predict", instance_model, "images/0.png", "--rescale", 0.5, "--output_dir", "half")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "half/labels/0.png").size == (64, 64)
    assert cli("predict", instance_model, "images/0.png", "--rescale", 0).exit_code == 2

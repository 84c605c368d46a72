"""Exports say what the model says: in this process by each format's library, and in one that has no hf_cells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_cells.errors import CellsError
from hf_cells.hub.card import check_card, write_card
from hf_cells.hub.export import export_model, exporting
from hf_cells.hub.export.source import load_source
from hf_cells.models import (
    CellClassificationConfig,
    CellClassificationImageProcessor,
    CellForImageClassification,
    CellInstanceImageProcessor,
    CellUNetForInstanceSegmentation,
    CellUNetInstanceConfig,
    save_model_repository,
)

LABELS = {0: "round", 1: "square"}
STRANGER = """
import json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_cells":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hidden())
import numpy as np, onnxruntime, timm, torch
from PIL import Image
from transformers import pipeline

folder = sys.argv[1]
photo = Image.open(folder + "/photo.png")
x = np.load(folder + "/pixels.npy")
predict = pipeline("image-classification", model=folder + "/timm")
scores = {entry["label"]: entry["score"] for entry in predict(photo)}
with torch.no_grad():
    plain = timm.create_model("local-dir:" + folder + "/timm", pretrained=True).eval()(torch.from_numpy(x))
    program = torch.export.load(folder + "/program/model.pt2").module()
    program = program(torch.from_numpy(np.load(folder + "/maps_in.npy")))
session = onnxruntime.InferenceSession(folder + "/onnx/model.onnx")
(maps,) = session.run(["logits"], {"pixel_values": np.load(folder + "/maps_in.npy")})
assert "hf_cells" not in sys.modules
np.savez(folder + "/found.npz", scores=[scores["round"], scores["square"]], plain=plain, program=program, maps=maps)
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An 8-bit RGB image of the size that the classifier takes."""
    path = tmp_path_factory.mktemp("export") / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture(scope="module")
def timm_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated classifier with thresholds on a small timm backbone; its running statistics are not the default."""
    torch.manual_seed(0)
    config = CellClassificationConfig(
        backbone="test_resnet",
        id2label=LABELS,
        decision_thresholds={"round": 0.4, "square": 0.6},
        thresholds_chosen_on="validation",
    )
    model = CellForImageClassification(config).train()
    for _ in range(2):
        model(torch.randn(4, 3, 64, 64))
    model.eval().fold_temperature(1.7)
    processor = CellClassificationImageProcessor(
        scaling="dtype",
        size={"height": 64, "width": 64},
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2, 0.2, 0.3],
    )
    return save_model_repository(model, processor, tmp_path_factory.mktemp("timm") / "model")


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = CellUNetForInstanceSegmentation(CellUNetInstanceConfig(hidden_sizes=[4, 8], stem_stride=2)).eval()
    return save_model_repository(
        model, CellInstanceImageProcessor(), tmp_path_factory.mktemp("nuclei") / "model"
    )


@pytest.fixture(scope="module")
def plain_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of our own that takes every size, scaled by percentiles."""
    torch.manual_seed(0)
    config = CellClassificationConfig(hidden_sizes=[4, 8], stem_stride=2, id2label=LABELS)
    model = CellForImageClassification(config).eval()
    processor = CellClassificationImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    return save_model_repository(model, processor, tmp_path_factory.mktemp("plain") / "model")


def test_a_process_without_the_package_gets_the_same(
    timm_classifier: Path, nuclei: Path, photo: Path, tmp_path: Path
) -> None:
    made = export_model(timm_classifier, "timm_wrapper", tmp_path / "timm", [photo])
    assert made.largest <= 1e-5 and list(made.differences) == ["photo.png"]
    export_model(nuclei, "torch_export", tmp_path / "program", [photo])
    export_model(nuclei, "onnx", tmp_path / "onnx", [photo])

    classifier, segmenter = load_source(timm_classifier, [photo]), load_source(nuclei, [photo])
    pixels = classifier.batches()[0]
    maps_in = torch.randn(
        3, 3, 5 * segmenter.multiple, 9 * segmenter.multiple
    )  # neither size nor batch of the export
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    np.save(tmp_path / "maps_in.npy", maps_in.numpy())
    Image.open(photo).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(tmp_path)],
        env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    logits = classifier.logits(pixels)
    np.testing.assert_allclose(found["plain"], logits, atol=1e-4)
    # The stock pipeline prepares the image itself, and its scores are the calibrated ones.
    np.testing.assert_allclose(found["scores"], torch.from_numpy(logits).softmax(-1)[0], atol=1e-4)
    np.testing.assert_allclose(found["program"], segmenter.logits(maps_in), atol=1e-4)
    np.testing.assert_allclose(found["maps"], segmenter.logits(maps_in), atol=1e-4)


def test_timm_keeps_labels_thresholds_and_calibration(
    timm_classifier: Path, photo: Path, tmp_path: Path
) -> None:
    made = export_model(timm_classifier, "timm_wrapper", tmp_path / "timm", [photo])
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert config["label_names"] == ["round", "square"] and "auto_map" not in config
    assert config["decision_thresholds"] == {"round": 0.4, "square": 0.6}
    assert config["calibration_temperature"] == pytest.approx(1.7)
    names = load_file(tmp_path / "timm" / "model.safetensors").keys()
    assert names == timm.create_model("test_resnet", num_classes=2).state_dict().keys()
    assert any("stock pipelines do not apply them" in note for note in made.notes)


@pytest.mark.parametrize("kind", ["plain_classifier", "nuclei"])
def test_a_bioimageio_folder_passes_its_own_test(
    kind: str, photo: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`export_model` runs the test of bioimageio.core; here the preparation is checked to be in the description."""
    export_model(request.getfixturevalue(kind), "bioimageio", tmp_path / "bio", [photo])
    text = (tmp_path / "bio" / "rdf.yaml").read_text()
    assert "scale_range" in text and "max_percentile: 99.8" in text
    assert ("fixed_zero_mean_unit_variance" in text) == (kind == "plain_classifier")
    raw = np.load(tmp_path / "bio" / "test_input.npy")
    assert raw.shape == (1, 3, 64, 64) and raw.max() > 200  # the image itself, not the prepared one


def test_onnx_says_how_to_prepare_images_and_to_decide(
    timm_classifier: Path, photo: Path, tmp_path: Path
) -> None:
    import onnx

    export_model(timm_classifier, "onnx", tmp_path / "onnx", [photo])
    settings = json.loads((tmp_path / "onnx" / "settings.json").read_text())
    assert settings["image_mean"] == [0.5, 0.4, 0.3] and settings["labels"] == ["round", "square"]
    assert settings["activation"] == "softmax" and settings["decision_thresholds"]["square"] == 0.6
    stored = {entry.key: entry.value for entry in onnx.load(tmp_path / "onnx" / "model.onnx").metadata_props}
    assert json.loads(stored["image_mean"]) == [0.5, 0.4, 0.3] and stored["scaling"] == "dtype"


def test_the_card_of_an_export_tells_how_to_load_it(
    timm_classifier: Path, photo: Path, tmp_path: Path, results: dict[str, Any]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(timm_classifier, model)
    (model / "results.json").write_text(json.dumps(results))
    write_card(model)
    export_model(model, "timm_wrapper", tmp_path / "timm", [photo])
    text = (tmp_path / "timm" / "README.md").read_text()
    assert 'timm.create_model("hf-hub:' in text and "trust_remote_code" not in text
    assert "library_name: timm" in text and "stock pipelines do not apply them" in text
    assert check_card(tmp_path / "timm") == []


def test_without_images_a_made_up_one_is_compared(plain_classifier: Path, tmp_path: Path) -> None:
    made = export_model(plain_classifier, "torch_export", tmp_path / "program")
    assert list(made.differences) == ["made-up image"]


def test_an_export_that_says_something_else_is_not_kept(
    plain_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = exporting._writer("torch_export")
    reload = writer.reload
    monkeypatch.setattr(writer, "reload", lambda folder: lambda x: reload(folder)(x) + 0.01)
    with pytest.raises(CellsError, match="differs from .* by 0.01 on made-up image, more than 0.0001"):
        export_model(plain_classifier, "torch_export", tmp_path / "program")
    assert list(tmp_path.iterdir()) == []


def test_what_timm_cannot_hold_is_refused(plain_classifier: Path, nuclei: Path, tmp_path: Path) -> None:
    for model in (plain_classifier, nuclei):
        with pytest.raises(CellsError, match="no timm backbone with a linear head; choose onnx"):
            export_model(model, "timm_wrapper", tmp_path / "timm")


def test_wrong_requests_say_how_to_mend_them(plain_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(CellsError, match="choose from: timm_wrapper, onnx, torch_export, bioimageio"):
        export_model(plain_classifier, "tensorflow", tmp_path / "out")
    with pytest.raises(CellsError, match="is the model itself"):
        export_model(plain_classifier, "onnx", plain_classifier)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("")
    with pytest.raises(CellsError, match="holds something that is no export"):
        export_model(plain_classifier, "onnx", tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(CellsError, match="cannot compare on .*broken.png"):
        export_model(plain_classifier, "onnx", tmp_path / "new", [tmp_path / "broken.png"])


def test_a_missing_library_is_named(
    plain_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hf_cells.hub.export.to_onnx", None)
    with pytest.raises(CellsError, match=r"pip install 'hf-cells\[export\]'"):
        export_model(plain_classifier, "onnx", tmp_path / "out")

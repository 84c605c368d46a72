"""A saved repository is complete: it loads where this package is not installed, and gives the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from discs import draw_discs
from safetensors import safe_open

from hf_cells import models
from hf_cells.errors import CellsError

SEGMENTATION = {
    "configuration_cell_unet.py",
    "image_processing_cells.py",
    "image_reading.py",
    "instance_decoding.py",
    "instance_targets.py",
    "gradient_checkpointing.py",
    "hidden_states.py",
    "losses.py",
    "modeling_cell_unet.py",
    "pipeline_cell_segmentation.py",
    "tiling.py",
    "unet.py",
}
CLASSIFICATION = {
    "backbone_weights.py",
    "cell_cnn.py",
    "class_activation.py",
    "classification_losses.py",
    "configuration_cell_classification.py",
    "decisions.py",
    "image_processing_cells.py",
    "image_processing_classification.py",
    "image_reading.py",
    "instance_decoding.py",
    "instance_targets.py",
    "gradient_checkpointing.py",
    "hidden_states.py",
    "losses.py",
    "modeling_cell_classification.py",
    "pipeline_cell_classification.py",
}

STRANGER = """
import importlib.abc, sys, warnings

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hf_cells", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
try:
    import hf_cells
except ImportError:
    pass
else:
    raise SystemExit("hf_cells can be imported: this proves nothing")

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForInstanceSegmentation,
    AutoModelForSemanticSegmentation,
    pipeline,
)

instances, masks, textures, native, image_file, out = sys.argv[1:]
image = np.load(image_file)
trust = {"trust_remote_code": True}
results = {}
for name, folder, auto in (
    ("instance", instances, AutoModelForInstanceSegmentation),
    ("semantic", masks, AutoModelForSemanticSegmentation),
    ("classes", textures, AutoModelForImageClassification),
):
    model = auto.from_pretrained(folder, **trust)
    assert type(AutoModel.from_pretrained(folder, **trust)) is type(model)
    processor = AutoImageProcessor.from_pretrained(folder, **trust)
    with torch.inference_mode():
        results[name] = model(**processor(image)).logits.numpy()
    if name == "instance":
        outputs = {"logits": torch.from_numpy(results[name])}
        results["decoded"] = processor.post_process_instance_segmentation(outputs)[0]["segmentation"].numpy()
pipe = pipeline("cell-segmentation", model=instances, device="cpu", **trust)
results["by_pipeline"] = pipe(image)["instance_labels"]
results["tiled"] = pipe(image, tile=64, overlap=16)["instance_labels"]
stock = pipeline("image-segmentation", model=instances, device="cpu", **trust)
segments = stock(Image.fromarray((image >> 8).astype(np.uint8)), threshold=0.5)
results["stock"] = np.array([np.asarray(segment["mask"]).sum() for segment in segments])
pipe = pipeline("cell-classification", model=textures, device="cpu", **trust)
results["probabilities"] = pipe.probabilities([image])
results["decided"] = np.array([entry["predicted"] for entry in pipe(image)])
stock = pipeline("image-classification", model=textures, device="cpu", **trust)
best = stock(Image.fromarray((image >> 8).astype(np.uint8)))[0]
results["stock_score"], results["stock_label"] = np.array(best["score"]), np.array(best["label"])
grey = Image.fromarray((image >> 8).astype(np.uint8))  # from here on no code but that of transformers
model, processor = AutoModelForSemanticSegmentation.from_pretrained(native), AutoImageProcessor.from_pretrained(native)
with torch.inference_mode():
    results["native"] = model(**processor(grey, return_tensors="pt")).logits.numpy()
segments = pipeline("image-segmentation", model=native, device="cpu")(grey)
results["native_labels"] = np.array([segment["label"] for segment in segments])
assert "hf_cells" not in sys.modules
np.savez(out, **results)
"""


PLATFORM = {"handler.py", "requirements.txt"}  # of Inference Endpoints


def test_everything_is_there(instance_folder, semantic_folder, classification_folder):
    for folder, code in (
        (instance_folder, SEGMENTATION),
        (semantic_folder, SEGMENTATION),
        (classification_folder, CLASSIFICATION),
    ):
        names = {path.name for path in folder.iterdir()}
        assert names == code | {"config.json", "model.safetensors", "preprocessor_config.json"} | PLATFORM
        for path in folder.glob("*.py"):
            assert "hf_cells" not in path.read_text("utf-8"), f"{path.name} needs the package"
    config = json.loads((instance_folder / "config.json").read_text())
    model = "modeling_cell_unet.CellUNetForInstanceSegmentation"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_cell_unet.CellUNetInstanceConfig",
        "AutoModel": model,
        "AutoModelForImageSegmentation": model,
        "AutoModelForInstanceSegmentation": model,
    }
    assert config["custom_pipelines"]["cell-segmentation"]["impl"].startswith("pipeline_cell_segmentation.")
    processor = json.loads((instance_folder / "preprocessor_config.json").read_text())
    assert processor["auto_map"] == {
        "AutoImageProcessor": "image_processing_cells.CellInstanceImageProcessor"
    }


def test_a_classifier_answers_to_the_classes_of_its_task(classification_folder):
    config = json.loads((classification_folder / "config.json").read_text())
    model = "modeling_cell_classification.CellForImageClassification"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_cell_classification.CellClassificationConfig",
        "AutoModel": model,
        "AutoModelForImageClassification": model,
    }
    assert config["custom_pipelines"]["cell-classification"] == {
        "impl": "pipeline_cell_classification.CellClassificationPipeline",
        "pt": ["AutoModelForImageClassification"],
        "type": "image",
    }
    processor = json.loads((classification_folder / "preprocessor_config.json").read_text())
    assert processor["auto_map"] == {
        "AutoImageProcessor": "image_processing_classification.CellClassificationImageProcessor"
    }


def test_a_stranger_gets_the_same_numbers(
    pipe, instance_folder, semantic_folder, classification_folder, native_folder, tmp_path
):
    image, _ = draw_discs(200, size=(110, 95))
    np.save(tmp_path / "image.npy", image)
    folders = [instance_folder, semantic_folder, classification_folder]
    arguments = [*folders, native_folder, tmp_path / "image.npy", tmp_path / "out.npz"]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = np.load(tmp_path / "out.npz")
    for name, folder in zip(("instance", "semantic", "classes"), folders):
        ours = models.pipeline(folder, device="cpu")
        ours.model.to(memory_format=torch.contiguous_format)
        with torch.inference_mode():
            logits = ours.model(**ours.image_processor(image)).logits.numpy()
        np.testing.assert_array_equal(theirs[name], logits)
    native = models.pipeline(native_folder, device="cpu")
    with torch.inference_mode():
        logits = native.model(**native.image_processor((image >> 8).astype(np.uint8))).logits
    quarter = torch.from_numpy(theirs["native"])
    enlarged = torch.nn.functional.interpolate(quarter, image.shape, mode="bilinear").numpy()
    np.testing.assert_allclose(enlarged, logits.numpy(), atol=1e-4)
    found = np.unique(native((image >> 8).astype(np.uint8))["semantic_mask"])
    assert set(theirs["native_labels"]) == {["background", "cell"][label] for label in found}
    labels = pipe(image)["instance_labels"]
    assert labels.max() == 8
    np.testing.assert_array_equal(theirs["decoded"], labels)
    np.testing.assert_array_equal(theirs["by_pipeline"], labels)
    np.testing.assert_array_equal(theirs["tiled"], pipe(image, tile=64, overlap=16)["instance_labels"])
    assert len(theirs["stock"]) == 8
    classify = models.pipeline(classification_folder, device="cpu")
    np.testing.assert_array_equal(theirs["probabilities"], classify.probabilities([image]))
    assert theirs["decided"].tolist() == [entry["predicted"] for entry in classify(image)]
    best = classify((image >> 8).astype(np.uint8))[0]
    assert str(theirs["stock_label"]) == best["label"]
    assert float(theirs["stock_score"]) == pytest.approx(best["score"], abs=1e-5)


def test_saving_again_keeps_the_card_and_drops_old_weights(semantic_model, tmp_path):
    folder, processor = tmp_path / "model", models.CellSemanticImageProcessor()
    models.save_model_repository(semantic_model, processor, folder)
    (folder / "README.md").write_text("the card")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_bytes(b"picture")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"old shard")
    other = models.CellUNetForSemanticSegmentation(semantic_model.config)
    assert models.save_model_repository(other, processor, folder) == folder
    assert (folder / "README.md").read_text() == "the card"
    assert (folder / "figures" / "a.png").is_file()
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert torch.equal(weights.get_tensor("unet.head.weight"), other.unet.head.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_save_leaves_the_old_one(semantic_model, tmp_path, monkeypatch):
    folder, processor = tmp_path / "model", models.CellSemanticImageProcessor()
    models.save_model_repository(semantic_model, processor, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(processor, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        models.save_model_repository(semantic_model, processor, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_written(semantic_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CellsError, match="cannot write"):
        models.save_model_repository(
            semantic_model, models.CellSemanticImageProcessor(), tmp_path / "file" / "x"
        )


def test_travelling_files_import_only_siblings_by_one_dot():
    """Anything else is saved without complaint and fails for whoever loads it."""
    home = Path(models.__file__).parent
    for name in SEGMENTATION | CLASSIFICATION:
        lines = (home / name).read_text("utf-8").splitlines()
        for line in (line.strip() for line in lines):
            if line.startswith("from ."):
                module = line.split()[1]
                assert module.count(".") == 1, f"{name}: {line}"
                for code in (code for code in (SEGMENTATION, CLASSIFICATION) if name in code):
                    assert f"{module[1:]}.py" in code, f"{name}: {line}"

"""`handler.py` as Inference Endpoints loads and calls it, in a process that has no hf_cells."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served_images import NUCLEI, png

from hf_cells.models import saving
from hf_cells.models.handler import EndpointHandler, check_parameters, decode_inputs

PLATFORM = """
import base64, importlib.util, io, json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_cells":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hidden())
import torch
from PIL import Image

torch.set_num_threads(1)

def load(folder):
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("handler.EndpointHandler", folder + "/handler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["handler.EndpointHandler"] = module
    spec.loader.exec_module(module)
    return module.EndpointHandler(folder)

classes, nuclei, cell, field = sys.argv[1:]
content = open(cell, "rb").read()
text = base64.b64encode(content).decode()
classify, segment = load(classes), load(nuclei)
found = {
    "text": classify({"inputs": text, "parameters": {"top_k": 2, "function_to_apply": "sigmoid"}}),
    "bytes": classify({"inputs": content}),
    "segments": segment({"inputs": Image.open(field).convert("RGB"), "parameters": {"threshold": 0.2}}),
}
for name, data in (
    ("unknown", {"inputs": text, "parameters": {"speed": 1}}),
    ("nothing", {}),
    ("path", {"inputs": cell}),
    ("no image", {"inputs": "aGVsbG8="}),
    ("task", {"inputs": text, "parameters": {"threshold": 0.5}}),
):
    try:
        found[name] = classify(data)
    except ValueError as error:
        found[name] = str(error)
assert "hf_cells" not in sys.modules
print(json.dumps(found))
"""


def test_the_platform_needs_nothing_but_the_repository(
    classifier_folder: Path, classifier: Any, nuclei: Any, cell: bytes, field: np.ndarray, tmp_path: Path
) -> None:
    shutil.copytree(NUCLEI, tmp_path / "nuclei", ignore=shutil.ignore_patterns("*.py"))
    saving.write_code("cell_unet_instance", tmp_path / "nuclei")
    (tmp_path / "cell.png").write_bytes(cell)
    (tmp_path / "field.png").write_bytes(png(field))
    arguments = [classifier_folder, tmp_path / "nuclei", tmp_path / "cell.png", tmp_path / "field.png"]
    done = subprocess.run(
        [sys.executable, "-c", PLATFORM, *map(str, arguments)],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])

    expected = classifier(cell)  # 16 bits, though the platform's own way is 8
    assert [e["label"] for e in found["bytes"]] == [e["label"] for e in expected]
    assert [e["score"] for e in found["bytes"]] == pytest.approx([e["score"] for e in expected], abs=1e-6)
    assert len(found["text"]) == 2 and sum(e["score"] for e in found["text"]) != pytest.approx(1)
    labels = nuclei(field, threshold=0.2)
    assert len(found["segments"]) == len(labels["scores"]) > 3
    for number, entry in enumerate(found["segments"], start=1):
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["mask"]))))
        assert np.array_equal(mask > 0, labels["instance_labels"] == number)
    assert "image-classification knows top_k, function_to_apply" in found["unknown"]
    assert "inputs is a NoneType" in found["nothing"]
    assert "no base64" in found["path"]  # a file of the server's own is not read
    assert "is not an image" in found["no image"]
    assert "threshold is a parameter of image-segmentation" in found["task"]


def test_every_repository_has_it_and_says_what_it_needs(classifier_folder: Path, tmp_path: Path) -> None:
    assert (classifier_folder / "handler.py").read_text() == Path(saving.__file__).with_name(
        "handler.py"
    ).read_text()
    assert (classifier_folder / "requirements.txt").read_text().split() == [
        "transformers>=5",
        "tifffile>=2024.1",
    ]
    saving.write_handler({"model_type": "cell_unet_semantic", "backbone": "resnet18"}, tmp_path)
    assert {"scipy>=1.12", "timm>=1.0.20"} < set((tmp_path / "requirements.txt").read_text().split())


def test_semantic_models(semantic: Any, field: np.ndarray) -> None:
    handler = EndpointHandler.__new__(EndpointHandler)
    handler.pipe = semantic
    image = Image.fromarray(field[..., 0])
    entries = handler({"inputs": image})
    masks = [np.asarray(Image.open(io.BytesIO(base64.b64decode(e["mask"])))) > 0 for e in entries]
    assert (np.sum(masks, 0) == 1).all()  # every pixel belongs to one class
    found = handler({"inputs": image, "parameters": {"mask_threshold": 1.0}})
    assert found == []


def test_parameters_may_be_text_or_null() -> None:
    assert check_parameters("cell_classification", {"top_k": "3", "function_to_apply": None}) == {"top_k": 3}
    assert (
        check_parameters("cell_unet_semantic", {"threshold": "0.25", "subtask": "semantic"})["threshold"]
        == 0.25
    )
    assert check_parameters("cell_unet_instance", None) == {}


@pytest.mark.parametrize("inputs", ["data:image/png;base64,aGVs\nbG8=", " aGVs bG8= ", b"hello"])
def test_inputs_in_base64(inputs: Any) -> None:
    assert decode_inputs(inputs) == b"hello"

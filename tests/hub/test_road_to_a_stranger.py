"""The whole road: a saved model is pushed without its code beside it, and a process that has no hf_cells loads it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loopback_hub import LoopbackHub
from PIL import Image

from hf_cells.hub.card import write_card
from hf_cells.hub.push import push_model
from hf_cells.models import (
    CellInstanceImageProcessor,
    CellUNetForInstanceSegmentation,
    CellUNetInstanceConfig,
    pipeline,
    save_model_repository,
)
from hf_cells.simulate import simulate_nuclei

STRANGER = """
import json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_cells":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hidden())
import torch
from transformers import AutoImageProcessor, AutoModelForImageSegmentation, pipeline

torch.set_num_threads(1)  # several threads add up in another order

repo, photo, out = sys.argv[1:]
model = AutoModelForImageSegmentation.from_pretrained(repo, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained(repo, trust_remote_code=True)
inputs = processor(photo, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
found = processor.post_process_instance_segmentation(outputs, target_sizes=[(96, 96)])[0]
stock = pipeline("image-segmentation", model=repo, trust_remote_code=True)(photo, threshold=0.0)
torch.save({"logits": outputs.logits, "labels": found["segmentation"], "stock": len(stock)}, out)
assert "hf_cells" not in sys.modules
"""


def test_a_stranger_loads_what_was_pushed(
    loopback_hub: LoopbackHub, results: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = CellUNetInstanceConfig(hidden_sizes=[8, 16], stem_stride=2)
    model = CellUNetForInstanceSegmentation(config).eval()
    with torch.no_grad():  # an untrained net finds nothing: let brightness stand for the foreground
        model.unet.head.bias[:4] += 1.0
    folder = save_model_repository(model, CellInstanceImageProcessor(magnification=1.5), tmp_path / "model")
    for module in folder.glob("*.py"):
        module.unlink()
    (folder / "results.json").write_text(json.dumps(results))
    write_card(folder)
    push_model(folder, "tester/nuclei", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    assert not list(folder.glob("*.py"))

    image = simulate_nuclei(0, 0, size=(96, 96)).image
    Image.fromarray(image).save(tmp_path / "photo.png")
    environment = {**os.environ, **loopback_hub.environment, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            STRANGER,
            "tester/nuclei",
            str(tmp_path / "photo.png"),
            str(tmp_path / "out.pt"),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = torch.load(tmp_path / "out.pt", weights_only=True)
    ours = pipeline(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        logits = model(**ours.image_processor(image)).logits  # same memory layout as the stranger's
    assert torch.equal(theirs["logits"], logits)
    labels = ours(image)["instance_labels"]
    torch.set_num_threads(threads)
    assert np.array_equal(theirs["labels"].numpy(), labels) and theirs["stock"] == labels.max()

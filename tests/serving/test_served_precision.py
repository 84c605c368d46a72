"""The number format of a served network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served_images import Serving

from hf_cells import models
from hf_cells.serving import precision
from hf_cells.serving.precision import choose_precision


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32"), ({}, "fp32")],
)
def test_auto_is_bf16_where_it_is_built_in(
    instructions: dict[str, bool], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: instructions)
    assert choose_precision("auto", torch.device("cpu")) == chosen
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"
    assert choose_precision("auto", torch.device("meta")) == "fp32"


def test_weights_in_bf16_answer_as_the_pipeline_does_in_bf16(
    classifier_folder: Path, cell: bytes, serving: Serving
) -> None:
    pipe: Any = models.pipeline(classifier_folder, "cpu", precision="bf16")
    expected = {entry["label"]: entry["score"] for entry in pipe(cell)}
    with serving(pipe, precision="bf16") as client:
        found = {entry["label"]: entry["score"] for entry in client.post("/", content=cell).json()}
        assert client.get("/info").json()["precision"] == "bf16"
    assert found == pytest.approx(expected, abs=1e-6)
    kinds = {p.dtype for layer in pipe.model.modules() for p in layer.parameters(recurse=False)}
    assert kinds == {torch.bfloat16, torch.float32}  # norms keep fp32
    assert pipe.model.head.classifier.weight.dtype == torch.bfloat16


def test_nuclei_in_bf16_are_those_of_fp32(
    nuclei: Any, field: np.ndarray, tmp_path: Path, serving: Serving
) -> None:
    from served_images import NUCLEI, png

    expected = nuclei(field)["instance_labels"]
    with serving(models.pipeline(NUCLEI, "cpu"), precision="bf16") as client:
        answer = client.post("/predict", content=png(field)).json()
    assert answer["count"] == expected.max()

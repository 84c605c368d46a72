"""Models to serve: a small classifier, the shipped nuclei model, and a small semantic one; files of images."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from served_images import NUCLEI, Serving, png
from starlette.testclient import TestClient

from hf_cells import models
from hf_cells.serving.app import create_app
from hf_cells.serving.service import Service
from hf_cells.serving.settings import Settings
from hf_cells.simulate import simulate_nuclei


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes by one channel at 24 x 24; its thresholds say "b" whenever they can."""
    torch.manual_seed(0)
    config = models.CellClassificationConfig(
        hidden_sizes=(4, 8),
        num_channels=1,
        id2label={0: "a", 1: "b", 2: "c"},
        decision_thresholds={"a": 1.0, "b": 1e-6, "c": 1.0},
    )
    model = models.CellForImageClassification(config).eval()
    processor = models.CellClassificationImageProcessor(num_channels=1, size={"height": 24, "width": 24})
    return models.save_model_repository(model, processor, tmp_path_factory.mktemp("served") / "classes")


@pytest.fixture(scope="session")
def classifier(classifier_folder: Path) -> Any:
    return models.pipeline(classifier_folder, "cpu")


@pytest.fixture(scope="session")
def nuclei() -> Any:
    return models.pipeline(NUCLEI, "cpu")


@pytest.fixture(scope="session")
def semantic() -> Any:
    torch.manual_seed(0)
    config = models.CellUNetSemanticConfig(
        hidden_sizes=(4, 8), num_channels=1, id2label={0: "background", 1: "cell"}
    )
    model = models.CellUNetForSemanticSegmentation(config).eval()
    processor = models.CellSemanticImageProcessor(num_channels=1)
    return models.CellSegmentationPipeline(model, image_processor=processor, task="cell-segmentation")


@pytest.fixture(scope="session")
def cell() -> bytes:
    """A 16-bit grey PNG of 30 x 20."""
    return png(np.random.default_rng(0).integers(0, 65_536, (30, 20), dtype=np.uint16))


@pytest.fixture(scope="session")
def field() -> np.ndarray:
    """Simulated nuclei, 96 x 128, 8-bit RGB."""
    return simulate_nuclei(0, 0, size=(96, 128)).image


@pytest.fixture
def serving() -> Serving:
    """A client of the routes of a pipeline; `client.service` is what answers."""

    @contextmanager
    def start(pipe: Any, **settings: Any) -> Iterator[TestClient]:
        service = Service(pipe, "lab/model", Settings(**{"precision": "fp32", **settings}))
        with TestClient(create_app(service), raise_server_exceptions=False) as client:
            client.service = service
            yield client

    return start

"""Shared fixtures: real images through HF_CELLS_DATA, quiet and offline libraries."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "0")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return the path of a real data file, or skip the test with the reason."""

    def find(name: str) -> Path:
        root = os.environ.get("HF_CELLS_DATA")
        if not root:
            pytest.skip("HF_CELLS_DATA is not set: no real images to test on")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"{path} is not there")
        return path

    return find

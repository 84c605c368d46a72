"""A small simulated library, shared by all tests of the composer."""

from pathlib import Path

import pytest

from hf_cells.compose import Library, read_library, simulate_library


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples of each class, one for each split."""
    return simulate_library(tmp_path_factory.mktemp("library") / "cells", per_class=3, seed=5)


@pytest.fixture(scope="session")
def cells(library_folder: Path) -> Library:
    return read_library(library_folder)

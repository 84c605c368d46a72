"""Which bars and lines of the libraries are let through."""

import logging
import os
from logging.handlers import MemoryHandler

import datasets
import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from hf_cells.quiet import quiet_libraries

VARIABLES = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY")


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_of_data_and_downloads_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_info()
    quiet_libraries()
    assert not transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.get_verbosity() == logging.ERROR
    assert datasets.utils.are_progress_bars_disabled() is not terminal
    assert are_progress_bars_disabled() is not terminal
    assert [os.environ.get(variable) for variable in VARIABLES] == [None if terminal else "1"] * 2 + ["error"]


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    transformers_logging.set_verbosity_info()
    quiet_libraries()
    assert transformers_logging.get_verbosity() == logging.INFO
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    transformers_logging.set_verbosity_warning()


def test_only_the_harmless_error_of_pipelines_is_dropped() -> None:
    kept = MemoryHandler(10, flushLevel=logging.CRITICAL)
    logger = logging.getLogger("transformers.pipelines.base")
    for _ in range(2):
        quiet_libraries()
    logger.addHandler(kept)
    logger.error("The model 'X' is not supported for image-segmentation. Supported models are ['Y'].")
    logger.error("The file is broken.")
    logger.removeHandler(kept)
    assert [record.getMessage() for record in kept.buffer] == ["The file is broken."]


def test_tifffile_does_not_speak_before_our_own_error() -> None:
    quiet_libraries()
    assert not logging.getLogger("tifffile").isEnabledFor(logging.ERROR)

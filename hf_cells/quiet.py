"""Quiet libraries: what transformers, datasets and the Hub client tell developers is noise to who runs a command."""

import logging
import os
import sys
import warnings
from importlib import import_module

_VERBOSITY = {
    "transformers": "TRANSFORMERS_VERBOSITY",
    "datasets": "DATASETS_VERBOSITY",
    "huggingface_hub": "HF_HUB_VERBOSITY",
}
_BARS = {"datasets": "HF_DATASETS_DISABLE_PROGRESS_BARS", "huggingface_hub": "HF_HUB_DISABLE_PROGRESS_BARS"}


def quiet_libraries() -> None:
    """Show errors only; of progress bars those of data and downloads only, and these on a terminal only.

    Imports no library: the loaded ones are told at once, the others, and processes that are started from here, by
    the environment. What the environment says already stays as it is. Call it after the import of transformers,
    whose bars ("Loading weights", "Writing model shards") have no switch in the environment.
    """
    for library, variable in _VERBOSITY.items():
        if variable not in os.environ:
            os.environ[variable] = "error"
            logging.getLogger(library).setLevel(logging.ERROR)
    logging.getLogger("transformers.pipelines.base").addFilter(_worth_reading)
    # What it logs of a damaged TIFF is told again, in our own line that names the file and the remedy.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)

    with warnings.catch_warnings(action="ignore"):  # of a switch that the environment overrules
        if "transformers" in sys.modules:  # takes the bars of downloads with its own
            import_module("transformers.utils.logging").disable_progress_bar()
        for library, variable in _BARS.items():
            if not sys.stderr.isatty():
                os.environ.setdefault(variable, "1")
            if library in sys.modules:
                switch = "enable" if sys.stderr.isatty() else "disable"
                getattr(import_module(f"{library}.utils"), f"{switch}_progress_bars")()


def _worth_reading(record: logging.LogRecord) -> bool:
    """Drop the error that a pipeline logs about a model class from outside transformers: it runs all the same."""
    return "is not supported for" not in record.getMessage()

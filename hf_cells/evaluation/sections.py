"""What every evaluation does alike: name the images of a split, and fill the sections of `results.json`."""

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..data.samples import channel_columns
from ..data.simulated import simulated_title
from ..errors import CellsError
from .results import describe_hardware, library_versions


def read_identities(dataset: Any, split_name: str, extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    """image_id, group and the `extra` columns that are there, of every image, without decoding one.

    Raises:
        CellsError: When the split is empty, or has no column `image_id` or `image`.
    """
    columns = dataset.column_names
    missing = [name for name in ("image_id", "image") if name not in columns]
    if missing == ["image"] and channel_columns(dataset.features):
        missing = []
    if missing:
        raise CellsError(
            f"split {split_name!r} has no column {missing[0]!r} (it has {', '.join(columns)}); "
            "load it with hf_cells.load_dataset"
        )
    if len(dataset) == 0:
        raise CellsError(f"split {split_name!r} has no images; choose another split")
    known = [name for name in ("image_id", "group", *extra) if name in columns]
    return [
        {"image_id": str(row.pop("image_id")), "group": row.pop("group", None), **row}
        for row in dataset.select_columns(known).to_list()
    ]


@contextmanager
def naming_image(image_id: str, split_name: str) -> Iterator[None]:
    """Any failure inside becomes an error that names the image."""
    try:
        yield
    except Exception as error:
        cause = str(error) if isinstance(error, CellsError) else f"{type(error).__name__}: {error}"
        raise CellsError(
            f"image {image_id!r} of split {split_name!r} cannot be evaluated ({cause}); "
            "mend the image or its truth: none is left out of a score"
        ) from error


def dataset_section(dataset: Any, fingerprint: str) -> dict[str, Any]:
    """Name, configuration and licence as the dataset knows them."""
    info = dataset.info
    title = simulated_title(info)
    return {
        **({"title": title} if title else {}),
        "name": info.dataset_name or info.builder_name or "unnamed",
        "config": info.config_name,
        "license": info.license or None,
        "fingerprint": fingerprint,
    }


def split_section(name: str, groups: Sequence[Hashable | None]) -> dict[str, Any]:
    """The unit of resampling and how many there are; an image without a group is one of its own."""
    known = set(groups) - {None}
    count = len(known) + list(groups).count(None)
    return {
        "name": name,
        "unit": "group" if known else "image",
        "groups": count,
        "leaks": None,
        "audit": None,
    }


def decision_section(pipe: Any) -> dict[str, Any]:
    """Thresholds and temperature that travel with the model: chosen on validation, or the defaults.

    The decoding of instances belongs to the image processor, the thresholds of classes to the configuration.
    """
    config, processor = pipe.model.config, getattr(pipe, "image_processor", None)
    decoding = getattr(processor, "decision_thresholds", None) or {}
    classes = getattr(config, "decision_thresholds", None) or {}
    temperature = float(getattr(config, "calibration_temperature", None) or 1.0)
    chosen_on = getattr(processor, "thresholds_chosen_on", "default")
    if classes or temperature != 1.0:
        known = getattr(config, "thresholds_chosen_on", "default")
        chosen_on = known if known != "default" else "validation"
    return {"thresholds": {**decoding, **classes}, "temperature": temperature, "chosen_on": chosen_on}


def run_section(begun: float) -> dict[str, Any]:
    """Time since `begun` (of `time.perf_counter`), hardware and versions."""
    return {
        "recipe": None,
        "seed": None,
        "seconds": round(time.perf_counter() - begun, 3),
        "hardware": describe_hardware(),
        "versions": library_versions(),
    }


def add_context(results: dict[str, Any], context: Mapping[str, Mapping[str, Any]] | None) -> None:
    """Lay what was known before, per section, over what was measured."""
    for section, known in (context or {}).items():
        results[section] = {**results.get(section, {}), **known}

"""The sample library: a folder of RGBA PNGs and one Parquet index.

`index.parquet` has one row per sample:

    sample_id       unique name
    class           one of `CLASS_NAMES[1:]`
    file            PNG relative to the folder: light over glass of grey 240; alpha is the soft mask
    source          database; "simulated" or "built"
    source_image    image that it was cut from; of a built one those of its parts, with ";" between
    patient         where known, else null
    height, width   pixels
    diameter        of the circle of equal area, pixels at the scale of the library
    scale           factor from the source's pixels
    split           train, validation or test
    built_from      of a platelet clump the sample_ids of its platelets, with ";" between; else null
    glass           colour of the source's glass, three numbers 0..255
    gain            factors that brought the source's optical density to the reference, three numbers
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from ..errors import CellsError
from ..files import atomic_folder, file_in_the_way, refuse_other
from .classes import CLASS_IDS, CLASS_NAMES, SPLITS

INDEX = "index.parquet"
_SETTINGS = b"hf_cells.library"  # in the metadata of the index: what the library was made with


@dataclass
class Sample:
    """One row of the index; `rgba` (h, w, 4) uint8 are its pixels."""

    sample_id: str
    class_name: str
    file: str
    source: str
    source_image: str
    patient: str | None
    height: int
    width: int
    diameter: float
    scale: float
    split: str
    built_from: str | None
    glass: tuple[float, float, float]
    gain: tuple[float, float, float]
    rgba: NDArray[np.uint8] = field(repr=False, compare=False)

    @property
    def class_id(self) -> int:
        """Id of its class."""
        return CLASS_IDS[self.class_name]


SCHEMA = pa.schema(
    [
        *((n, pa.string()) for n in ("sample_id", "class", "file", "source", "source_image", "patient")),
        *((n, pa.int32()) for n in ("height", "width")),
        *((n, pa.float32()) for n in ("diameter", "scale")),
        *((n, pa.string()) for n in ("split", "built_from")),
        *((n, pa.list_(pa.float32(), 3)) for n in ("glass", "gain")),
    ]
)


class Library:
    """Samples by split and class, in memory.

    Attributes:
        samples: In the order of the index.
        simulated: Whether `simulate_library` drew all of it.
        fingerprint: Hash of the pixels and the rows: another library, another fingerprint.
    """

    def __init__(self, path: Path, samples: Sequence[Sample], simulated: bool = False) -> None:
        self.path, self.simulated = path, simulated
        self.samples = list(samples)
        self._by_class: dict[tuple[str, str], list[Sample]] = defaultdict(list)
        digest = hashlib.sha256()
        for sample in sorted(self.samples, key=lambda sample: sample.sample_id):
            self._by_class[sample.split, sample.class_name].append(sample)
            row = [getattr(sample, f.name) for f in fields(sample) if f.name not in ("rgba", "file")]
            digest.update(repr(row).encode())
            digest.update(np.ascontiguousarray(sample.rgba).data)
        self.fingerprint = digest.hexdigest()[:16]

    def of(self, split: str, class_name: str) -> list[Sample]:
        """Samples of a class in a split, sorted by id.

        Raises:
            CellsError: There is none.
        """
        found = self._by_class.get((split, class_name))
        if not found:
            raise CellsError(
                f"{self.path}: no sample of {class_name} in {split}; add source images that show it "
                f"(three or more reach every split), or compose with --leave_out {class_name}"
            )
        return found

    def counts(self) -> dict[str, Counter[str]]:
        """Return {class: {split: samples}}."""
        table: dict[str, Counter[str]] = {name: Counter() for name in CLASS_NAMES[1:]}
        for sample in self.samples:
            table[sample.class_name][sample.split] += 1
        return table


def check_free(path: str | Path, settings: Mapping[str, Any] | None) -> None:
    """Refuse a folder that holds anything but a library of these settings, before the long work.

    Raises:
        CellsError: It holds something else.
    """
    target = Path(path)
    if place := file_in_the_way(target):
        raise CellsError(f"cannot write into {target}: {place} is a file; give a folder")
    if (target / INDEX).is_file():
        refuse_other(target, "library", _settings_of(target / INDEX), settings)
    elif target.is_dir() and any(target.iterdir()):
        raise CellsError(f"{target}: exists and is no sample library; choose an empty or new folder")


def _settings_of(index: Path) -> dict[str, Any] | None:
    try:
        return json.loads(pq.read_schema(index).metadata[_SETTINGS])
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError):  # damaged, or written without
        return None


def write_library(
    path: str | Path, samples: Iterable[Sample], settings: Mapping[str, Any] | None = None
) -> Path:
    """Write PNGs and then the index; the folder appears at once.

    Args:
        path: The folder.
        samples: What to write.
        settings: What they were made with, JSON-able; an earlier library of the same settings is replaced.

    Raises:
        CellsError: The folder holds something else.
    """
    target = Path(path)
    check_free(target, settings)
    rows: list[Mapping[str, object]] = []
    with atomic_folder(target) as folder:
        for sample in samples:
            place = folder / sample.file
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample.rgba).save(place, compress_level=6)
            row = {f.name: getattr(sample, f.name) for f in fields(sample) if f.name != "rgba"}
            rows.append({"class": row.pop("class_name"), **row})
        schema = SCHEMA if settings is None else SCHEMA.with_metadata({_SETTINGS: json.dumps(settings)})
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / INDEX)
    return target


def read_library(path: str | Path) -> Library:
    """Read a library into memory: some megabytes for thousands of samples.

    Raises:
        CellsError: No library there, or a damaged one.
    """
    folder = Path(path)
    index = folder / INDEX
    if not index.is_file():
        raise CellsError(f"{folder}: no {INDEX} there; make a library with `hf-cells compose library`")
    try:
        rows = pq.read_table(index).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CellsError(f"{index}: cannot be read ({reason}); build the library again") from error
    simulated = (_settings_of(index) or {}).get("simulated") is True
    return Library(folder, [_read_sample(folder, index, row) for row in rows], simulated)


def _read_sample(folder: Path, index: Path, row: dict[str, object]) -> Sample:
    missing = [name for name in SCHEMA.names if name not in row]
    if missing:
        raise CellsError(f"{index}: has no column {missing[0]!r}; build the library again")
    if row["class"] not in CLASS_NAMES[1:] or row["split"] not in SPLITS:
        raise CellsError(
            f"{index}: sample {row['sample_id']} has class {row['class']!r} and split {row['split']!r}; "
            f"classes are {', '.join(CLASS_NAMES[1:])}, splits {', '.join(SPLITS)}"
        )
    place = folder / str(row["file"])
    try:
        with Image.open(place) as image:
            if image.mode != "RGBA":
                raise CellsError(f"{place}: is {image.mode}, not RGBA with its mask as alpha; build it again")
            rgba = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise CellsError(
            f"{place}: cannot be read ({type(error).__name__}); build the library again"
        ) from error
    if rgba.shape[:2] != (row["height"], row["width"]):
        raise CellsError(
            f"{place}: is {rgba.shape[0]}x{rgba.shape[1]} but {row['height']}x{row['width']} in {INDEX}; "
            "build the library again"
        )
    values = {name: row[name] for name in SCHEMA.names if name != "class"}
    values["glass"] = tuple(values["glass"])  # type: ignore[arg-type]
    values["gain"] = tuple(values["gain"])  # type: ignore[arg-type]
    return Sample(class_name=str(row["class"]), rgba=rgba, **values)  # type: ignore[arg-type]

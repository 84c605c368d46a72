"""What predictions of every kind share: the summary with its failures, and tables that appear when they are whole."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import CellsError
from ..files import atomic_write
from ..models.image_reading import MAX_PIXELS

CONTACT_SHEET = "contact_sheet.png"
EXPLANATIONS, ANIMATION = "explanations", "explain.gif"
# In the output folder: what is no microscope image.
PICTURES = ("labels", "overlays", "colour_maps", CONTACT_SHEET, EXPLANATIONS, ANIMATION)
FILE_ERRORS = (
    CellsError,
    ValueError,
    OSError,
    RuntimeError,
    MemoryError,
)  # of one file; the others may be good
OnError = Literal["skip", "raise"]


@dataclass(frozen=True)
class PredictionFailure:
    """A file that could not be predicted, and why, in one line that names the file."""

    path: str
    reason: str


@dataclass
class Summary:
    """What was predicted and what failed; `summary.json` holds the same."""

    output_dir: str
    images: int = 0
    seconds: float = 0.0
    failures: list[PredictionFailure] = field(default_factory=list)

    def found(self) -> str:
        """Say in a few words what was found."""
        return f"{self.images} images"

    def __str__(self) -> str:
        """Return a line on the whole, and a line on each file that failed."""
        done = f"{self.found()} in {self.seconds:.1f} s, see {self.output_dir}"
        if not self.failures:
            return done
        failed = "\n".join(f"  {failure.reason}" for failure in self.failures)
        return f"{done}\n{len(self.failures)} files failed:\n{failed}"

    def failed(self, path: Path, error: BaseException, on_error: OnError) -> None:
        """Take down a file that failed.

        Raises:
            CellsError: With `on_error="raise"`.
        """
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        failure = PredictionFailure(str(path), reason if str(path) in reason else f"{path}: {reason}")
        if on_error == "raise":
            raise CellsError(failure.reason) from error
        self.failures.append(failure)

    def write(self) -> None:
        """Write `summary.json`."""
        with atomic_write(Path(self.output_dir) / "summary.json") as temporary:
            text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def open_csv(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Open a CSV that appears under its name when all rows are in: memory does not grow with the images.

    Bytes of a file's name that are no UTF-8 are written in hexadecimal, so that the table can be read.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        yield writer


def check_on_error(on_error: str) -> None:
    """Refuse anything but "skip" and "raise" (ValueError)."""
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is {on_error!r}; choose 'skip' or 'raise'")


def pixel_limit(pipe: Any) -> int:
    """Return how many pixels the model's processor allows an image, or the usual limit where it says nothing."""
    return getattr(getattr(pipe, "image_processor", None), "max_pixels", MAX_PIXELS)


def without_outputs(images: list[Path], output: Path) -> list[Path]:
    """Leave out what an earlier run wrote: its pictures are no microscope images.

    Raises:
        CellsError: Nothing is left.
    """
    own = [(output / name).resolve() for name in PICTURES]
    kept = [path for path in images if not any(path.resolve().is_relative_to(place) for place in own)]
    if not kept:
        raise CellsError(f"{output}: all images lie in its folders of results; choose another output folder")
    return kept

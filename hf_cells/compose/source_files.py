"""Files of a source database, in a folder or a zip that is read in place."""

import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import CellsError

MAX_PIXELS = 100_000_000


class SourceFiles:
    """Names and bytes of the files below a folder or in a zip.

    Args:
        path: Folder or zip.

    Raises:
        CellsError: There is no such file, or it is no zip.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_file():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise CellsError(f"{path}: is truncated or not a zip ({error}); download it again") from error
        elif not self.path.is_dir():
            raise CellsError(f"{path}: no such folder or zip; give the place of the source images")

    @property
    def name(self) -> str:
        """What the source is called in a library."""
        return self.path.resolve().stem if self._zip else self.path.resolve().name

    def names(self) -> list[str]:
        """Relative paths with forward slashes, sorted; hidden files are left out."""
        if self._zip:
            found = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        else:
            found = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        hidden = ("__MACOSX", "Thumbs.db")
        return sorted(n for n in found if not any(p.startswith((".", *hidden)) for p in n.split("/")))

    def read(self, name: str) -> bytes:
        """Bytes of a file."""
        try:
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, KeyError) as error:
            raise CellsError(f"{self.where(name)}: cannot be read ({error}); get the file again") from error

    def where(self, name: str) -> str:
        """How an error message should call the file."""
        return f"{self.path}!{name}" if self._zip else str(self.path / name)

    def image(self, name: str, mode: str = "RGB") -> NDArray[np.uint8]:
        """Pixels uint8 of an image: (H, W, 3) for "RGB", (H, W) for "L"."""
        try:
            with Image.open(io.BytesIO(self.read(name))) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise CellsError(
                        f"{self.where(name)}: {image.width}x{image.height} is over {MAX_PIXELS:,} pixels; "
                        "cut it into tiles"
                    )
                return np.asarray(image.convert(mode))
        except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
            raise CellsError(
                f"{self.where(name)}: cannot be decoded ({type(error).__name__}); replace or remove the file"
            ) from error


def suffix(name: str) -> str:
    """Lower-case suffix of a path."""
    return PurePosixPath(name).suffix.lower()


IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")

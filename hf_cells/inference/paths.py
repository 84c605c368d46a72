"""From what a user names (files, folders, patterns) to images, and from images to names of outputs."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import CellsError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"})
PathLike = str | os.PathLike[str]


def iter_image_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Expand files, folders and patterns such as `plate*/**/*.tif` to images.

    Folders are searched with all their subfolders for the suffixes of images, in natural order (2 before 10);
    hidden files are left out. A file that is named itself is taken whatever its suffix. No image comes twice.

    Raises:
        CellsError: When something does not exist or holds no image.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise CellsError("no images given; name files, folders or patterns such as 'images/*.png'")
    found: dict[str, Path] = {}
    for one in given:
        for path in _expand(Path(one).expanduser()):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(path: Path) -> Iterator[Path]:
    if path.is_dir():
        images = _images_below(path)
        if not images:
            raise CellsError(f"{path}: holds no image; known suffixes are {' '.join(sorted(IMAGE_SUFFIXES))}")
        yield from images
    elif path.exists():
        yield path
    elif glob.has_magic(str(path)):
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
        images = [
            image for match in matches for image in (_images_below(match) if match.is_dir() else [match])
        ]
        images = [image for image in images if image.suffix.lower() in IMAGE_SUFFIXES]
        if not images:
            raise CellsError(
                f"{path}: no image matches this pattern; check the path and the quotes around it"
            )
        yield from images
    else:
        raise CellsError(f"{path}: no such file or folder; check the path")


def _images_below(folder: Path) -> list[Path]:
    images = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            images.append(path)
    return sorted(images, key=_natural)


def _natural(path: Path) -> list[list[str | int]]:
    """Sort key: numbers in names count as numbers."""
    return [
        [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", part.casefold())]
        for part in path.parts
    ]


def output_names(paths: Sequence[Path]) -> list[str]:
    """Name the outputs of images: the stem where it is the only one, else the path from the common folder.

    Two images of one folder that differ in their suffix alone keep it.
    """
    stems = [path.stem for path in paths]
    if not _doubles(stems):
        return stems
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath([path.parent for path in absolute])
    relative = [path.relative_to(root) for path in absolute]
    names = _resolve(stems, [path.with_suffix("").as_posix() for path in relative])
    names = _resolve(names, [path.as_posix() for path in relative])
    # A name that was free may now be taken ("a.tif" of a.tif and of a.tif.png): then all keep everything.
    return [path.as_posix() for path in relative] if _doubles(names) else names


def _resolve(names: list[str], longer: list[str]) -> list[str]:
    doubles = _doubles(names)
    return [long if name.casefold() in doubles else name for name, long in zip(names, longer)]


def _doubles(names: list[str]) -> set[str]:
    """Return the names that come twice, also where a disk ignores the case of letters."""
    return {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}

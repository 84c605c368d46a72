"""Atomic writing: a reader sees the old file or the new one, never half of one."""

import csv
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import CellsError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends well.

    Raises:
        CellsError: When the folder cannot be written or the disk is full. The old file is untouched.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` when the block ends well."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise _cannot_write(target, error) from error
    retired = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            os.replace(target, retired)
        os.replace(temporary, target)
    except OSError as error:
        if retired.exists() and not target.exists():
            os.replace(retired, target)
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def write_table(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a CSV in UTF-8."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


def place_of(path: str | os.PathLike[str]) -> str:
    """Name a file or folder in a record that may be published: its own name, and a hash in place of where it lies."""
    full = os.path.abspath(path)
    digest = hashlib.sha256(full.encode(errors="surrogateescape")).hexdigest()
    return f"{os.path.basename(full)} ({digest[:8]})"


def refuse_other(
    folder: Path, what: str, held: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None
) -> None:
    """Let an output folder be replaced by the call that wrote it only.

    Args:
        folder: Where outputs lie already.
        what: They are, such as "library".
        held: Settings that they were written with; None where they are not known.
        wanted: Settings of now; None when they are not known.

    Raises:
        CellsError: The settings differ.
    """
    remedy = "choose another folder, or delete this one"
    if held is None or wanted is None:
        raise CellsError(f"{folder}: holds a {what} already, made with settings that are not known; {remedy}")
    for key in {**wanted, **held}:
        there, now = held.get(key), wanted.get(key)
        if there != now:
            raise CellsError(f"{folder}: holds another {what} ({key} {there} there, {now} now); {remedy}")


def file_in_the_way(folder: Path) -> Path | None:
    """Return what is a file where a folder is wanted: the path itself, or one above it."""
    return next((path for path in (folder, *folder.parents) if path.is_file()), None)


def _cannot_write(target: Path, error: OSError) -> CellsError:
    if place := file_in_the_way(target.parent):
        return CellsError(f"cannot write {target}: {place} is a file; give a folder")
    return CellsError(
        f"cannot write {target}: {error.strerror or error}; free space or choose another output folder"
    )

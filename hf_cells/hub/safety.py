"""What must never leave this machine in a repository: secrets, paths, people, and names of raw data.

Every text file is read line by line, every safetensors header and every text inside a PNG too. What is found is never
repeated in full: a message that quotes a token would carry it into logs.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from safetensors import SafetensorError, safe_open

from ..errors import CellsError

_TEXT = {".md", ".json", ".yaml", ".yml", ".csv", ".txt", ".py", ".toml", ""}
_CODE = {".py"}
_SHOWN = 3  # characters of a finding


class Rule(NamedTuple):
    """Something that must not leave.

    Attributes:
        what: Its name.
        pattern: How it looks.
        remedy: What to do about it.
        in_code: Whether it is looked for in code too.
    """

    what: str
    pattern: re.Pattern[str]
    remedy: str
    in_code: bool = True


class Finding(NamedTuple):
    """Something that must not leave, and where it stands.

    Attributes:
        file: Path in the repository.
        line: From 1 on; 0 where a file has no lines.
        what: Name of the rule.
        start: The first characters of it.
        remedy: What to do about it.
    """

    file: str
    line: int
    what: str
    start: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: holds {self.what} ({self.start}…); {self.remedy}"


_REVOKE = "remove it, and revoke it if it has ever been shown to anybody"
_ROOTS = (
    "home|Users|root|mnt|media|work|scratch|tmp|var|opt|srv|net|nfs|gpfs|lustre"
    "|Volumes|private|export|data|projects?"
)
RULES = (
    Rule("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}"), _REVOKE),
    Rule("an AWS key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), _REVOKE),
    Rule("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})"), _REVOKE),
    Rule("an API key", re.compile(r"\b(?:sk-[\w-]{20,}|AIza[\w-]{35}|xox[abprs]-[\w-]{10,})"), _REVOKE),
    Rule("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), _REVOKE),
    Rule("a password in an address", re.compile(r"\w://[^/\s:@]+:[^/\s@]+@"), _REVOKE),
    Rule(
        "a secret",
        re.compile(r"(?i)(?:api_?key|secret|passw(?:or)?d|access_?token)[\"']?\s*[:=]\s*[\"']?[\w/+-]{12,}"),
        _REVOKE,
        in_code=False,
    ),
    Rule(
        "an absolute path",
        re.compile(rf"(?<![\w.:/<>)\]*~-])(?:/(?:{_ROOTS})/[\w.-]+|~\w+/)|\b[A-Za-z]:\\\w|\\\\\w+\\\w"),
        "remove the folder, or write the file again without it",
    ),
    Rule(
        "an absolute path",
        re.compile(r"(?<![\w.:/<>)\]*~-])/(?:[\w.+-]+/)+[\w.+-]+"),
        "remove the folder, or write the file again without it",
        in_code=False,
    ),
    Rule(
        "an e-mail address",
        re.compile(r"(?<![\w.+-])(?!git@)[\w.+-]+@(?!example\.)[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
        "remove it, or name the project's page instead",
    ),
    Rule(
        "what looks like the number of a case or patient",
        re.compile(
            r"(?<![A-Za-z0-9])(?:[A-Z]{1,3}[-_ ]?(?:18|19|20)\d{2}[-_ ]\d{4,}|[A-Z]{1,2}\d{2}[-_]\d{4,7}(?!\d)"
            r"|(?i:patient|pat|mrn|pid)[-_ ]?(?i:id)?[-_ :#]*\d{3,})"
        ),
        "leave the name out, or replace it by a number of your own",
        in_code=False,
    ),
)
_IMAGE_FILE = re.compile(
    r"[\w.()-]*\w\.(?:tiff?|png|jpe?g|bmp|svs|ndpi|czi|nd2|lif|scn|mrxs|dcm|vsi|oir|oib|zvi|stk|ims)\b",
    re.IGNORECASE,
)


def refuse_secrets(folder: Path, files: Iterable[str]) -> None:
    """Refuse to publish files that hold what must not leave.

    Args:
        folder: Of the repository.
        files: Paths inside it that would be sent.

    Raises:
        CellsError: Names the first file and line, and how many more there are.
    """
    found = list(scan(folder, files))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise CellsError(f"{folder}: not sent: {found[0]}{more}")


def scan(folder: Path, files: Iterable[str]) -> Iterator[Finding]:
    """Yield what must not leave, file by file; see `refuse_secrets`."""
    files = list(files)
    own = {Path(name).name for name in files} | _placeholders()
    for name in files:
        if finding := _in_text(name, 0, name, own, code=True):
            yield finding
        for number, line in _lines(folder / name):
            finding = _in_text(name, number, line, own, code=Path(name).suffix in _CODE)
            if finding is not None and not (name.startswith("LICENSE") and "e-mail" in finding.what):
                yield finding


def identifying(text: str) -> str | None:
    """What a name of an image or group gives away: "an e-mail address", …; None for nothing."""
    finding = _in_text("", 0, text, {text}, code=False)
    return finding.what if finding else None


def _in_text(name: str, number: int, line: str, own: set[str], code: bool) -> Finding | None:
    for rule in RULES:
        if (rule.in_code or not code) and (match := rule.pattern.search(line)):
            return Finding(name, number, rule.what, match[0][:_SHOWN], rule.remedy)
    if not code:
        for match in _IMAGE_FILE.finditer(line):
            if match[0].lstrip("(") not in own:
                remedy = "names of images may name a person: write the file again without it"
                return Finding(name, number, "the name of an image file", match[0][:_SHOWN], remedy)
    return None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file; what a binary one carries as text, numbered 0."""
    reader = _BINARY.get(path.suffix.lower())
    if reader is not None:
        yield from ((0, text) for text in reader(path))
    elif path.suffix.lower() in _TEXT:
        yield from enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1)


def _safetensors_texts(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, framework="numpy") as tensors:
            yield from (f"{key}: {value}" for key, value in (tensors.metadata() or {}).items())
            yield from tensors.keys()
    except (SafetensorError, OSError):  # whoever sends it has found it broken already
        return


def _png_texts(path: Path) -> Iterator[str]:
    try:
        with Image.open(path) as picture:
            picture.load()  # text may follow the pixels
            texts: dict[Any, Any] = {**picture.info, **picture.getexif()}
    except (OSError, ValueError, SyntaxError):
        return
    for key, value in texts.items():
        if isinstance(value, str):
            yield f"{key}: {value}"


_BINARY: dict[str, Callable[[Path], Iterator[str]]] = {".safetensors": _safetensors_texts, ".png": _png_texts}


@cache
def _placeholders() -> set[str]:
    """Names of images that stand for anybody's on our own cards, such as photo.png."""
    texts = [path.read_text("utf-8") for path in Path(__file__).with_name("templates").glob("*")]
    return {match[0] for text in texts for match in _IMAGE_FILE.finditer(text)}


__all__ = ["RULES", "Finding", "identifying", "refuse_secrets", "scan"]

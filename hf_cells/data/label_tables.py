"""A user's own table of labels: which column means what, and which file a row means."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..dataset_scripts._reading import _encoding
from ..errors import CellsError
from .folders import IMAGE_SUFFIXES

# Names of columns as people write them, in lower case without spaces, dots, dashes and underscores.
IMAGE_COLUMNS = {"image", "imageid", "imagename", "imagefile", "imagefilename", "imagepath", "img", "imgname"}
IMAGE_COLUMNS |= {"imgpath", "file", "filename", "filepath", "name", "path", "id", "crop"}
LABEL_COLUMNS = {"label", "labels", "class", "classes", "classname", "category", "categories", "groundtruth"}
LABEL_COLUMNS |= {"target", "targets", "diagnosis", "imageclass", "imagelabel", "celltype", "cellclass"}
GROUP_COLUMNS = {"group", "patient", "case", "slide", "specimen", "donor", "subject", "source", "project"}
GROUP_COLUMNS |= {f"{name}id" for name in GROUP_COLUMNS}
SPLIT_COLUMNS = {"split", "set", "subset", "partition"}


@dataclass(frozen=True)
class LabelTable:
    """The rows of a table, each with its line in the file.

    Attributes:
        path: The file.
        columns: Names as they are written.
        rows: Cells in the order of the columns, stripped.
        lines: Line of each row, from 1, for messages.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def cells(self, column: str) -> list[str]:
        """Return the cells of a column."""
        index = self.columns.index(column)
        return [row[index] for row in self.rows]

    def where(self, row: int) -> str:
        """Name a row for a message."""
        return f"{self.path}, line {self.lines[row]}"

    def find_column(self, known: set[str], option: str, given: str | None) -> str | None:
        """Return the column that the option names or, if it names none, the one with a known name.

        An empty name says that there is no such column.

        Raises:
            CellsError: The named column is not there, or several have known names.
        """
        if given is not None:
            return self.named_column(option, given) if given else None
        found = [column for column in self.columns if plain(column) in known]
        if len(found) > 1:
            raise CellsError(
                f"{self.path}: any of the columns {', '.join(found)} may be the {option.split('_')[0]}; "
                f"say which, such as {option}={found[0]}"
            )
        return found[0] if found else None

    def named_column(self, option: str, given: str) -> str:
        """Return the column of a given name, in whatever case and spacing.

        Raises:
            CellsError: There is no such column.
        """
        for column in self.columns:
            if plain(column) == plain(given):
                return column
        raise CellsError(
            f"{self.path}: no column {given!r}; set {option} to one of {', '.join(self.columns)}"
        )


def read_table(path: Path, example: str = "filename,label and a row per image") -> LabelTable:
    """Read a CSV with commas, semicolons or tabs, in UTF-8 or UTF-16, with a byte order mark or without.

    Args:
        path: The file.
        example: Header and rows that a table of this kind has, for who gives an empty one.

    Raises:
        CellsError: It is no such file, it has no rows, two columns have one name, or a row has more cells
            than there are columns.
    """
    try:
        data = path.read_bytes()
        text = data.decode(_encoding(data)).removeprefix("\ufeff")
    except OSError as error:
        raise CellsError(f"{path}: cannot be read ({error.strerror}); check labels") from error
    except UnicodeDecodeError as error:
        raise CellsError(f"{path}: is neither UTF-8 nor UTF-16 text; save it as CSV UTF-8") from error
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    columns: list[str] = []
    rows, lines = [], []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = cells
                continue
            cells += [""] * (len(columns) - len(cells))
            if any(cells[len(columns) :]):
                raise CellsError(
                    f"{path}, line {reader.line_num}: has {len(cells)} cells but the header has "
                    f"{len(columns)}; put cells with a separator in them into quotes"
                )
            rows.append(cells[: len(columns)])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise CellsError(f"{path}, line {reader.line_num}: is no CSV ({error}); mend the quotes") from error
    if not rows:
        raise CellsError(f"{path}: has no rows; it needs a header such as {example}")
    names = [plain(column) for column in columns if column]
    if twice := sorted({column for column in columns if names.count(plain(column)) > 1}):
        raise CellsError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
    return LabelTable(path, columns, rows, lines)


def plain(name: str) -> str:
    """Write a column's name as the sets above do: `Ground Truth` and `ground_truth` are one name."""
    return re.sub(r"[\s_.-]", "", name.casefold())


def match_images(table: LabelTable, names: Iterable[str], given: str | None, root: Path) -> list[str]:
    """Find the image column and the file of every row.

    Of several columns with a known name, such as `id` and `filename`, it is the one that names most files.

    Args:
        table: The table.
        names: Image files, as paths from the folder with forward slashes.
        given: The option `image_column`.
        root: The folder, for messages.

    Returns:
        The file of each row, one of `names`.

    Raises:
        CellsError: No or no clear image column, a row without a file, or a row that may mean several.
    """
    candidates = [column for column in table.columns if plain(column) in IMAGE_COLUMNS]
    if given:
        candidates = [table.named_column("image_column", given)]
    if not candidates:
        raise CellsError(
            f"{table.path}: none of the columns {', '.join(table.columns)} is known to hold image names; "
            "say image_column=<name>"
        )
    finder = ImageFinder(names)
    found = {column: [finder.find(cell) for cell in table.cells(column)] for column in candidates}
    column = max(candidates, key=lambda column: sum(map(bool, found[column])))
    rivals = [other for other in candidates if all(found[other]) and found[other] != found[column]]
    if rivals and all(found[column]):
        raise CellsError(
            f"{table.path}: the columns {column} and {rivals[0]} name different images; "
            f"say which, such as image_column={column}"
        )
    missing = [row for row, files in enumerate(found[column]) if not files]
    if len(missing) == len(table.rows):
        raise CellsError(
            f"{table.path}: no cell of the column {column!r} is the name of an image in {root}; "
            "set image_column, or give the folder of these images"
        )
    if missing:
        raise CellsError(
            f"{table.where(missing[0])}: no image {table.cells(column)[missing[0]]!r} in {root} "
            f"({len(missing)} such rows); add the images or remove the rows"
        )
    for row, files in enumerate(found[column]):
        if len(files) > 1:
            raise CellsError(
                f"{table.where(row)}: {table.cells(column)[row]!r} may be {files[0]} or {files[1]}; "
                f"write its path from {root}"
            )
    return [files[0] for files in found[column]]


class ImageFinder:
    """Finds the file that a cell means: a name or path, with or without suffix, in any case of letters."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.paths: dict[str, set[str]] = defaultdict(set)  # from the folder
        self.tails: dict[str, set[str]] = defaultdict(set)  # ends of these paths
        self.numbers: dict[int, set[str]] = defaultdict(set)
        for name in self.names:
            stem = PurePosixPath(name).stem
            if stem.isdecimal():
                self.numbers[int(stem)].add(name)
            for spelling in {name.casefold(), _without_suffix(name).casefold()}:
                self.paths[spelling].add(name)
                for tail in _tails(spelling):
                    self.tails[tail].add(name)

    def find(self, cell: str) -> list[str]:
        """Return the files that a cell may mean, sorted; one is a match."""
        cell = re.sub(r"^(\./)+", "", cell.replace("\\", "/"))
        if cell in self.names:
            return [cell]
        if not cell:
            return []
        for spelling in (cell.casefold(), _without_suffix(cell).casefold()):
            if found := self.paths.get(spelling) or self.tails.get(spelling):
                return sorted(found)
            for tail in _tails(spelling):  # a path that begins at another place or on another machine
                if found := self.paths.get(tail):
                    return sorted(found)
        if cell.isdecimal():  # spreadsheets drop the zeros of 00012
            return sorted(self.numbers.get(int(cell), ()))
        return []


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES and stem else name


def _tails(path: str) -> Iterator[str]:
    """Yield a/b/c, b/c and c."""
    while True:
        yield path
        _, slash, path = path.partition("/")
        if not slash:
            return

"""The one exception that users meet: a single line that names the file and the remedy."""


class CellsError(Exception):
    """Something the user can mend. The message is one line: what is wrong, which file, what to do."""

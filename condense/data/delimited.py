"""Tables of text, as spreadsheets and programs write them: commas, semicolons or tabs, UTF-8 or UTF-16."""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from condense.data.decode import SUFFIXES
from condense.errors import UserError
from condense.text import from_cell, shortened

_DELIMITERS = ",;\t"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class TextTable:
    """Rows of text cells.

    Attributes:
        columns: their names as written, without outer spaces.
        rows: cells of each row that is not empty.
        lines: the number of the line that each row ends in, from 1.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """The cells of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def without_blank_rows(self) -> TextTable:
        """The same without rows whose cells are all empty, as spreadsheets leave them."""
        kept = [row for row, cells in enumerate(self.rows) if any(cell.strip() for cell in cells)]
        return TextTable(self.columns, tuple(self.rows[row] for row in kept), tuple(self.lines[row] for row in kept))


def read(path: Path) -> TextTable:
    """All rows of a table whose first line names the columns.

    The delimiter is the most frequent of comma, semicolon and tab in the first line; Excel's line `sep=;` is honoured,
    and the mark that `condense.text.to_cell` puts before formulas is removed. All text is brought to
    Unicode's form C, so that `café` is one word however it is composed.

    Raises:
        UserError: the file cannot be read as text, its first line names a picture and no columns, two columns have the
            same name, or a row does not have as many cells as there are columns.
    """
    lines = _text(path).splitlines(keepends=True)
    skipped = 0
    delimiter = None
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) in (4, 5):
        delimiter, skipped = lines[0].rstrip("\r\n")[4:] or ",", 1
    head = lines[skipped] if len(lines) > skipped else ""
    delimiter = delimiter or max(_DELIMITERS, key=head.count)
    reader = csv.reader(lines[skipped:], delimiter=delimiter)
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        read_rows = [(tuple(map(from_cell, row)), reader.line_num + skipped) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as a table ({error}); write it again.") from error
    image = next((name for name in columns if PurePosixPath(name).suffix.lower() in SUFFIXES), None)
    if image is not None:
        raise UserError(
            f"{path} begins with {image!r}, an image; its first line must name the columns, e.g. file,label."
        )
    repeated = next((name for name in columns if columns.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{path} has two columns {repeated!r}; rename or remove one.")
    for row, line in read_rows:
        if len(row) != len(columns):
            raise UserError(_wrong_width(path, row, line, columns, delimiter))
    return TextTable(columns, tuple(row for row, _ in read_rows), tuple(line for _, line in read_rows))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        encoding = "utf-16" if content.startswith(_UTF16) else "utf-8-sig"
        return unicodedata.normalize("NFC", io.TextIOWrapper(io.BytesIO(content), encoding, newline="").read())
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); it must be a UTF-8 table with the columns file,label."
        ) from error


def _wrong_width(path: Path, row: tuple[str, ...], line: int, columns: tuple[str, ...], delimiter: str) -> str:
    found, needed = len(row), len(columns)
    if found > needed:
        return (
            f"{path} line {line} has more cells than there are columns ({found}, not {needed}); write several labels "
            f"as a|b, and names with {delimiter!r} in quotes."
        )
    last = shortened(repr(row[-1]), 80)
    cells = f"{path} line {line} has {found} of {needed} cells"
    return f"{cells}; write {delimiter!r} after {last} even where a cell is empty."

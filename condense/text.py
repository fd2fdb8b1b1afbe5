"""Text from elsewhere (class names, file names, messages of libraries) made safe to show, to plot and to tabulate.

A name in a stranger's file may hold terminal escape sequences, marks that reverse the reading direction, a formula that
a spreadsheet runs, or `$`, which matplotlib takes for mathematics. Stored names stay as they are; only displayed text
goes through here.
"""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # control, format, surrogates, private, unassigned
_JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji need
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
MOST_SHOWN = 2000  # characters of one message


def visible(text: str, *, keep: str = "") -> str:
    r"""`text` with control and invisible characters written as escapes such as \x1b.

    Args:
        text: any text, lone surrogates of file names that are not UTF-8 included.
        keep: characters left as they are, e.g. line breaks.
    """
    return "".join(char if _is_plain(char) or char in keep else _escape(char) for char in text)


def shortened(text: str, length: int = MOST_SHOWN) -> str:
    """`text` with its middle left out where it is longer than `length` characters."""
    if len(text) <= length:
        return text
    half = (length - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


def literal(text: str) -> str:
    r"""`text` for matplotlib: visible, and `$` as `\$`, so that nothing is taken for mathematics."""
    return visible(text).replace("$", r"\$")


def to_cell(text: str) -> str:
    """`text` as the cell of a table: a ' goes before a leading = + - @, which a spreadsheet would run.

    Numbers stay as they are. `from_cell` takes the mark away again.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_cell(cell: str) -> str:
    """What `to_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_plain(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _HIDDEN


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

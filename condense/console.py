"""Output to people and programs: a broken terminal loses no result, and text from files cannot control a terminal.

Results go to stdout, everything else to stderr. A stdout that is closed, full, or in an encoding without ± must not
cost hours of work, and names in strangers' files must not control the terminal that shows them.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from condense.text import shortened, visible

_PLAIN = {"±": "+/-", "–": "-", "—": "-", "…": "...", "×": "x", "·": "*", "“": '"', "”": '"', "‘": "'", "’": "'"}
_ERRORS = "dmis-plain"


def prepare() -> None:
    """Make stdout and stderr safe to write to; once, before anything else.

    Closed streams are replaced by the null device, so that output never lands in a file opened later; letters that the
    encoding lacks are replaced by plain ones.
    """
    codecs.register_error(_ERRORS, _plain)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def deliver(text: str) -> None:
    """Write a result to stdout; if that fails, write it to stderr and raise the error from stdout.

    If stdout was closed from the start, the result goes to stderr without an error.
    """
    if sys.stdout is None:
        _write(sys.stderr, text)
        return
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        raise  # the reader has closed the pipe
    except OSError:
        with contextlib.suppress(OSError):
            _write(sys.stderr, text)
        raise


def gathered(show: Callable[[], None]) -> str:
    """What `show` prints, with control characters escaped."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        show()
    return visible(text.getvalue(), keep="\n")


def complain(sentence: str, prefix: str = "error: ") -> None:
    """Write one sentence to stderr, shortened if it is very long."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{prefix}{shortened(visible(sentence, keep=chr(10)))}", file=sys.stderr, flush=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the GPU ran out of memory, as Python, numpy or torch reports it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    told = str(error)
    marks = ("DefaultCPUAllocator", "not enough memory", "CUDA out of memory", "can't allocate memory", "alloc_cpu")
    return isinstance(error, RuntimeError) and any(mark in told for mark in marks)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:
        stream.write(text)
        stream.flush()


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: "±" as "+/-", other letters as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    known = "".join(_PLAIN.get(char, char) for char in missing)
    return known.encode("ascii", "backslashreplace").decode("ascii"), error.end

"""Refuse what does not fit in memory before allocating it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from condense.errors import UserError

_HARMLESS_BYTES = 2**28
_MOST_EXPANSION = 100


def available_bytes() -> int:
    """Memory in bytes a program may still take: MemAvailable on Linux, elsewhere all there is, if known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows has no sysconf
        return sys.maxsize


SMALLER = "use fewer or smaller images (--image-size), or a machine with more memory"


def check_fits(num_bytes: int, what: str, instead: str = SMALLER) -> None:
    """Raise `UserError` if `what` needs more than the available memory; `instead` says what to do."""
    available = available_bytes()
    if num_bytes > available:
        raise UserError(
            f"{what} needs {num_bytes / 2**30:.1f} GiB of memory, but {available / 2**30:.1f} GiB are available; "
            f"{instead}."
        )


def check_expansion(stored: int, declared: int, what: str) -> None:
    """Raise `UserError` if few stored bytes would unpack into very many: images do not compress so well."""
    if declared > _HARMLESS_BYTES and declared > _MOST_EXPANSION * stored:
        raise UserError(
            f"{what} would unpack {stored:,} bytes into {declared:,}, which images never do; store it with less "
            "compression if it is right."
        )

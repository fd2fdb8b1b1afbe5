"""Whether another program has a file open for writing, as the HDF5 library marks it."""

from __future__ import annotations

from pathlib import Path

from condense.errors import UserError


def is_being_written(path: Path) -> bool:
    """Whether somebody, this process included, holds the lock of a writer on the file; False if unknown."""
    try:
        import fcntl
    except ImportError:  # Windows: opening the file fails by itself
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


def refuse_being_written(path: Path) -> None:
    """Raise `UserError` where the file is open for writing: what is read now may be half of a change."""
    if is_being_written(path):
        raise UserError(
            "it is open for writing in another program; close it there (file.close() in a notebook), then try again. "
            "The file itself may well be intact."
        )

"""Writing files so that a reader sees the old one or the whole new one, never a part.

A file is written under a temporary name in the same folder, flushed to the disk and renamed; a failure
becomes one sentence and removes the temporary name.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from condense.errors import DmisError, RunFailed, UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_PLACE = {errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG}


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block ends well, it is moved to `target` in one step.

    The temporary name keeps the suffix, so writers that choose a format by it work. The block may make a
    file or a folder there; a folder can only replace an empty one. A symbolic link stays: what it points
    to is replaced.

    Raises:
        RunFailed: the disk is full or failed; `target` is untouched and nothing half-written is left.
        UserError: the place cannot be written to.
    """
    target = Path(os.path.realpath(target))
    temporary = target.with_name(f".partial-{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        if temporary.is_file():
            _flush(temporary)
        os.replace(temporary, target)
        _flush(target.parent)
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        _remove(temporary)


def atomic_write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8 to `target` in one step; raises as `atomic_path`."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def prepare_output(path: Path, *, force: bool) -> None:
    """Check, before any long work, that `path` may be written; missing folders above it are made.

    An empty folder counts as free. With `force` what exists stays until the new result replaces it.

    Raises:
        UserError: `path` exists and `force` is off, or its folder cannot be made or written to.
    """
    occupied = any(path.iterdir()) if path.is_dir() else path.exists()
    if occupied and not force:
        raise UserError(f"{path} exists already; choose another name or give --force to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise write_error(error, path) from error


def write_error(error: OSError, target: Path) -> DmisError:
    """The sentence for a failed write to `target`: `UserError` if another place helps, else `RunFailed`."""
    if error.errno in _FULL:
        return RunFailed(f"no space left to write {target}; free some, then run again (nothing half-written is left).")
    if error.errno in _FORBIDDEN:
        return UserError(f"{target} may not be written ({error.strerror}); choose a folder you can write to.")
    if error.errno in _NO_PLACE:
        return UserError(f"{target} cannot be written ({error.strerror}); choose another place.")
    return RunFailed(f"writing {target} failed: {error.strerror or error}.")


def _flush(path: Path) -> None:
    """Have the system put a file's bytes, or a folder's names (not on Windows), on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with suppress(OSError):  # most often it is not there; else the first error is the one to tell
            temporary.unlink()

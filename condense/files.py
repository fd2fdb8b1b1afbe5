"""Writing files so that a reader sees the old file or the whole new one, never a part.

A file is written under a temporary name in the same folder, flushed to the disk and renamed; a failure
becomes one sentence and removes the temporary file. A killed process leaves its temporary file behind; the name
contains machine and process, so the next process that writes there can remove files of dead processes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from condense.errors import DmisError, RunFailed, UserError
from condense.text import shortened

AnyPath: TypeAlias = str | os.PathLike[str]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_PLACE = {errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG}
_PARTIAL = ".partial-"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block succeeds, it is moved to `target` in one step.

    The temporary name keeps the suffix, so writers that choose a format by it work. The block may make a
    file or a folder there; a folder can only replace an empty one. A symbolic link stays: what it points
    to is replaced.

    Raises:
        RunFailed: the disk is full or failed; `target` is untouched and nothing half-written is left.
        UserError: the place cannot be written to.
    """
    target = Path(os.path.realpath(target))
    # not the whole name after the mark: a name of the greatest length must be writable too
    temporary = target.with_name(f"{_PARTIAL}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix[-20:]}")
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
    """Check, before any long work, that the file `path` may be written; missing folders above it are made.

    With `force` an existing file stays until the new result replaces it. Files left by killed processes are removed.

    Raises:
        UserError: `path` is a folder, exists and `force` is off, has too long a name, or may not be written.
    """
    check_name(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file to write.")
    _check_free(path, path.exists(), force=force)
    _make_writable(path.parent, path)


def prepare_folder(path: Path, *, force: bool) -> None:
    """As `prepare_output`, for a folder to write results into; an empty one counts as free.

    Raises:
        UserError: as `prepare_output`, or `path` is a file.
    """
    check_name(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give the name of a folder.")
    _check_free(path, path.is_dir() and any(path.iterdir()), force=force)
    _make_writable(path.parent, path)
    if path.is_dir():
        _make_writable(path, path)


def sweep(folder: Path, *, alone: bool = False) -> None:
    """Remove the temporary files that killed processes left in `folder`.

    Args:
        folder: where; nothing happens if there is none.
        alone: whether no other process writes there, e.g. under a lock: then all temporary files are removed, also
            those of other machines and earlier versions.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.name.startswith(_PARTIAL) and (alone or _is_orphan(path.name)):
                _remove(path)


def write_error(error: OSError, target: Path) -> DmisError:
    """The sentence for a failed write to `target`: `UserError` if another place helps, else `RunFailed`."""
    if error.errno in _FULL:
        return RunFailed(f"no space left to write {target}; free some, then run again (nothing half-written is left).")
    if error.errno in _FORBIDDEN:
        return UserError(f"{target} may not be written ({error.strerror}); choose a folder you can write to.")
    if error.errno in _NO_PLACE:
        return UserError(f"{target} cannot be written ({error.strerror}); choose another place.")
    return RunFailed(f"writing {target} failed: {error.strerror or error}.")


def check_name(path: Path) -> None:
    """Raise `UserError` for the root folder, or a name the system does not accept, e.g. one of more than 255 bytes."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # `_make_writable` reports it
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{shortened(str(path), 80)} cannot be written ({told}); choose another name.") from error
    if not os.path.basename(os.path.realpath(path)):
        raise UserError(f"{path} is the root folder, which nothing can replace; give a name below it.")


def _check_free(path: Path, occupied: bool, *, force: bool) -> None:
    if occupied and not force:
        raise UserError(f"{path} exists already; choose another name or give --force to replace it.")


def _make_writable(folder: Path, target: Path) -> None:
    """Make `folder` if it is missing and check that files can be created in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(error, target) from error


def _machine() -> str:
    """A few characters that distinguish this machine from others sharing its disk."""
    return hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:6]


def _is_orphan(name: str) -> bool:
    """Whether a temporary file of this name belongs to a process of this machine that is gone."""
    found = re.match(rf"{re.escape(_PARTIAL)}([0-9a-f]{{6}})-(\d{{1,9}})-", name)
    if found is None or found[1] != _machine() or os.name == "nt":  # where os.kill would end the process
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _flush(path: Path) -> None:
    """Have the system flush a file's bytes, or a folder's names (not on Windows), to the disk."""
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
        with suppress(OSError):  # usually it does not exist; otherwise the first error is the one to report
            temporary.unlink()

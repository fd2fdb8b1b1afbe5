"""The one way into an HDF5 file, which may come from anyone: examined first, then read with sizes and links checked.

The HDF5 library follows links to other files, allocates what a header claims and, on structures made or damaged to
mislead it, hangs or crashes. So another process reads every file beforehand (`hdf5_examiner`) under limits of time and
memory; here links and storage outside the file are refused, and sizes are held against what the file stores.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from condense.data.file_lock import refuse_being_written
from condense.data.memory import check_expansion, check_fits
from condense.errors import UserError, in_short

NOT_UTF8 = "/{} holds text that is not UTF-8; write it again in UTF-8."
SECONDS = 10.0  # of processor time; a small file is examined in hundredths of one
_BUSY = 12  # times as long by the clock, where the machine is busy or cannot limit processor time
_SECONDS_PER_BYTE = 1 / 20e6
_SECONDS_TO_START = 120.0
_MAX_DEFLATE = 1100  # deflate cannot shrink more than about 1032 times; a file that claims more is forged or damaged
_FILLED_BYTES = 2**20  # an array that was never written to takes no place in the file
# what h5py and our own reading raise when a file is damaged, depending on where it is
DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)


@contextmanager
def opened(path: Path, kind: str) -> Iterator[h5py.File]:
    """The open file, examined beforehand; any trouble in the block becomes a `UserError` that begins with the path.

    Args:
        path: of the file.
        kind: what it should be, e.g. "data file", for messages.

    Raises:
        UserError: no such file, or one that may not be read; it is open for writing in another program; not HDF5, cut
            short or damaged.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; give a {kind}, an .h5 file.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read by this user; change its permissions, or copy it.")
    try:
        refuse_being_written(path)
        texts_of(path)
        # through a stream of our own: it takes no lock, and works however else the file is open in this process
        with path.open("rb") as stream, h5py.File(stream, "r") as file:
            yield file
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise UserError(
            f"{path} is not a readable {kind}: it is cut short, damaged or of another kind ({in_short(error)}). "
            "Fetch or make it again."
        ) from error


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The data set `name`, after checking that it lies in this file and that its size is plausible.

    Raises `UserError` otherwise. Values of variable length are refused: texts of that kind come from `texts_of`.
    """
    parts = name.split("/")
    for place in ("/".join(parts[: end + 1]) for end in range(len(parts))):
        link = file.get(place, getlink=True)
        if link is None:
            raise UserError(f"/{place} is missing; fetch or make the file again.")
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"/{place} is a link; this reads files that hold all their data themselves.")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise UserError(f"/{name} is not a data set stored in this file; this reads files that hold all their data.")
    if found.dtype.hasobject:
        raise UserError(f"/{name} holds values of variable length; this version reads plain arrays.")
    _check_size(found, name)
    return found


def holds(file: h5py.File, name: str) -> bool:
    """Whether there is something called `name`; no link is followed."""
    group = name.rpartition("/")[0]
    if group and not isinstance(file.get(group, getlink=True), h5py.HardLink):
        return False
    return file.get(name, getlink=True) is not None


def texts_of(path: Path) -> dict[str, list[str]]:
    """The texts of variable length at the top of the file, by name, as another process read them.

    Raises:
        UserError: that process could not read the file.
    """
    state = path.stat()
    answer = _examined(os.path.abspath(path), state.st_size, state.st_mtime_ns, state.st_ino)
    if "refused" in answer:
        raise UserError(answer["refused"])
    if "error" in answer:
        if "already open" in answer["error"]:
            raise UserError("it is open for writing in another program; close it there, or clear it with h5clear -s.")
        if answer["error"].startswith("not UTF-8: "):
            raise UserError(NOT_UTF8.format(answer["error"].removeprefix("not UTF-8: ")))
        told = " ".join(answer["error"].split())
        raise UserError(
            f"it is not a readable HDF5 file: cut short, damaged or of another kind ({told}). Fetch or make it again."
        )
    texts: dict[str, list[str]] = answer["texts"]
    return texts


def fixed_text(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Texts [m] as UTF-8 of one fixed length, which damage cannot turn into anything but other texts."""
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(1, length)))


def _check_size(found: h5py.Dataset, name: str) -> None:
    shape = found.shape or ()
    declared = max(math.prod(shape), math.prod(found.chunks or ())) * found.dtype.itemsize
    stored = found.id.get_storage_size()
    if declared > max(stored * (_MAX_DEFLATE if found.chunks else 1), _FILLED_BYTES):
        raise UserError(f"/{name} claims {list(shape)} values, {declared:,} bytes, but {stored:,} bytes are stored.")
    check_fits(declared, f"array {name!r}")
    check_expansion(stored, declared, f"/{name}")


@lru_cache(maxsize=64)
def _examined(path: str, size: int, changed_ns: int, inode: int) -> dict[str, Any]:
    """The other process's answer, requested once for each state of a file."""
    try:
        return _examiner().ask(path, SECONDS + size * _SECONDS_PER_BYTE)
    except UserError as error:
        return {"refused": str(error)}


class _Examiner:
    """The other process; one that hangs or crashes is replaced at the next question."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._turn = threading.Lock()

    def ask(self, path: str, seconds: float) -> dict[str, Any]:
        """Its answer about a file. Raises `UserError` if there is none."""
        with self._turn:
            process = self._running()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps([path, seconds]).encode() + b"\n")
                process.stdin.flush()
                line = self._lines.get(timeout=_BUSY * seconds)
            except (queue.Empty, OSError):
                line = b""
            if not line:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                ended = process.returncode
                self.end()
                slow = ended is None or ended == -getattr(signal, "SIGXCPU", 0)
                what = f"reading it takes more than {seconds:.0f} s" if slow else "the HDF5 library crashes on it"
                raise UserError(f"{what}, so it is damaged or made to mislead; make it again.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End the process, if this one started it."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.end()
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("hdf5_examiner.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=quiet,
                start_new_session=True,  # Ctrl-C is for this process
            )
        except OSError as error:
            raise UserError(f"the process that examines HDF5 files does not start ({error.strerror}).") from error
        self._owner, self._lines = os.getpid(), queue.SimpleQueue()
        assert self._process.stdout is not None
        threading.Thread(target=_pass_on, args=(self._process.stdout, self._lines), daemon=True).start()
        try:
            started = self._lines.get(timeout=_SECONDS_TO_START)
        except queue.Empty:
            started = b""
        if not started:
            self.end()
            raise UserError("the process that examines HDF5 files does not start; try `dmis doctor`.")
        return self._process


def _pass_on(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Every line, then an empty one at the end."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            lines.put(line)
    lines.put(b"")


@lru_cache(maxsize=1)
def _examiner() -> _Examiner:
    made = _Examiner()
    atexit.register(made.end)
    return made

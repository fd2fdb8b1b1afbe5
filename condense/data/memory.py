"""Refuse what does not fit in memory before allocating it."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.errors import UserError

_HARMLESS_BYTES = 2**28
_MOST_EXPANSION = 100
_COPIED = 4096  # images copied at once


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


def allocate(shape: tuple[int, ...], what: str) -> npt.NDArray[np.uint8]:
    """Zeros uint8 `shape`: in memory if they take half of what is available at most, else in a temporary file.

    The file is deleted with the array, or with the process. TMPDIR says in which folder it lies; a folder in memory, as
    /tmp often is, has no more room than there is memory available.

    Raises:
        UserError: neither memory nor the folder has room; `what` names the work, e.g. "Reading 1,000 images".
    """
    num_bytes = math.prod(shape)
    if num_bytes <= available_bytes() // 2:
        return np.zeros(shape, dtype=np.uint8)
    where = tempfile.gettempdir()
    refusal = UserError(
        f"{what} needs {num_bytes / 2**30:.1f} GiB, more than half of the memory available and more than is free in "
        f"{where}; {SMALLER}, or set TMPDIR to a larger disk."
    )
    free = shutil.disk_usage(where).free
    if num_bytes > (min(free, available_bytes()) if _lies_in_memory(Path(where)) else free):
        raise refusal
    with tempfile.TemporaryFile(prefix="dmis-") as file:
        if hasattr(os, "posix_fallocate"):  # a disk that others fill meanwhile must not kill the process
            try:
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            except OSError as error:
                raise refusal from error
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _lies_in_memory(folder: Path) -> bool:
    """Whether a folder belongs to a file system in memory; False where that is unknown."""
    try:
        mounts = dict(line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    except OSError:
        return False
    place = folder.resolve()
    return next((mounts[str(p)] for p in (place, *place.parents) if str(p) in mounts), "") in ("tmpfs", "ramfs")


def rows(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.integer], what: str) -> npt.NDArray[np.uint8]:
    """`images[indices]`, in a temporary file as well if the images are and memory is short."""
    if not isinstance(images, np.memmap):
        taken: npt.NDArray[np.uint8] = images[indices]
        return taken
    chosen = allocate((len(indices), *images.shape[1:]), what)
    for start in range(0, len(indices), _COPIED):
        chosen[start : start + _COPIED] = images[indices[start : start + _COPIED]]
    return chosen


def check_expansion(stored: int, declared: int, what: str) -> None:
    """Raise `UserError` if few stored bytes would unpack into very many: images do not compress so well."""
    if declared > _HARMLESS_BYTES and declared > _MOST_EXPANSION * stored:
        raise UserError(
            f"{what} would unpack {stored:,} bytes into {declared:,}, which images never do; store it with less "
            "compression if it is right."
        )

"""A separate process that reads HDF5 files first, so that a malicious file hangs, crashes or exhausts memory there.

Started by `hdf5_file` as a plain script. It answers every [path, seconds], a JSON line on stdin, with one on stdout:
{"texts": {name: [text, …]}} with the texts of variable length at the top of the file, or {"error": sentence}. It reads
what a reader would read: attributes, structures, chunks. A file that passes here passes there.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import h5py

MEMORY_BYTES = 2**31
_MOST_OBJECTS, _DEEPEST = 10_000, 8
_MOST_TEXTS, _LONGEST_TEXT = 1_000_000, 10_000
_READ_WHOLE_BYTES = 2**28  # of a larger array the structure and the first rows are read
_PIECE_BYTES = 2**24
_MOST_EXPANSION = 1100  # of deflate


def examine(path: str) -> dict[str, Any]:
    """All texts of variable length at the top of the file, by name; raises whatever h5py does."""
    texts: dict[str, Any] = {}
    with h5py.File(path, "r", locking=False) as file:
        _look(file, "", 0, texts)
    return texts


def _look(group: h5py.Group, prefix: str, seen: int, texts: dict[str, Any]) -> int:
    """Read a group and what lies below it; returns how many objects were seen so far."""
    _read_attributes(group)
    for name in group:
        seen += 1
        if seen > _MOST_OBJECTS or prefix.count("/") > _DEEPEST:
            raise ValueError("it holds more than a data set needs")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue  # never followed
        item = group[name]
        if isinstance(item, h5py.Group):
            seen = _look(item, f"{prefix}{name}/", seen, texts)
        elif isinstance(item, h5py.Dataset):
            _read_attributes(item)
            found = _read(item)
            if found is not None and not prefix:
                texts[name] = found
    return seen


def _read_attributes(item: h5py.Group | h5py.Dataset) -> None:
    for name in item.attrs:
        item.attrs[name]


def _read(dataset: h5py.Dataset) -> list[str] | None:
    """The texts of an array of variable length [m]; None for any other, which is read piece by piece."""
    if dataset.is_virtual or dataset.external:
        return None
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.hasobject:
        if dataset.ndim > 1 or dataset.size > _MOST_TEXTS:
            raise ValueError("it holds too many texts")
        found = dataset[()]
        texts = [bytes(text) for text in (found.tolist() if dataset.ndim else [found])]
        if any(len(text) > _LONGEST_TEXT for text in texts):
            raise ValueError("it holds too long a text")
        try:
            return [text.decode() for text in texts]
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {dataset.name.lstrip('/')}") from error
    if dataset.dtype.hasobject or dataset.shape is None or not dataset.size:
        return None
    if dataset.size * dataset.dtype.itemsize > max(_MOST_EXPANSION * dataset.id.get_storage_size(), _PIECE_BYTES):
        return None  # implausible: the caller refuses it unread
    if dataset.chunks is not None:
        dataset.id.chunk_iter(lambda chunk: None)
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    if dataset.ndim == 0 or row > _READ_WHOLE_BYTES:
        return None
    rows = max(1, _PIECE_BYTES // max(1, row))
    last = dataset.shape[0] if row * dataset.shape[0] <= _READ_WHOLE_BYTES else rows
    for start in range(0, last, rows):
        dataset[start : start + rows]
    return None


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Have the system end this process after some more seconds of processor time, however busy the machine is."""
    try:
        import resource
    except ImportError:
        return
    most = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _serve() -> None:
    _limit_memory()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        path, seconds = json.loads(line)
        _limit_time(seconds)
        try:
            answer: dict[str, Any] = {"texts": examine(path)}
        except Exception as error:  # whatever a damaged file leads to
            answer = {"error": f"{error}"[:500] or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()

"""Arrays in a plain HDF5 data file (condensed sets have their own reader and writer)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from condense.data.hdf5_file import NOT_UTF8, dataset, fixed_text, opened, texts_of
from condense.data.types import Images, Labels
from condense.errors import UserError

_CHUNK_BYTES = 2**20


def names(path: Path) -> list[str]:
    """Names of the arrays at the top of the file, and of links, which `read` refuses.

    Raises:
        UserError: the file is not a readable HDF5 file, or holds a condensed set.
    """
    with _plain(path) as file:
        return [name for name in file if not _is_group(file, name)]


def read(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """The wanted arrays among those the file has.

    Raises:
        UserError: the file is damaged, an array lies in another file, or does not fit in memory.
    """
    present = [name for name in names(path) if name in wanted]
    texts = texts_of(path) if present else {}
    with _plain(path) as file:
        return {name: _array(file, name, texts) for name in present}


def _is_group(file: h5py.File, name: str) -> bool:
    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)


def _array(file: h5py.File, name: str, texts: dict[str, list[str]]) -> npt.NDArray[Any]:
    if name in texts:
        found = np.array(texts[name], dtype=np.str_)
        return found if file[name].ndim else found.reshape(())
    stored = dataset(file, name)
    if h5py.check_string_dtype(stored.dtype) is not None:
        try:
            return np.asarray(stored.asstr("utf-8")[()], dtype=np.str_)
        except UnicodeDecodeError as error:
            raise UserError(NOT_UTF8.format(name)) from error
    return np.asarray(stored[()])


@contextmanager
def _plain(path: Path) -> Iterator[h5py.File]:
    with opened(path, "data file") as file:
        schema = file.attrs.get("schema", b"")
        schema = schema.decode(errors="replace") if isinstance(schema, bytes) else str(schema)
        if schema.startswith("condensed-set"):
            raise UserError(
                f"this is a condensed set ({schema}), not a data set to condense; "
                "score it with 'dmis evaluate' or look at it with 'dmis inspect'."
            )
        yield file


def write(
    path: Path,
    pieces: Iterable[tuple[Images, Labels]],
    shape: tuple[int, int, int, int],
    classes: Sequence[str],
) -> None:
    """Write images and labels that come in pieces as a data set that `condense.data.sources.load` reads.

    Structures carry checksums and texts are of fixed length. The file is written in place: wrap the call in
    `condense.files.atomic_path`.

    Args:
        path: the new file.
        pieces: images uint8 [m, H, W, C] and labels int64 [m], together n.
        shape: (n, H, W, C).
        classes: c class names.
    """
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        rows = min(shape[0], max(1, _CHUNK_BYTES // int(np.prod(shape[1:]))))
        images = file.create_dataset(
            "train_images", shape, np.uint8, chunks=(rows, *shape[1:]), compression="gzip", shuffle=True
        )
        labels = file.create_dataset("train_labels", shape[:1], np.int64)
        file["class_names"] = fixed_text(classes)
        start = 0
        for some_images, some_labels in pieces:
            images[start : start + len(some_images)] = some_images
            labels[start : start + len(some_labels)] = some_labels
            start += len(some_labels)

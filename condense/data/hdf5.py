"""Arrays in a plain HDF5 data file (condensed sets have their own reader and writer)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from condense.data.memory import check_fits
from condense.data.types import Images, Labels
from condense.errors import UserError

_CHUNK_BYTES = 2**20


def names(path: Path) -> list[str]:
    """Names of the arrays at the top of the file.

    Raises:
        UserError: the file is no readable HDF5, or holds a condensed set.
    """
    with _opened(path) as file:
        return [name for name in file if isinstance(file.get(name), h5py.Dataset)]


def read(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """The wanted arrays among those the file has.

    Raises:
        UserError: the file is damaged, or an array does not fit in memory.
    """
    present = [name for name in names(path) if name in wanted]
    with _opened(path) as file:
        return {name: _array(file[name], f"array {name!r} of {path}") for name in present}


def _array(dataset: Any, what: str) -> npt.NDArray[Any]:
    check_fits(dataset.size * dataset.dtype.itemsize, what)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[()], dtype=np.str_)
    if dataset.dtype.hasobject:
        raise UserError(f"{what} holds {dataset.dtype} entries; save numbers, and names as strings.")
    return np.asarray(dataset[()])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            schema = file.attrs.get("schema", b"")
            schema = schema.decode(errors="replace") if isinstance(schema, bytes) else str(schema)
            if schema.startswith("condensed-set"):
                raise UserError(
                    f"{path} is a condensed set ({schema}), not a data set to condense; "
                    "score it with 'dmis evaluate' or look at it with 'dmis inspect'."
                )
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or no HDF5 file ({error}); write it again.") from error


def write(
    path: Path,
    pieces: Iterable[tuple[Images, Labels]],
    shape: tuple[int, int, int, int],
    classes: Sequence[str],
) -> None:
    """Write images and labels that come in pieces as a data set that `condense.data.sources.load` reads.

    The file is written in place: wrap the call in `condense.files.atomic_path`.

    Args:
        path: the new file.
        pieces: images uint8 [m, H, W, C] and labels int64 [m], together n.
        shape: (n, H, W, C).
        classes: c class names.
    """
    with h5py.File(path, "w") as file:
        rows = min(shape[0], max(1, _CHUNK_BYTES // int(np.prod(shape[1:]))))
        images = file.create_dataset(
            "train_images", shape, np.uint8, chunks=(rows, *shape[1:]), compression="gzip", shuffle=True
        )
        labels = file.create_dataset("train_labels", shape[:1], np.int64)
        file["class_names"] = np.array(classes, dtype=h5py.string_dtype())
        start = 0
        for some_images, some_labels in pieces:
            images[start : start + len(some_images)] = some_images
            labels[start : start + len(some_labels)] = some_labels
            start += len(some_labels)

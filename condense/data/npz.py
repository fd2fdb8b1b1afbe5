"""Arrays in .npz and .npy files. Files may come from anywhere: headers are checked first, pickles refused.

numpy's own `load` allocates whatever a header claims; here the claim is first held against what the file
stores and against the memory there is.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from condense.data.memory import check_expansion, check_fits
from condense.data.types import Images, Labels
from condense.errors import UserError, in_short

_SUFFIX = ".npy"
# a header is Python text, which numpy parses; the rest is what zip files of odd or damaged kinds lead to
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    SyntaxError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    struct.error,
)
_LONGEST_HEADER = 10_000


def names(path: Path) -> list[str]:
    """Names of the arrays in the file.

    Raises:
        UserError: the file is not a readable .npz file.
    """
    with _archive(path) as archive:
        return [name.removesuffix(_SUFFIX) for name in archive.namelist() if name.endswith(_SUFFIX)]


def read(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """The wanted arrays among those the file has.

    Raises:
        UserError: the file is damaged, or an array is pickled or larger than the file or the free memory.
    """
    present = [name for name in names(path) if name in wanted]
    with _archive(path) as archive:
        return {name: _array(archive, name, path) for name in present}


def read_single(path: Path) -> npt.NDArray[Any]:
    """The one array of an .npy file. Raises as `read`."""
    try:
        if not path.is_file():
            raise ValueError("it is not a regular file")
        with path.open("rb") as stream:
            shape, dtype = _header(stream)
            _check_header(shape, dtype, path.stat().st_size, str(path))
            stream.seek(0)
            return _read_array(stream)
    except _DAMAGE as error:
        raise UserError(
            f"{path} is damaged or not an .npy file ({in_short(error)}); write it again with numpy.save."
        ) from error


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
    labels: list[Labels] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"train_images{_SUFFIX}", "w", force_zip64=True) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(cast(BinaryIO, stream), header)
            for some_images, some_labels in pieces:
                stream.write(np.ascontiguousarray(some_images).tobytes())
                labels.append(some_labels)
        for name, array in (("train_labels", np.concatenate(labels)), ("class_names", np.array(classes))):
            with archive.open(name + _SUFFIX, "w") as stream:
                np.lib.format.write_array(cast(BinaryIO, stream), array, allow_pickle=False)


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        if not path.is_file():
            raise ValueError("it is not a regular file")
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise UserError(
            f"{path} is damaged or not an .npz file ({in_short(error)}); write it again with numpy.savez."
        ) from error


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> npt.NDArray[Any]:
    member = name + _SUFFIX
    try:
        with archive.open(member) as stream:
            shape, dtype = _header(cast(BinaryIO, stream))
        info = archive.getinfo(member)
        _check_header(shape, dtype, info.file_size, f"array {name!r} of {path}")
        check_expansion(min(info.compress_size, path.stat().st_size), info.file_size, f"array {name!r} of {path}")
        with archive.open(member) as stream:
            return _read_array(cast(BinaryIO, stream))
    except _DAMAGE as error:
        raise UserError(f"array {name!r} of {path} is damaged ({in_short(error)}); write the file again.") from error


def _read_array(stream: BinaryIO) -> npt.NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's about the text of a damaged header
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
    return array


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype that a .npy stream announces."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format version {version} is not used for plain arrays")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, _, dtype = readers[version](stream, max_header_size=_LONGEST_HEADER)
    if not all(length >= 0 for length in shape):
        raise ValueError(f"{list(shape)} is not the shape of an array")
    return shape, dtype


def _check_header(shape: tuple[int, ...], dtype: np.dtype[Any], stored_bytes: int, what: str) -> None:
    if dtype.hasobject:
        raise UserError(
            f"{what} holds pickled Python objects, which are never read, because they can run code; "
            "save numbers, and names as numpy.array(names, dtype=str)."
        )
    num_bytes = dtype.itemsize
    for length in shape:
        num_bytes *= length
    if num_bytes > stored_bytes:
        raise UserError(f"{what} announces {num_bytes} bytes {list(shape)}, but stores {stored_bytes}; write it again.")
    check_fits(num_bytes, what)

"""Condensed sets in HDF5, schema "condensed-set/1.1": written in one step, read whole, checked before use.

A file may come from a stranger: its declared sizes are checked before memory is taken, links and storage
outside the file are refused, nothing in it is executed, and whatever is wrong with it becomes one sentence.
Text is of fixed length and structures carry checksums (HDF5 1.10 format): with variable-length text, one bit
flipped on the disk makes the HDF5 library crash the process.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.data.memory import available_bytes
from condense.errors import UserError
from condense.files import atomic_path, prepare_output
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Cost, Provenance

__all__ = [
    "CondensedDataset",
    "CondensedSet",
    "Cost",
    "Preprocessing",
    "Provenance",
    "is_condensed_set",
    "read",
    "write",
]

SCHEMA = "condensed-set/1.1"
_FIRST = "condensed-set/1"  # whose checksum is of the arrays alone
_CHUNK_BYTES = 2**20  # upper bound, where a class is larger
_MAX_DEFLATE = 1100  # deflate cannot shrink more than about 1032 times; a file that claims more is not honest
_OPTIONAL = ("soft_labels", "source_index", "weights")
_ZCA = ("zca_mean", "zca_matrix", "zca_inverse")
# what h5py and our own reading raise when a file is damaged, depending on where it is
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)


def write(path: Path, condensed: CondensedSet, *, force: bool = False) -> None:
    """Write `condensed` to `path`; the same set gives the same bytes.

    Raises:
        UserError: `path` exists without `force`, or may not be written.
        RunFailed: the disk is full; what was at `path` is untouched.
    """
    prepare_output(path, force=force)
    with _in_memory() as file:  # HDF5 does not tell of a full disk reliably, a plain write does
        _write_images(file, condensed)
        for name, array in condensed.arrays():
            if name != "images":
                file.create_dataset(name, data=array)
        file.create_dataset("classes", data=_fixed(condensed.classes))
        _write_preprocessing(file, condensed.preprocessing)
        _write_attributes(file, condensed)
        file.flush()
        content = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read(path: Path) -> CondensedSet:
    """Read the whole of a condensed set into memory and check all of it, the SHA-256 of its arrays included.

    Raises:
        UserError: no such file; not HDF5; not a condensed set, or one of a newer major version; cut short; a
            part missing, of the wrong type, size or value; a size it cannot hold; contents changed since.
    """
    with _opened(path) as file:
        condensed = _read_set(file)
        recorded = _text(file, "sha256")
        first = _text(file, "schema") == _FIRST
        if recorded != (condensed.sha256_of_arrays() if first else condensed.sha256()):
            raise UserError("its contents changed since it was written (SHA-256 differs); fetch or make it again.")
    return condensed


def is_condensed_set(path: Path) -> bool:
    """Whether `path` is an HDF5 file that says it is a condensed set, of whatever version."""
    if not path.is_file():
        return False
    try:
        with _opened(path) as file:
            return _text(file, "schema").startswith("condensed-set/")
    except UserError:
        return False


class CondensedDataset(Dataset[tuple[Tensor, Tensor]]):
    """The file as a torch `Dataset` of (image float32 [C, H, W] normalised, label int64 or soft float32 [c]).

    The file is checked when the object is made. Each process opens it by itself at its first image, so the
    object can be handed to `DataLoader` workers, forked or spawned.

    Raises:
        UserError: as `read`.
    """

    def __init__(self, path: Path) -> None:
        condensed = read(path)
        self.path = Path(path).absolute()
        self.classes = condensed.classes
        self.preprocessing = condensed.preprocessing
        targets = condensed.labels if condensed.soft_labels is None else condensed.soft_labels
        self._targets = torch.from_numpy(targets.copy())
        self._range = condensed.value_range
        self._file: h5py.File | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        low, high = self._range
        image = (self._images()[index].astype(np.float64) - low) / (high - low)  # [H, W, C]
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        return self.preprocessing.normalise(pixels)[0], self._targets[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _images(self) -> h5py.Dataset:
        if self._file is None or self._process != os.getpid():  # a forked handle shares its file position
            self._file = h5py.File(self.path, "r", locking=False)
            self._process = os.getpid()
        return self._file["images"]


def _in_memory() -> h5py.File:
    """A new HDF5 file in memory, in the 1.10 format: checksums on its structures, no time stamps."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fapl_core(backing_store=False)
    return h5py.File(h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, _untimed("FILE_CREATE"), access))


def _untimed(kind: Literal["FILE_CREATE", "GROUP_CREATE"]) -> h5py.h5p.PropOCID:
    creation = h5py.h5p.create(getattr(h5py.h5p, kind))
    creation.set_obj_track_times(False)
    return creation


def _fixed(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Texts [m] as UTF-8 of one fixed length."""
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded))
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(1, length)))


def _write_text(item: h5py.File | h5py.Dataset, name: str, text: str) -> None:
    array = _fixed([text])
    item.attrs.create(name, array[0], dtype=array.dtype)


def _write_images(file: h5py.File, condensed: CondensedSet) -> None:
    images = condensed.images
    rows = min(condensed.ipc, max(1, _CHUNK_BYTES // images[0].nbytes))
    dataset = file.create_dataset(
        "images",
        data=images,
        chunks=(rows, *images.shape[1:]),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
    )
    _write_text(dataset, "layout", "NHWC")
    dataset.attrs["value_range"] = np.array(condensed.value_range, dtype=np.float64)


def _write_preprocessing(file: h5py.File, preprocessing: Preprocessing) -> None:
    group = h5py.Group(h5py.h5g.create(file.id, b"preprocessing", gcpl=_untimed("GROUP_CREATE")))
    group.create_dataset("mean", data=np.array(preprocessing.mean, dtype=np.float64))
    group.create_dataset("std", data=np.array(preprocessing.std, dtype=np.float64))
    for name in _ZCA:
        if (array := getattr(preprocessing, name)) is not None:
            group.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)


def _write_attributes(file: h5py.File, condensed: CondensedSet) -> None:
    """Root attributes: a field of the provenance each (None: left out); recipe, notes and cost as JSON."""
    told = asdict(condensed.provenance)
    for name in ("recipe", "notes", "cost"):
        told[name] = json.dumps(told[name])
    for name, value in {**told, "schema": SCHEMA, "sha256": condensed.sha256()}.items():
        if isinstance(value, str):
            _write_text(file, name, value)
        elif value is not None:
            file.attrs[name] = value


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The open file; any trouble in the block becomes a `UserError` that begins with the path."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}; give a condensed set, an .h5 file that `dmis condense` wrote.")
    try:
        # locking off: files on read-only or network disks can be read, and ours are never changed in place
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise UserError(
            f"{path} is no readable condensed set: it is cut short, damaged or of another kind ({error}). "
            "Fetch or make it again."
        ) from error


def _read_set(file: h5py.File) -> CondensedSet:
    _check_schema(file)
    images = _dataset(file, "images")
    if (layout := _text(images, "layout")) != "NHWC":
        raise UserError(f"/images has layout {layout!r}; this version reads NHWC.")
    low, high = (float(value) for value in images.attrs["value_range"])
    return CondensedSet(
        images=images[()],
        labels=_dataset(file, "labels")[()],
        classes=tuple(str(name) for name in _dataset(file, "classes").asstr()[()]),
        preprocessing=_read_preprocessing(file),
        provenance=_read_provenance(file),
        value_range=(low, high),
        **{name: _dataset(file, name)[()] for name in _OPTIONAL if name in file},
    )


def _check_schema(file: h5py.File) -> None:
    if "schema" not in file.attrs:
        raise UserError("this HDF5 file is not a condensed set (it has no schema attribute); give one `dmis` wrote.")
    schema = _text(file, "schema")
    version = re.fullmatch(r"condensed-set/(\d+)(\.\d+)?", schema)
    if version is None:
        raise UserError(f"this HDF5 file is not a condensed set: its schema is {schema!r}, needed is {_FIRST!r}.")
    if int(version[1]) != 1:
        raise UserError(f"it is of schema {schema!r}, but this version reads {_FIRST!r}; upgrade dmis.")


def _read_preprocessing(file: h5py.File) -> Preprocessing:
    def floats(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in _dataset(file, f"preprocessing/{name}")[()])

    present = [name for name in _ZCA if f"preprocessing/{name}" in file]
    zca = {name: _dataset(file, f"preprocessing/{name}")[()] for name in present}
    return Preprocessing(floats("mean"), floats("std"), **zca)


def _read_provenance(file: h5py.File) -> Provenance:
    attributes = file.attrs
    rate, revision = attributes.get("corruption_rate"), attributes.get("git_revision")
    return Provenance(
        method=_text(file, "method"),
        ipc=int(attributes["ipc"]),
        seed=int(attributes["seed"]),
        recipe=json.loads(_text(file, "recipe")),
        data_name=_text(file, "data_name"),
        data_fingerprint=_text(file, "data_fingerprint"),
        supervision=_text(file, "supervision"),
        corruption=_text(file, "corruption"),
        corruption_rate=None if rate is None else float(rate),
        cost=Cost(**json.loads(_text(file, "cost"))),
        git_revision=None if revision is None else _text(file, "git_revision"),
        created=_text(file, "created"),
        package_version=_text(file, "package_version"),
        notes=json.loads(_text(file, "notes")),
    )


def _text(item: h5py.File | h5py.Dataset, name: str) -> str:
    if name not in item.attrs:
        raise UserError(f"the attribute {name!r} is missing; fetch or make the file again.")
    found = item.attrs.get_id(name)
    if found.dtype.kind != "S" or found.shape != ():
        raise UserError(f"the attribute {name!r} must be text of fixed length, found {found.dtype}.")
    return str(item.attrs[name].decode())


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The data set `name`, after checking that it lies in this file and that its size is believable."""
    for place in (name.partition("/")[0], name):
        link = file.get(place, getlink=True)
        if link is None:
            raise UserError(f"/{place} is missing; fetch or make the file again.")
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"/{place} is a link; a condensed set holds all its data itself.")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UserError(f"/{name} is not a data set stored in this file; a condensed set holds all its data itself.")
    if dataset.dtype.hasobject:
        raise UserError(f"/{name} holds values of variable length; this version reads plain arrays.")
    declared = max(math.prod(dataset.shape), math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    available = available_bytes()
    if declared > min(stored * _MAX_DEFLATE, available):
        raise UserError(
            f"/{name} claims {list(dataset.shape)} values, {declared:,} bytes, "
            f"but {stored:,} bytes are stored and {available:,} bytes of memory are free."
        )
    return dataset

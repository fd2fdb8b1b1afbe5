"""Condensed sets in HDF5, schema "condensed-set/1.1": written atomically, read whole, checked before use.

A file may come from an untrusted source: only `condense.data.hdf5_file` opens it, nothing in it is executed, and
every defect is reported in one sentence. Text has fixed length and structures carry checksums (HDF5 1.10 format):
with variable-length text, one flipped bit on disk makes the HDF5 library hang or crash.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.data.hdf5_file import dataset, fixed_text, holds, opened
from condense.errors import UserError
from condense.files import AnyPath, atomic_path, prepare_output
from condense.notices import tell
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
_FIRST = "condensed-set/1"  # its checksum covers only the arrays
KIND = "condensed set"
SEAL = "provenance_sha256"
_CHUNK_BYTES = 2**20  # upper bound, for classes larger than this
_OPTIONAL = ("soft_labels", "source_index", "weights")
_ZCA = ("zca_mean", "zca_matrix", "zca_inverse")


def write(path: AnyPath, condensed: CondensedSet, *, force: bool = False) -> None:
    """Write `condensed` to `path`; equal sets give equal bytes.

    The provenance is sealed: a SHA-256 of it and of the arrays is stored beside it. A provenance read from a file
    without a seal is not sealed.

    Raises:
        UserError: `path` exists without `force`, or cannot be written.
        RunFailed: the disk is full; any previous contents of `path` are untouched.
    """
    path = Path(path)
    prepare_output(path, force=force)
    with _in_memory() as file:  # HDF5 does not report a full disk reliably, a plain write does
        _write_images(file, condensed)
        for name, array in condensed.arrays():
            if name != "images":
                file.create_dataset(name, data=array)
        file.create_dataset("classes", data=fixed_text(condensed.classes))
        _write_preprocessing(file, condensed.preprocessing)
        _write_attributes(file, condensed)
        file.flush()
        content = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read(path: AnyPath) -> CondensedSet:
    """Read a whole condensed set into memory and check all of it, including its SHA-256.

    Sets whose provenance is not sealed can be read; `provenance.sealed` is then False, and a notice says so.

    Raises:
        UserError: the file does not exist, is not HDF5, not a condensed set or one of a newer major version, is
            truncated, claims more than it holds, or was changed since it was written; or a part is missing or has the
            wrong type, size or value.
    """
    with opened(Path(path), KIND) as file:
        condensed = _read_set(file)
        recorded = _text(file, "sha256")
        first = _text(file, "schema") == _FIRST
        if recorded != (condensed.sha256_of_arrays() if first else condensed.sha256()):
            raise UserError("its contents changed since it was written (SHA-256 differs); fetch or make it again.")
        if condensed.provenance.sealed and condensed.seal() != _text(file, SEAL):
            raise UserError(
                "its provenance changed since it was written (SHA-256 of the provenance differs); fetch or make it "
                "again."
            )
    if not condensed.provenance.sealed:
        tell(
            f"the provenance in {path} (method, labels, whether true labels were used) is not protected by a checksum: "
            "an earlier version wrote the file, or it was edited."
        )
    return condensed


def is_condensed_set(path: AnyPath) -> bool:
    """Whether `path` is an HDF5 file with the schema attribute of a condensed set, of any version."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with opened(path, KIND) as file:
            return _text(file, "schema").startswith("condensed-set/")
    except UserError:
        return False


class CondensedDataset(Dataset[tuple[Tensor, Tensor]]):
    """The file as a torch `Dataset` of (image float32 [C, H, W] normalised, label int64 or soft float32 [c]).

    Packed images are cut apart, see `CondensedSet.unpacked`.
    The constructor reads the whole file, checks it and closes it, so later changes to the file have no effect.
    The object can be passed to `DataLoader` workers, forked or spawned.

    Raises:
        UserError: as `read`.
    """

    def __init__(self, path: AnyPath) -> None:
        condensed = read(path).unpacked()
        self.path = Path(path).absolute()
        self.classes = condensed.classes
        self.preprocessing = condensed.preprocessing
        self._images = condensed.images
        targets = condensed.labels if condensed.soft_labels is None else condensed.soft_labels
        self._targets = torch.from_numpy(targets.copy())
        self._range = condensed.value_range

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        low, high = self._range
        image = (self._images[index].astype(np.float64) - low) / (high - low)  # [H, W, C]
        pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        return self.preprocessing.normalise(pixels)[0], self._targets[index]


def _in_memory() -> h5py.File:
    """A new HDF5 file in memory, in the 1.10 format, with checksums on its structures and no time stamps."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fapl_core(backing_store=False)
    return h5py.File(h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, _untimed("FILE_CREATE"), access))


def _untimed(kind: Literal["FILE_CREATE", "GROUP_CREATE"]) -> h5py.h5p.PropOCID:
    creation = h5py.h5p.create(getattr(h5py.h5p, kind))
    creation.set_obj_track_times(False)
    return creation


def _write_text(item: h5py.File | h5py.Dataset, name: str, text: str) -> None:
    array = fixed_text([text])
    item.attrs.create(name, array[0], dtype=array.dtype)


def _write_images(file: h5py.File, condensed: CondensedSet) -> None:
    images = condensed.images
    rows = min(condensed.ipc, max(1, _CHUNK_BYTES // images[0].nbytes))
    stored = file.create_dataset(
        "images",
        data=images,
        chunks=(rows, *images.shape[1:]),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
    )
    _write_text(stored, "layout", "NHWC")
    stored.attrs["value_range"] = np.array(condensed.value_range, dtype=np.float64)


def _write_preprocessing(file: h5py.File, preprocessing: Preprocessing) -> None:
    group = h5py.Group(h5py.h5g.create(file.id, b"preprocessing", gcpl=_untimed("GROUP_CREATE")))
    group.create_dataset("mean", data=np.array(preprocessing.mean, dtype=np.float64))
    group.create_dataset("std", data=np.array(preprocessing.std, dtype=np.float64))
    for name in _ZCA:
        if (array := getattr(preprocessing, name)) is not None:
            group.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)


def _write_attributes(file: h5py.File, condensed: CondensedSet) -> None:
    """Write one root attribute per field of the provenance (None: left out); recipe, notes and cost as JSON."""
    told = asdict(condensed.provenance)
    if told.pop("sealed"):
        told[SEAL] = condensed.seal()
    for name in ("recipe", "notes", "cost"):
        told[name] = json.dumps(told[name])
    for name, value in {**told, "schema": SCHEMA, "sha256": condensed.sha256()}.items():
        if isinstance(value, str):
            _write_text(file, name, value)
        elif value is not None:
            file.attrs[name] = value


def _read_set(file: h5py.File) -> CondensedSet:
    _check_schema(file)
    images = dataset(file, "images")
    if (layout := _text(images, "layout")) != "NHWC":
        raise UserError(f"/images has layout {layout!r}; this version reads NHWC.")
    low, high = (float(value) for value in images.attrs["value_range"])
    return CondensedSet(
        images=images[()],
        labels=dataset(file, "labels")[()],
        classes=tuple(str(name) for name in dataset(file, "classes").asstr("utf-8")[()]),
        preprocessing=_read_preprocessing(file),
        provenance=_read_provenance(file),
        value_range=(low, high),
        **{name: dataset(file, name)[()] for name in _OPTIONAL if holds(file, name)},
    )


def _check_schema(file: h5py.File) -> None:
    if "schema" not in file.attrs:
        raise UserError(
            "this HDF5 file is not a condensed set (it has no schema attribute); give one that `dmis` wrote."
        )
    schema = _text(file, "schema")
    version = re.fullmatch(r"condensed-set/(\d+)(\.\d+)?", schema)
    if version is None:
        raise UserError(f"this HDF5 file is not a condensed set: its schema is {schema!r}, expected {_FIRST!r}.")
    if int(version[1]) != 1:
        raise UserError(f"its schema is {schema!r}, but this version reads {_FIRST!r}; upgrade dmis.")


def _read_preprocessing(file: h5py.File) -> Preprocessing:
    def floats(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in dataset(file, f"preprocessing/{name}")[()])

    present = [name for name in _ZCA if holds(file, f"preprocessing/{name}")]
    zca = {name: dataset(file, f"preprocessing/{name}")[()] for name in present}
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
        sealed=SEAL in attributes,
    )


def _text(item: h5py.File | h5py.Dataset, name: str) -> str:
    if name not in item.attrs:
        raise UserError(f"the attribute {name!r} is missing; fetch or make the file again.")
    found = item.attrs.get_id(name)
    if found.dtype.kind != "S" or found.shape != ():
        raise UserError(f"the attribute {name!r} must be fixed-length text, found {found.dtype}.")
    return str(item.attrs[name].decode())

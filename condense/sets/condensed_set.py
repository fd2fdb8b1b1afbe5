"""The condensed set as a value: a few images per class, their preprocessing, and a record of how they were made.

`condense/sets/hdf5.py` writes it to HDF5 and reads it back; `condense/sets/export.py` writes other file formats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense.data.types import Labels, check_labels
from condense.errors import UserError
from condense.packing import check_pack, unpack
from condense.preprocessing import Preprocessing, planes
from condense.run import JSON
from condense.text import shortened

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cost:
    """The cost of making the set, so that methods can be compared at equal effort.

    Attributes:
        seconds: wall-clock time.
        network_evaluations: images passed through networks.
        peak_memory_bytes: peak memory in bytes.
        images_seen: training images that networks were trained on, repetitions counted.
    """

    seconds: float = 0.0
    network_evaluations: int = 0
    peak_memory_bytes: int = 0
    images_seen: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The cost of one step after the other: the larger of the two peaks, the sum of everything else."""
        return Cost(
            self.seconds + other.seconds,
            self.network_evaluations + other.network_evaluations,
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            self.images_seen + other.images_seen,
        )


@dataclass(frozen=True)
class Provenance:
    """How the set was made.

    Attributes:
        method: name of the method, e.g. "dmis".
        ipc: images per class.
        seed: seed of everything random in making it.
        recipe: the resolved recipe.
        data_name: name of the data set condensed.
        data_fingerprint: its `ImageData.fingerprint`.
        supervision: kind of its labels, as `Supervision.kind`.
        corruption: the injected noise, e.g. "sym:0.4", or "none".
        corruption_rate: fraction of imprecise labels in [0, 1] if known.
        cost: the cost of making the set.
        git_revision: commit of the source, if it was a checkout.
        created: ISO time in UTC.
        package_version: version of this package.
        notes: anything else the method records, e.g. the fraction of samples dropped.
        sealed: False if it was read from a file without a checksum of the provenance: one of an earlier version, or
            edited.

    Raises:
        UserError: a value has the wrong type.
    """

    method: str
    ipc: int
    seed: int
    recipe: JSON
    data_name: str
    data_fingerprint: str
    supervision: str
    corruption: str
    corruption_rate: float | None
    cost: Cost = Cost()
    git_revision: str | None = None
    created: str = ""
    package_version: str = ""
    notes: Mapping[str, JSON] = field(default_factory=dict)
    sealed: bool = True

    def __post_init__(self) -> None:
        _check_types(self, _PROVENANCE)
        _check_types(self.cost, _COST)


_TEXT, _WHOLE, _REAL = (str,), (int,), (int, float)
_PROVENANCE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("method", "data_name", "data_fingerprint", "supervision", "corruption", "created"), _TEXT),
    "package_version": _TEXT,
    "git_revision": (*_TEXT, type(None)),
    "ipc": _WHOLE,
    "seed": _WHOLE,
    "corruption_rate": (*_REAL, type(None)),
    "cost": (Cost,),
    "notes": (Mapping,),
}
_COST: Mapping[str, tuple[type, ...]] = {
    "seconds": _REAL,
    "network_evaluations": _WHOLE,
    "peak_memory_bytes": _WHOLE,
    "images_seen": _WHOLE,
}


def _check_types(told: Provenance | Cost, types: Mapping[str, tuple[type, ...]]) -> None:
    for name, allowed in types.items():
        value = getattr(told, name)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in allowed)
            raise UserError(f"the provenance's {name!r} must be {names}, found {shortened(repr(value), 80)}.")


@dataclass(frozen=True, eq=False)
class CondensedSet:
    """A class-balanced set of a few images, in class-major order: all of class 0, then all of class 1.

    Attributes:
        images: uint8 or float32 [n, H, W, C]; float32 for learned pixels, which may lie outside `value_range`
            (exports to picture formats clip them).
        labels: int64 [n], 0 … 0 1 … 1 …, each class ipc times.
        classes: class names, in the order of the label numbers.
        preprocessing: normalisation of the pixels before a network sees them.
        provenance: how the set was made.
        value_range: the values that mean black and white; (0, 255) for uint8.
        soft_labels: float32 [n, c], rows are probabilities, or None.
        source_index: int64 [n], index of the training image that each image is a copy of, -1 for none; or None.
        weights: float32 [n], non-negative, weight of each image in training; or None.

    Raises:
        UserError: any of this does not hold; the message names the image or class at fault.
    """

    images: Pixels
    labels: Labels
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Provenance
    value_range: tuple[float, float] = (0.0, 255.0)
    soft_labels: Floats | None = None
    source_index: Labels | None = None
    weights: Floats | None = None

    def __post_init__(self) -> None:
        _check_images(self)
        _check_labels(self)
        _check_extras(self)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        height, width, channels = self.images.shape[1:]
        made = self.provenance
        return (
            f"CondensedSet({made.data_name} by {made.method}: {self.num_classes} classes, {self.ipc} images per class, "
            f"{height}x{width}x{channels} {self.images.dtype})"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes c."""
        return len(self.classes)

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self) // self.num_classes

    @property
    def uses_true_labels(self) -> bool:
        """Whether true labels were used (`--clean-first oracle`): an upper bound for other sets, not a competitor."""
        return self.provenance.notes.get("uses_true_labels") is True

    def arrays(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """The arrays by name, in a fixed order: images, labels and those of the optional ones that are present."""
        for name in ("images", "labels", "soft_labels", "source_index", "weights"):
            if (array := getattr(self, name)) is not None:
                yield name, array

    @property
    def learned_rate(self) -> float | None:
        """Learning rate for networks trained on the images, if the method learned one along with them; else None."""
        rate = self.provenance.notes.get("learned_rate")
        return float(rate) if isinstance(rate, int | float) and rate > 0 else None

    @property
    def teacher_sha256(self) -> str | None:
        """SHA-256 (hex) of the teacher file that belongs beside the set's file; None without a teacher."""
        told = self.provenance.notes.get("online_teacher")
        found = told.get("sha256") if isinstance(told, Mapping) else None
        return found if isinstance(found, str) else None

    @property
    def pack(self) -> int:
        """Pictures along a side of one image, cut apart wherever a network sees them, see `condense.packing`; or 1."""
        pack = self.provenance.notes.get("pack", 1)
        return pack if isinstance(pack, int) else 1

    @property
    def packing(self) -> int:
        """Number of pictures that one stored image holds, whether they are cut apart, or as in RDED's collages not."""
        collage = self.provenance.notes.get("packing")
        if self.pack > 1:
            return self.pack**2
        return collage if isinstance(collage, int) else 1

    def unpacked(self) -> CondensedSet:
        """The set as networks see it: every image cut into its pack² pictures; this set itself if it is not packed.

        The pictures are float32 with 0 black and 1 white, and have the label, soft label and weight of their image.
        Notes of the record tell the number of pictures of a stored image and the SHA-256 of the stored set.
        """
        if self.pack == 1:
            return self
        told, each = self.provenance, self.pack**2
        notes = {name: value for name, value in told.notes.items() if name != "pack"}
        images = unpack(planes(self.unit_images()), self.pack).permute(0, 2, 3, 1).contiguous()
        return replace(
            self,
            images=images.numpy(),
            labels=self.labels.repeat(each),
            value_range=(0.0, 1.0),
            soft_labels=None if self.soft_labels is None else self.soft_labels.repeat(each, axis=0),
            weights=None if self.weights is None else self.weights.repeat(each),
            provenance=replace(
                told, ipc=told.ipc * each, notes={**notes, "packing": each, "unpacked_from": self.sha256()}
            ),
        )

    def sha256(self) -> str:
        """SHA-256 (hex) of everything training and comparison can depend on; the rest of the provenance is left out.

        Hashed in this order: JSON of classes, value range, mean and std; then for each array of `arrays` and
        each ZCA array its name, dtype and shape as text and its bytes, little-endian in C order; finally, if any of
        them is set, JSON of `uses_true_labels`, `learned_rate`, `teacher_sha256` and, from 2 on, `pack`.
        """
        told = {
            **({"uses_true_labels": True} if self.uses_true_labels else {}),
            **({} if self.learned_rate is None else {"learned_rate": self.learned_rate}),
            **({} if self.teacher_sha256 is None else {"teacher_sha256": self.teacher_sha256}),
            **({} if self.pack == 1 else {"pack": self.pack}),
        }
        digest = self._digest()
        if told:
            digest.update(json.dumps(told, sort_keys=True).encode())
        return digest.hexdigest()

    def sha256_of_arrays(self) -> str:
        """`sha256` without the final JSON: the checksum in files of schema version 1.0."""
        return self._digest().hexdigest()

    def _digest(self) -> hashlib._Hash:
        process = self.preprocessing
        header = [list(self.classes), list(self.value_range), list(process.mean), list(process.std)]
        digest = hashlib.sha256(json.dumps(header).encode())
        zca = [(name, getattr(process, name)) for name in ("zca_mean", "zca_matrix", "zca_inverse")]
        for name, array in [*self.arrays(), *zca]:
            if array is not None:
                plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
                digest.update(f"{name} {plain.dtype.str} {plain.shape}".encode())
                digest.update(plain.tobytes())
        return digest

    def seal(self) -> str:
        """SHA-256 (hex) of the provenance together with `sha256`, so that neither can change unnoticed."""
        told = {name: value for name, value in asdict(self.provenance).items() if name != "sealed"}
        return hashlib.sha256(json.dumps([self.sha256(), told], sort_keys=True).encode()).hexdigest()

    def unit_images(self) -> npt.NDArray[np.float32]:
        """The images as float32 [n, H, W, C] with 0 black and 1 white; learned pixels may lie outside [0, 1]."""
        low, high = self.value_range
        return ((self.images.astype(np.float64) - low) / (high - low)).astype(np.float32)

    def pictures(self) -> npt.NDArray[np.uint8]:
        """The images as uint8 [n, H, W, C] for viewing: learned pixels are clipped to range and rounded."""
        return np.rint(np.clip(self.unit_images(), 0, 1) * 255).astype(np.uint8)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets for training: images float32 [n, C, H, W] normalised; int64 [n] or soft float32 [n, c].

        Packed images are cut apart, see `unpacked`, so that n is pack² times the number of stored images.
        """
        seen = self.unpacked()
        pixels = planes(seen.unit_images())
        targets = seen.labels if seen.soft_labels is None else seen.soft_labels
        return self.preprocessing.normalise(pixels), torch.from_numpy(targets.copy())

    def to_json(self) -> dict[str, JSON]:
        """Images per class, number of classes, SHA-256 and cost, as a JSON object."""
        cost = asdict(self.provenance.cost)
        return {"ipc": self.ipc, "classes": self.num_classes, "sha256": self.sha256(), "cost": cost}

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the set to an HDF5 file. Raises `UserError` if it exists and `force` is off, see `hdf5.write`."""
        from condense.sets import hdf5

        hdf5.write(Path(path), self, force=force)

    @classmethod
    def load(cls, path: str | Path) -> CondensedSet:
        """Read a file that `save` or `dmis condense` wrote. Raises `UserError` if it is damaged or not a set."""
        from condense.sets import hdf5

        return hdf5.read(Path(path))


def _check_images(condensed: CondensedSet) -> None:
    images, (low, high) = condensed.images, condensed.value_range
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"images must be uint8 or float32 [n, height, width, channels], found {images.dtype} {list(images.shape)}."
        )
    if images.dtype == np.uint8 and (low, high) != (0, 255):
        raise UserError(f"uint8 images have the value range 0 to 255, found {low} to {high}.")
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f"the value range must be finite and increase from black to white, found {low} to {high}.")
    _check_finite("images", images)
    channels = images.shape[3]
    if len(condensed.preprocessing.mean) != channels:
        raise UserError(f"images have {channels} channels, the preprocessing {len(condensed.preprocessing.mean)}.")
    zca_mean, pixels = condensed.preprocessing.zca_mean, int(np.prod(images.shape[1:]))
    if zca_mean is not None and len(zca_mean) != pixels:
        raise UserError(f"images have {pixels} values each, but ZCA was fitted on {len(zca_mean)}.")


def _check_labels(condensed: CondensedSet) -> None:
    labels, classes = condensed.labels, condensed.classes
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise UserError(f"at least two different class names are needed, found {list(classes)}.")
    if labels.dtype != np.int64 or labels.shape != condensed.images.shape[:1]:
        raise UserError(f"labels must be int64 [{len(condensed)}], found {labels.dtype} {list(labels.shape)}.")
    check_labels(labels, len(classes))
    counts = np.bincount(labels, minlength=len(classes))
    few, many = int(counts.argmin()), int(counts.argmax())
    if counts[few] != counts[many]:
        raise UserError(
            f"every class needs the same number of images, but class {few} ({classes[few]}) has {counts[few]} "
            f"and class {many} ({classes[many]}) has {counts[many]}."
        )
    if (np.diff(labels) < 0).any():
        place = int(np.flatnonzero(np.diff(labels) < 0)[0]) + 1
        raise UserError(f"images must be sorted by class, but image {place} has a lower label than its neighbour.")
    if condensed.provenance.ipc != condensed.ipc:
        raise UserError(
            f"there are {condensed.ipc} images per class, but the provenance says {condensed.provenance.ipc}."
        )


def _check_extras(condensed: CondensedSet) -> None:
    count = len(condensed)
    pack = condensed.provenance.notes.get("pack", 1)
    check_pack(pack, *condensed.images.shape[1:3])
    _check_array("soft_labels", condensed.soft_labels, np.float32, (count, condensed.num_classes))
    _check_array("source_index", condensed.source_index, np.int64, (count,))
    _check_array("weights", condensed.weights, np.float32, (count,))
    soft, source, weights = condensed.soft_labels, condensed.source_index, condensed.weights
    if soft is not None and ((soft < 0).any() or (abs(soft.sum(axis=1) - 1) > 1e-3).any()):
        raise UserError("soft_labels must be probabilities: non-negative, each row summing to 1.")
    if source is not None and (source < -1).any():
        raise UserError("source_index must be the index of a training image, or -1.")
    if source is not None and pack != 1:
        raise UserError("an image of several pictures is no copy of one training image; leave source_index out.")
    if weights is not None and ((weights < 0).any() or not weights.any()):
        raise UserError("weights must not be negative, nor all zero.")


def _check_array(
    name: str, array: npt.NDArray[np.generic] | None, dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    if array is None:
        return
    if array.dtype != dtype or array.shape != shape:
        raise UserError(f"{name} must be {dtype.__name__} {list(shape)}, found {array.dtype} {list(array.shape)}.")
    _check_finite(name, array)


def _check_finite(name: str, array: npt.NDArray[np.generic]) -> None:
    if np.issubdtype(array.dtype, np.floating):
        wrong = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        if wrong.size:
            raise UserError(f"{name} holds NaN or infinity in image {int(wrong[0])} ({wrong.size} such images).")

"""Data sets kept as arrays in one .npz or .h5 file.

| key                      | array                           |                                              |
|--------------------------|---------------------------------|----------------------------------------------|
| train_images (or images) | uint8 [n, H, W, C] or [n, H, W] | needed                                       |
| train_labels (or labels) | whole numbers [n], or one-hot   | needed unless there are `candidates`         |
| test_images, test_labels | the same                        | both or none                                 |
| class_names              | strings [c]                     | else "0", "1", …                             |
| candidates               | bool [n, c]                     | the given labels, when they are imprecise    |
| trusted                  | bool [n]                        | else True where there are several candidates |
| clean_labels             | whole numbers [n]               | the truth, for scoring and injecting noise   |
| flip                     | bool                            | whether a mirror image keeps its class       |
| name, corruption         | string, JSON                    | what `write_npz` records                     |

Roles of the arrays:
- *given labels*: the array chosen by `PATH::key` (e.g. `cifar10n.npz::noisy_worst`), else `candidates`, else
  `train_labels`; single labels are untrusted, as in any user's file;
- *truth*: `clean_labels`; without it `train_labels`, so that a clean file can serve as a benchmark
  (its labels are then right by assumption). A file with `candidates` and no `clean_labels` has no truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data import hdf5, npz
from condense.data.label_arrays import one_hot
from condense.data.reading import Reading, in_list
from condense.data.types import (
    Corruption,
    ImageData,
    Images,
    Labels,
    Source,
    Supervision,
    Truth,
    check_every_class,
    check_labels,
    class_names,
)
from condense.errors import UserError
from condense.text import shortened

Arrays = Mapping[str, npt.NDArray[Any]]

READERS = {".npz": npz, ".h5": hdf5, ".hdf5": hdf5}

_ALIASES = {"images": "train_images", "labels": "train_labels"}
_KEYS = frozenset(
    {"train_images", "train_labels", "test_images", "test_labels", "class_names", "candidates", "trusted"}
    | {"clean_labels", "name", "corruption", "flip"}
    | _ALIASES.keys()
)
_NEEDED = "train_images and train_labels (or images and labels, or train_images and candidates)"


def load(path: Path, *, given: str | None = None, trusted: bool = False) -> Source:
    """Read a data set from one .npz or HDF5 file.

    Args:
        path: the file; its suffix decides the reader.
        given: key of the array [n] to take as given labels instead of the usual one.
        trusted: whether single given labels from `train_labels` are known to be right (a clean benchmark).

    Raises:
        UserError: the file is damaged, lacks a key, or its arrays have wrong types, shapes or label numbers.
    """
    reader = READERS[path.suffix.lower()]
    keys = reader.names(path)
    if given is not None and given not in keys:
        raise UserError(f"{path} has no array {given!r} to take labels from; it holds {', '.join(sorted(keys))}.")
    stored = reader.read(path, _KEYS | {given} if given else _KEYS)
    arrays = _by_role(stored, str(path))
    arrays |= {key: _single(array) for key, array in arrays.items() if key.endswith("labels") or key == given}
    if "train_images" not in arrays or not {"train_labels", "candidates"} & arrays.keys():
        raise UserError(f"{path} holds {', '.join(sorted(keys)) or 'nothing'}; it needs {_NEEDED}.")
    name = str(arrays["name"]) if "name" in arrays else path.stem
    return _source(arrays, name, str(path), arrays[given] if given else None, trusted)


def from_memory(arrays: Arrays, name: str) -> Source:
    """A data set from arrays under the names of the table above. Raises `UserError` as `load`."""
    return _source(_by_role(arrays, "memory"), name, "memory", None, False)


def write_npz(path: Path, source: Source, supervision: Supervision, corruption: Corruption) -> None:
    """Write `source` with other given labels; `load` reads it back identically.

    If every image has a single given label, it is also stored under `train_labels`, for other programs.
    The file is written in place: wrap the call in `condense.run.atomic_path`.
    """
    arrays: dict[str, Any] = {
        "train_images": source.train.images,
        "candidates": supervision.candidates,
        "trusted": supervision.trusted,
        "class_names": np.array(source.train.classes),
        "name": np.array(source.train.name),
        "corruption": np.array(json.dumps(asdict(corruption))),
    }
    if source.train.flip is not None:
        arrays["flip"] = np.array(source.train.flip)
    if supervision.single.all():
        arrays["train_labels"] = supervision.observed
    if source.truth is not None:
        arrays["clean_labels"] = source.truth.labels
    if source.test is not None and source.test_truth is not None:
        arrays["test_images"] = source.test.images
        arrays["test_labels"] = source.test_truth.labels
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def recorded_corruption(train: ImageData) -> Corruption:
    """The corruption recorded in a file by `write_npz`; "none" for any other data.

    Raises:
        UserError: the record is not what `write_npz` writes.
    """
    record = train.provenance.get("corruption")
    if record is None:
        return Corruption("none", 0, None)
    try:
        fields = json.loads(record)
        rate = fields["overall_rate"]
        return Corruption(str(fields["spec"]), int(fields["seed"]), None if rate is None else float(rate))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{train.name}: the recorded corruption {record!r} cannot be read ({error}).") from error


def _by_role(stored: Arrays, path: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays under the longer of the names that they may have."""
    if twice := [name for name, role in _ALIASES.items() if name in stored and role in stored]:
        raise UserError(f"{path} holds both {twice[0]} and {_ALIASES[twice[0]]}; rename or remove one.")
    return {_ALIASES.get(key, key): array for key, array in stored.items()}


def _source(arrays: Arrays, name: str, path: str, given: npt.NDArray[Any] | None, trusted: bool) -> Source:
    classes = _classes(arrays, given)
    provenance = {"source": "arrays", "path": path}
    if "corruption" in arrays and given is None:
        provenance["corruption"] = str(arrays["corruption"])
    flip = _flip(arrays["flip"]) if "flip" in arrays else None
    train = ImageData(_images(arrays["train_images"], "train_images"), classes, name, "train", provenance, flip)
    supervision = _supervision(arrays, given, len(classes), trusted)
    truth = _truth(arrays, len(classes), overridden=given is not None)
    for what, length in (
        ("given labels", len(supervision)),
        ("true labels", len(truth) if truth else len(train)),
    ):
        if length != len(train):
            raise UserError(f"{path} has {len(train)} training images, but {length} {what}; each image needs one.")
    check_every_class(supervision, classes, path)
    if not {"test_images", "test_labels"} & arrays.keys():
        return Source(train, supervision, truth, None, None)
    test, test_truth = _test(arrays, train, path)
    unseen = [classes[y] for y in range(len(classes)) if y not in test_truth.labels]
    notes = (f"{name}: no test image is of {in_list(unseen)}; the accuracy says nothing about it.",) if unseen else ()
    return Source(train, supervision, truth, test, test_truth, reading=Reading(notes=notes))


def _test(arrays: Arrays, train: ImageData, path: str) -> tuple[ImageData, Truth]:
    if not {"test_images", "test_labels"} <= arrays.keys():
        raise UserError(f"{path} has only one of test_images and test_labels; give both or none.")
    images = _images(arrays["test_images"], "test_images")
    test = replace(train, images=images, split="test")
    truth = Truth(_labels(arrays["test_labels"], train.num_classes, "test_labels"))
    if len(truth) != len(test):
        raise UserError(f"{path} has {len(test)} test images, but {len(truth)} test labels; each image needs one.")
    if test.image_shape != train.image_shape:
        raise UserError(
            f"{path} has training images of {list(train.images.shape[1:])}, but test images of "
            f"{list(images.shape[1:])}; bring them to the same shape."
        )
    return test, truth


def _supervision(arrays: Arrays, given: npt.NDArray[Any] | None, num_classes: int, trusted: bool) -> Supervision:
    if given is not None:
        return Supervision.from_labels(_labels(given, num_classes, "given labels"), num_classes, trusted=False)
    if "candidates" not in arrays:
        labels = _labels(arrays["train_labels"], num_classes, "train_labels")
        single = Supervision.from_labels(labels, num_classes, trusted=trusted)
        return replace(single, trusted=arrays["trusted"]) if "trusted" in arrays else single
    candidates = arrays["candidates"]
    if candidates.dtype != np.bool_ or candidates.ndim != 2 or candidates.shape[1] != num_classes:
        raise UserError(
            f"candidates must be bool [n, {num_classes}], found {candidates.dtype} {list(candidates.shape)}."
        )
    return Supervision(candidates, arrays["trusted"] if "trusted" in arrays else candidates.sum(axis=1) > 1)


def _truth(arrays: Arrays, num_classes: int, *, overridden: bool) -> Truth | None:
    if "clean_labels" in arrays:
        return Truth(_labels(arrays["clean_labels"], num_classes, "clean_labels"))
    if "train_labels" in arrays and (overridden or "candidates" not in arrays):
        return Truth(_labels(arrays["train_labels"], num_classes, "train_labels"))
    return None


def _images(array: npt.NDArray[Any], what: str) -> Images:
    """uint8 [n, H, W, C]; grey images may come without their last axis."""
    images = array[..., None] if array.ndim == 3 else array
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise UserError(
            f"{what} must be uint8 (0..255) [n, height, width, 1 or 3] or [n, height, width], "
            f"found {array.dtype} {list(array.shape)}; convert and store it again."
        )
    return np.ascontiguousarray(images)


def _flip(array: npt.NDArray[Any]) -> bool:
    """A bool, or 0 or 1; text such as "no" would count as true."""
    if array.size != 1 or array.dtype.kind not in "biu" or int(array.item()) not in (0, 1):
        raise UserError(
            f"flip must be true or false, found {shortened(str(array.tolist()), 40)} ({array.dtype}); store "
            "numpy.array(True) or numpy.array(False)."
        )
    return bool(array.item())


def _single(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels [n, 1], or one-hot [n, c], as [n]; any other array as it is."""
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
        return array[:, 0]
    single = one_hot(array)
    return array if single is None else single


def _labels(array: npt.NDArray[Any], num_classes: int, what: str) -> Labels:
    """int64 [n] in [0, c)."""
    check_labels(array, num_classes, what)
    return array.astype(np.int64)


def _classes(arrays: Arrays, given: npt.NDArray[Any] | None) -> tuple[str, ...]:
    """The class names, or numbers up to the largest label."""
    if "class_names" in arrays:
        names = arrays["class_names"]
        if names.ndim != 1 or names.dtype.kind not in "SU":
            raise UserError(f"class_names must be strings [c], found {names.dtype} {list(names.shape)}.")
        try:
            return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist())
        except UnicodeDecodeError as error:
            raise UserError(f"class_names must be UTF-8, found {error.object[:40]!r}; write them again.") from error
    if "candidates" in arrays:
        if arrays["candidates"].ndim != 2:
            raise UserError(
                f"candidates must be bool [n, c], found {arrays['candidates'].dtype} "
                f"{list(arrays['candidates'].shape)}; labels of two classes are whole numbers, labels.astype(int)."
            )
        return class_names(arrays["candidates"].shape[1])
    labels = {key: arrays[key] for key in ("train_labels", "test_labels", "clean_labels") if key in arrays}
    labels |= {"given labels": given} if given is not None else {}
    for key, array in labels.items():
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            check_labels(array, 0, key)
    numbers = np.concatenate(list(labels.values()))
    _check_counted(numbers)
    return class_names(int(numbers.max()) + 1 if numbers.size else 0)


def _check_counted(numbers: npt.NDArray[Any]) -> None:
    """Refuse numbers that do not count classes from 0; an absurd one must not become a billion class names."""
    values = np.unique(numbers).tolist()
    if not values:
        return
    if values == list(range(1, len(values) + 1)):
        raise UserError(
            f"The labels count from 1 to {len(values)}, and classes are counted from 0; store labels - 1, or put a "
            "name for 0 first into class_names."
        )
    if values[0] < 0 or values[-1] >= min(2 * len(values), len(numbers)):
        check_labels(numbers, len(values), "labels")

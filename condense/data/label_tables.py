"""Files of labels as named arrays: .npy, .npz, .h5, .csv, .tsv, torch's .pt, and the .pkl or .json of annotators' sets.

Such files come from strangers, so nothing in them is ever executed: .npy and .npz are read without pickles, .pt by
torch's weights-only loader with plain numpy arrays admitted, .pkl by an unpickler that knows no function or class.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data import delimited, hdf5, npz, torch_file
from condense.errors import UserError, in_short

Table = dict[str, npt.NDArray[Any]]

_MOST_FETCHED = 1_000_000  # ints and sets that a pickle refers to again
_MOST_LABELS = 100_000_000
_ONLY = "labels"  # name of the array in a file that holds one without a name
_NUMBERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def read(path: Path) -> Table:
    """All arrays of a file by name; texts as strings, annotators' sets as object arrays of tuples of sets.

    Raises:
        UserError: no such file, an unknown ending, a damaged file, or one that would run code.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is not a label file; its name must end in {', '.join(READERS)}.")
    if not path.is_file():
        raise UserError(f"There is no label file {path}; correct the path.")
    return reader(path)


def _npy(path: Path) -> Table:
    return {_ONLY: npz.read_single(path)}


def _npz(path: Path) -> Table:
    return npz.read(path, npz.names(path))


def _hdf5(path: Path) -> Table:
    return hdf5.read(path, hdf5.names(path))


def _csv(path: Path) -> Table:
    table = delimited.read(path)
    return {name: np.array(table.column(name), dtype=np.str_) for name in table.columns}


def _torch(path: Path) -> Table:
    """A tensor, an array or a mapping of them, as `CIFAR-10_human.pt` is."""
    rebuild = np.empty(0).__reduce__()[0]
    admitted: list[Any] = [rebuild, (rebuild, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype]
    admitted += [type(np.dtype(name)) for name in _NUMBERS]
    try:
        found = torch_file.load(path, admitted)
    except UserError:
        raise
    except Exception as error:  # the loader raises whatever the bytes lead to
        told = in_short(error, 120)
        raise UserError(
            f"{path} is damaged, or holds more than tensors and arrays and is not opened, because that could run code "
            f"({told}); save plain arrays with numpy.savez."
        ) from error
    named = found if isinstance(found, Mapping) else {_ONLY: found}
    return {str(name): _plain(value, f"{name!r} in {path}") for name, value in named.items()}


def _check_stored(value: object, what: str) -> None:
    """Refuse a tensor that claims more values than are stored, see `torch_file.claimed_and_stored`."""
    import torch

    if not isinstance(value, torch.Tensor):
        return
    if value.layout != torch.strided or value.device.type != "cpu":
        raise UserError(f"{what} is not a plain tensor; save plain arrays with numpy.savez.")
    claimed, stored = torch_file.claimed_and_stored(value)
    if claimed > stored:
        raise UserError(f"{what} claims {claimed:,} bytes and stores fewer; save plain arrays with numpy.savez.")


def _plain(value: object, what: str) -> npt.NDArray[Any]:
    _check_stored(value, what)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{what} is not an array of numbers ({error}); save plain arrays with numpy.savez.") from error
    if array.dtype.hasobject:
        raise UserError(f"{what} is not an array of numbers; save plain arrays with numpy.savez.")
    return array


class _NoCode(pickle.Unpickler):
    """Reads numbers, texts, lists and mappings; whatever names a function or class is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _pickled_sets(path: Path) -> Table:
    try:
        content = path.read_bytes()
        _check_pickle(content)
        found = _NoCode(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise UserError(
            f"{path} is damaged, or holds more than numbers and lists and is not opened, because that could run code "
            f"({in_short(error)}); save it as JSON."
        ) from error
    return _sets(found, path)


def _check_pickle(content: bytes) -> None:
    """Check the instructions of a pickle without executing them: raises where one would waste memory.

    Eight bytes can claim a far index of the pickle's memo, and nested lists that repeat one another can stand for any
    number of sets.
    """
    fetched = 0
    for instruction, argument, _ in pickletools.genops(content):
        if "PUT" in instruction.name and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("it numbers what it holds beyond its length")
        fetched += "GET" in instruction.name
        if instruction.name in ("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "REDUCE", "BUILD", "INST", "OBJ"):
            raise pickle.UnpicklingError(f"it wants {instruction.name}")
    if fetched > _MOST_FETCHED + len(content) // 4:
        raise pickle.UnpicklingError("it repeats itself too often")


def _json_sets(path: Path) -> Table:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); write it again.") from error
    return _sets(found, path)


def _sets(found: object, path: Path) -> Table:
    """{image: [set of annotator 1, set of annotator 2, …]} as arrays "aggregate" (union) and "vaguest" (largest set).

    This is PLCIFAR-10's form; both names are those of Wang et al. (2025), "Realistic Evaluation of Deep Partial-Label
    Learning Algorithms", https://github.com/wwangwitsel/PLENCH. Objects [n] of sets of whole numbers.
    """
    try:
        if not isinstance(found, dict):
            raise TypeError("it is not a mapping")
        size = sum(len(given) for sets in found.values() for given in sets)
        if size > _MOST_LABELS:
            raise ValueError(f"it holds more than {_MOST_LABELS:,} labels")
        answers = {int(image): [{_whole(label) for label in given} for given in sets] for image, sets in found.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} must map each image's number to a list of sets of class numbers, one an annotator ({error})."
        ) from error
    if sorted(answers) != list(range(len(answers))):
        raise UserError(f"{path} must name every image from 0 to {len(answers) - 1} once; some are missing.")
    union, largest = np.empty(len(answers), dtype=object), np.empty(len(answers), dtype=object)
    for image, sets in answers.items():
        union[image] = set().union(*sets)
        largest[image] = max(sets, key=len, default=set())
    return {"aggregate": union, "vaguest": largest}


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a class number")
    return value


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".csv": _csv,
    ".tsv": _csv,
    ".pt": _torch,
    ".pth": _torch,
    ".pkl": _pickled_sets,
    ".json": _json_sets,
}

"""Condensed sets that other programs made: read safely, with sizes held against the file before memory is taken.

`.pt` is the res_*.pt form of VICO's DatasetCondensation (DC, DSA, DM): {"data": [[images, labels], …], …}, of which the
last entry counts, as in its programs. It is loaded with `weights_only`, so nothing in it is executed; both torch's zip
form and the older one, which the torch 1.2 of that code writes, are taken. `.npz` holds images or pixels, labels and
maybe soft_labels.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense.data import npz, torch_file
from condense.data.memory import check_fits
from condense.data.types import Labels
from condense.errors import UserError, in_short
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import Floats, Pixels

VICO_SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and deviation of each channel by which VICO's code normalises a data set."""

_DAMAGE = (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError, IndexError)
_LEADING_PICKLES = 3  # of the older form: magic number, version, system


@dataclass(frozen=True, eq=False)
class Foreign:
    """What a file of another program holds, in class-major order.

    Attributes:
        images: uint8, or float32 where 0 is black and 1 white, [n, H, W, C].
        labels: int64 [n].
        soft_labels: float32 [n, c], or None.
        preprocessing: what networks were meant to see of the images; None where the file does not tell.
    """

    images: Pixels
    labels: Labels
    soft_labels: Floats | None
    preprocessing: Preprocessing | None


def read_foreign(path: Path, scale: Preprocessing | None) -> Foreign:
    """Read a .pt or .npz file.

    Args:
        path: the file.
        scale: by which the images of a .pt file were normalised.

    Raises:
        UserError: no such file; another kind; damaged, or larger than what it stores or the free memory.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a .pt file of VICO's DatasetCondensation, or an .npz file.")
    if path.suffix.lower() == ".npz":
        return _from_npz(path)
    if path.suffix.lower() != ".pt":
        raise UserError(f"{path} is neither .pt (VICO's DatasetCondensation) nor .npz; export it to one of them.")
    if scale is None:
        raise UserError(
            f"How the images of {path} were normalised is not known for this data set; give --mean and --std, a number "
            "a channel each."
        )
    return _from_vico(path, scale)


def _from_vico(path: Path, scale: Preprocessing) -> Foreign:
    try:
        _check_claims(path)
        told = torch_file.load(path)
        images, labels = told["data"][-1][:2]
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            raise UserError(f"{path} holds {type(images).__name__} and {type(labels).__name__} in place of tensors.")
        _check_whole(images, path)
        _check_whole(labels, path)
        return _sorted(images.float(), labels, None, scale, path)
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(
            f"{path} is no set of VICO's DatasetCondensation, or damaged ({in_short(error)}); it should hold "
            '{"data": [[images, labels], …]}, tensors alone.'
        ) from error


def _check_claims(path: Path) -> None:
    """Refuse a file that claims more than it stores, or more than there is memory for, before it is loaded."""
    size = path.stat().st_size
    check_fits(3 * size, str(path))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UserError(f"{path} is compressed, which torch never does; save it again with torch.save.")
        largest = max((member.file_size for member in members), default=0)
    else:
        largest = _largest_integer(path)
    if largest > size:
        raise UserError(f"{path} claims {largest:,} bytes or values but has {size:,} bytes; fetch it again.")


def _largest_integer(path: Path) -> int:
    """The largest number in the pickles of torch's older form, sizes of storages among them; nothing is executed."""
    largest = 0
    with path.open("rb") as file:
        for number in range(_LEADING_PICKLES + 2):  # the object, and the keys of its storages
            for _, value, _ in pickletools.genops(file):
                if number == _LEADING_PICKLES and isinstance(value, int) and not isinstance(value, bool):
                    largest = max(largest, value)
    return largest


def _check_whole(tensor: Tensor, path: Path) -> None:
    """Refuse a tensor that is larger than what backs it, as one whose strides are 0."""
    needed, stored = torch_file.claimed_and_stored(tensor)
    if needed > stored:
        raise UserError(f"{path} claims a tensor {list(tensor.shape)} of {needed:,} bytes but stores {stored:,}.")


def _sorted(images: Tensor, labels: Tensor, soft_labels: Floats | None, scale: Preprocessing, path: Path) -> Foreign:
    """Normalised images float32 [n, C, H, W] as pixels, class by class."""
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path} holds images {list(images.shape)} and labels {list(labels.shape)}; needed are [n, C, H, W], [n]."
        )
    if images.shape[1] != len(scale.mean):
        raise UserError(f"{path} holds images of {images.shape[1]} channels; --mean and --std have {len(scale.mean)}.")
    order = np.argsort(labels.numpy(), kind="stable")
    pixels = scale.denormalise(images)[torch.from_numpy(order)].permute(0, 2, 3, 1)
    kept = None if soft_labels is None else soft_labels[order]
    return Foreign(np.ascontiguousarray(pixels.numpy()), labels.numpy()[order].astype(np.int64), kept, scale)


def _from_npz(path: Path) -> Foreign:
    found = npz.read(path, ("images", "pixels", "labels", "soft_labels"))
    if "labels" not in found or not {"images", "pixels"} & found.keys():
        raise UserError(f"{path} needs the arrays images (or pixels) and labels, found {', '.join(npz.names(path))}.")
    images: Any = found.get("pixels", found.get("images"))
    labels = found["labels"]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path} holds images {list(images.shape)} and labels {labels.dtype} {list(labels.shape)}; needed are "
            "[n, H, W, C] and whole numbers [n]."
        )
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    order = np.argsort(labels, kind="stable")
    soft = found.get("soft_labels")
    kept = None if soft is None or soft.shape[:1] != labels.shape else soft[order].astype(np.float32)
    return Foreign(images[order], labels[order].astype(np.int64), kept, None)


def scale_of(data_name: str, mean: Sequence[float], std: Sequence[float]) -> Preprocessing | None:
    """The normalisation told, else VICO's of a data set by name, else None.

    Raises:
        UserError: mean and std do not go together, or a number is out of range.
    """
    if mean or std:
        return Preprocessing(tuple(mean), tuple(std))
    return Preprocessing(*VICO_SCALES[data_name]) if data_name in VICO_SCALES else None

"""Condensed sets made by other programs: read safely, with sizes checked against the file before memory is allocated.

`.pt` is the res_*.pt format of VICO's DatasetCondensation (DC, DSA, DM): {"data": [[images, labels], …], …}, whose
last entry is used, as its programs do. It is loaded with `weights_only`, so nothing in it is executed; both torch's
zip format and the older one, which that code's torch 1.2 writes, are accepted. `.npz` holds images or pixels, labels
and optionally soft_labels, soft_label_temperature, mean, std and the arrays of ZCA, as `export.to_npz` writes them.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense.data import npz, torch_file
from condense.data.memory import check_fits
from condense.data.types import Labels
from condense.errors import UserError, in_short
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import Floats, Pixels
from condense.sets.published_scales import VICO, published

_DAMAGE = (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError, IndexError)
_LEADING_PICKLES = 3  # of the older form: magic number, version, system


_ZCA = ("zca_mean", "zca_matrix", "zca_inverse")
_SCALE = {"mean": "[C]", "std": "[C]", "zca_mean": "[d]", "zca_matrix": "[d, d]", "zca_inverse": "[d, d]"}
_NUMPY_NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


class _NumpyNumber:
    """Takes the place of the numpy numbers that VICO's code stores accuracies as; drops whatever it is given."""

    def __init__(self, *_: object) -> None:
        """Ignore the type and bytes of a number."""

    def __setstate__(self, state: object) -> None:
        """Ignore the details of a type."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """Contents of another program's file, in class-major order.

    Attributes:
        images: uint8 [n, H, W, C], or float32 with 0 black and 1 white.
        labels: int64 [n].
        soft_labels: float32 [n, c], or None.
        preprocessing: normalisation the images were made for; None if unknown.
        temperature: that of the soft labels; None if unknown.
    """

    images: Pixels
    labels: Labels
    soft_labels: Floats | None
    preprocessing: Preprocessing | None
    temperature: float | None = None


def read_foreign(path: Path, scale: Preprocessing | None, data_name: str) -> Foreign:
    """Read a .pt or .npz file.

    Args:
        path: the file.
        scale: normalisation the images were made for; for a .pt file None means the one VICO uses for the data set.
        data_name: name of the data set.

    Raises:
        UserError: the file does not exist, has another suffix, is damaged, claims more than it stores or does not fit
            into memory; the scale of a .pt file is not known; or an .npz file has its own and `scale` is given too.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}; give a .pt file of VICO's DatasetCondensation, or an .npz file.")
    if path.suffix.lower() == ".npz":
        return _from_npz(path, scale)
    if path.suffix.lower() != ".pt":
        raise UserError(
            f"{path} is neither .pt (VICO's DatasetCondensation) nor .npz; export it to one of them (a condensed set, "
            ".h5, needs no import)."
        )
    scale = scale or published(VICO, data_name)
    if scale is None:
        raise UserError(
            f"The normalisation of the images in {path} is not known for this data set; give --mean and --std, one "
            "number per channel each."
        )
    return _from_vico(path, scale)


def _from_vico(path: Path, scale: Preprocessing) -> Foreign:
    try:
        _check_claims(path)
        told = torch_file.load(path, [(_NumpyNumber, name) for name in _NUMPY_NUMBERS])
        images, labels = told["data"][-1][:2]
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            raise UserError(f"{path} holds {type(images).__name__} and {type(labels).__name__} in place of tensors.")
        _check_whole(images, path)
        _check_whole(labels, path)
        return _sorted(images.detach().float(), labels.detach(), None, scale, path)
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(
            f"{path} is not a set of VICO's DatasetCondensation, or is damaged ({in_short(error)}); it should hold "
            '{"data": [[images, labels], …]}, with tensors only.'
        ) from error


def _check_claims(path: Path) -> None:
    """Refuse, before loading it, a file that claims more than it stores or than fits into memory."""
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
    """Largest integer in the pickles of torch's older format, storage sizes included; nothing is executed."""
    largest = 0
    with path.open("rb") as file:
        for number in range(_LEADING_PICKLES + 2):  # the object, and the keys of its storages
            for _, value, _ in pickletools.genops(file):
                if number == _LEADING_PICKLES and isinstance(value, int) and not isinstance(value, bool):
                    largest = max(largest, value)
    return largest


def _check_whole(tensor: Tensor, path: Path) -> None:
    """Refuse a tensor larger than its storage, such as one with zero strides."""
    needed, stored = torch_file.claimed_and_stored(tensor)
    if needed > stored:
        raise UserError(f"{path} claims a tensor {list(tensor.shape)} of {needed:,} bytes but stores {stored:,}.")


def _sorted(images: Tensor, labels: Tensor, soft_labels: Floats | None, scale: Preprocessing, path: Path) -> Foreign:
    """Denormalise images float32 [n, C, H, W] and sort them by class."""
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path} holds images {list(images.shape)} and labels {list(labels.shape)}; needed are [n, C, H, W], [n]."
        )
    if not torch.equal(labels, labels.long().to(labels)):
        raise UserError(f"{path} holds labels that are not whole numbers, as {labels[labels != labels.long()][0]:g}.")
    if images.shape[1] != len(scale.mean):
        raise UserError(f"{path} holds images of {images.shape[1]} channels; --mean and --std have {len(scale.mean)}.")
    order = np.argsort(labels.numpy(), kind="stable")
    pixels = scale.denormalise(images)[torch.from_numpy(order)].permute(0, 2, 3, 1)
    kept = None if soft_labels is None else soft_labels[order]
    return Foreign(np.ascontiguousarray(pixels.numpy()), labels.numpy()[order].astype(np.int64), kept, scale)


def _from_npz(path: Path, scale: Preprocessing | None) -> Foreign:
    found = npz.read(path, ("images", "pixels", "labels", "soft_labels", "soft_label_temperature", *_SCALE))
    if "labels" not in found or not {"images", "pixels"} & found.keys():
        raise UserError(f"{path} needs the arrays images (or pixels) and labels, found {', '.join(npz.names(path))}.")
    images: Any = found.get("pixels", found.get("images"))
    labels = found["labels"]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{path} holds images {list(images.shape)} and labels {labels.dtype} {list(labels.shape)}; needed are "
            "[n, H, W, C] and whole numbers [n]."
        )
    own = _own_scale(found, path)
    if own is not None and scale is not None:
        raise UserError(f"{path} has its own mean and std; leave --mean and --std out.")
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    order = np.argsort(labels, kind="stable")
    soft, temperature = _soft_labels(found, len(labels), path)
    kept = None if soft is None else soft[order]
    return Foreign(images[order], labels[order].astype(np.int64), kept, own or scale, temperature)


def _own_scale(found: Mapping[str, npt.NDArray[Any]], path: Path) -> Preprocessing | None:
    """The normalisation in an .npz file; None without any."""
    present = [name for name in _SCALE if name in found]
    if not present:
        return None
    for name in ("mean", "std"):
        if name not in found:
            raise UserError(f"{path} has {present[0]} but no {name}; store mean and std [C] both, or neither.")
    for name in present:
        array, needed = found[name], _SCALE[name]
        if array.dtype.kind not in "fiu" or array.ndim != len(needed.split()) or not array.size:
            raise UserError(f"{path} holds {name} {array.dtype} {list(array.shape)}; needed are numbers {needed}.")
    zca = {name: found[name].astype(np.float32) for name in _ZCA if name in found}
    return Preprocessing(tuple(map(float, found["mean"])), tuple(map(float, found["std"])), **zca)


def _soft_labels(found: Mapping[str, npt.NDArray[Any]], count: int, path: Path) -> tuple[Floats | None, float | None]:
    """The soft labels [n, c] in an .npz file, and their temperature."""
    soft, temperature = found.get("soft_labels"), found.get("soft_label_temperature")
    if soft is None:
        return None, None
    if soft.dtype.kind not in "fiu" or soft.ndim != 2 or len(soft) != count:
        raise UserError(
            f"{path} holds soft_labels {soft.dtype} {list(soft.shape)} for {count} images; needed are [n, c]."
        )
    if temperature is None:
        return soft.astype(np.float32), None
    if temperature.dtype.kind not in "fiu" or temperature.ndim or not 0 < temperature < np.inf:
        raise UserError(f"{path} holds a soft_label_temperature that is not a number above 0.")
    return soft.astype(np.float32), float(temperature)

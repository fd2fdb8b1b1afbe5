"""CIFAR-10 and CIFAR-100: 50,000 and 10,000 colour images of 32x32 (Krizhevsky 2009).

Two forms are read: the "binary version", plain bytes, and the "python version", pickles. A pickle can run
code when read, so the latter goes to torchvision only after each file was found, by MD5, to be the
published one.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.clean_sets import cache_folder, clean_source, downloading
from condense.data.types import Images, Labels, Source
from condense.errors import UserError

_SIDE = 32
_NUM_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class Variant:
    """How one of the two data sets is laid out on disk."""

    name: str
    torchvision_class: str
    pickle_folder: str
    binary_folder: str
    binary_train: tuple[str, ...]
    binary_test: str
    binary_classes: str
    label_bytes: int  # CIFAR-100 puts the coarse label before the fine one


CIFAR10 = Variant(
    name="cifar10",
    torchvision_class="CIFAR10",
    pickle_folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    binary_train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    binary_test="test_batch.bin",
    binary_classes="batches.meta.txt",
    label_bytes=1,
)
CIFAR100 = Variant(
    name="cifar100",
    torchvision_class="CIFAR100",
    pickle_folder="cifar-100-python",
    binary_folder="cifar-100-binary",
    binary_train=("train.bin",),
    binary_test="test.bin",
    binary_classes="fine_label_names.txt",
    label_bytes=2,
)


def load(variant: Variant, root: Path | None, download: bool) -> Source:
    """The first of: binary version, python version, torchvision's download if allowed.

    Args:
        variant: `CIFAR10` or `CIFAR100`.
        root: the extracted folder, or the folder it lies in; `~/.cache/dmis` if None.
        download: whether torchvision may fetch the python version (170 MB).

    Raises:
        UserError: nothing found, a damaged file, or a python-version file that is not the published one.
        RunFailed: the download failed.
    """
    root = root or cache_folder()
    binary, pickled = _find(root, variant.binary_folder), _find(root, variant.pickle_folder)
    if binary is not None:
        return _read_binary(variant, binary)
    if pickled is not None:
        return _read_pickled(variant, pickled)
    if download:
        with downloading(variant.name):
            _torchvision(variant)(str(root), download=True)
        return _read_pickled(variant, root / variant.pickle_folder)
    raise UserError(
        f"{variant.name}: {root} holds neither {variant.binary_folder} nor {variant.pickle_folder}; "
        "give the folder that holds one of them (--root FOLDER), an .npz (--data FILE.npz), "
        "or let torchvision fetch it (--download)."
    )


def _find(root: Path, folder: str) -> Path | None:
    if root.name == folder and root.is_dir():
        return root
    return root / folder if (root / folder).is_dir() else None


def _read_binary(variant: Variant, folder: Path) -> Source:
    try:
        classes = tuple((folder / variant.binary_classes).read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{folder / variant.binary_classes} cannot be read ({error}); extract the archive again."
        ) from error
    parts = [_records(folder / name, variant.label_bytes) for name in variant.binary_train]
    train = np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    test = _records(folder / variant.binary_test, variant.label_bytes)
    return clean_source(variant.name, classes, train, test, str(folder), flip=True)


def _records(file: Path, label_bytes: int) -> tuple[Images, Labels]:
    """Images uint8 [n, 32, 32, 3] and labels int64 [n] of one binary file.

    A record is one or two label bytes, then 3072 pixels, channel by channel.
    """
    length = label_bytes + _NUM_PIXELS
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error}); extract the archive again.") from error
    if content.size == 0 or content.size % length:
        raise UserError(
            f"{file} has {content.size} bytes, not a multiple of {length}; it is truncated, extract it again."
        )
    records = content.reshape(-1, length)
    pixels = records[:, label_bytes:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), records[:, label_bytes - 1].astype(np.int64)


def _read_pickled(variant: Variant, folder: Path) -> Source:
    dataset = _torchvision(variant)
    published = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    for name, checksum in published:
        _check_published(folder / name, checksum)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's about the old dtypes in these pickles
        train, test = (dataset(str(folder.parent), train=is_train) for is_train in (True, False))
    return clean_source(variant.name, tuple(train.classes), _arrays(train), _arrays(test), str(folder), flip=True)


def _check_published(file: Path, checksum: str) -> None:
    try:
        found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error}); extract the archive again.") from error
    if found != checksum:
        raise UserError(
            f"{file} is not the published file (its MD5 is {found}, not {checksum}) and is not opened, "
            "because a changed pickle could run code; fetch it again, or use the binary version."
        )


def _arrays(dataset: Any) -> tuple[Images, npt.NDArray[np.int64]]:
    return np.ascontiguousarray(dataset.data), np.array(dataset.targets, dtype=np.int64)


def _torchvision(variant: Variant) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, variant.torchvision_class)

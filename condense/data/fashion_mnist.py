"""Fashion-MNIST: 60,000 and 10,000 grey images of clothes, 28x28 (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data import idx
from condense.data.clean_sets import cache_folder, clean_source, downloading
from condense.data.types import Images, Source
from condense.errors import UserError

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

_TORCHVISION_FOLDER = Path("FashionMNIST", "raw")


def load(root: Path | None, download: bool) -> Source:
    """The first of: the folder `root`, Debian's package, an earlier download, torchvision's if allowed.

    Args:
        root: folder of the four idx files (raw or .gz), or torchvision's root folder.
        download: whether torchvision may fetch the files, into `root` or `~/.cache/dmis`.

    Raises:
        UserError: the files are not found, or damaged.
        RunFailed: the download failed.
    """
    folder = _find(root)
    if folder is None and download:
        folder = _download(root or cache_folder())
    if folder is None:
        looked = f"{root} holds no idx files" if root else "its files are not on this machine"
        raise UserError(
            f"fashion-mnist: {looked}. Three ways: give the folder with train-images-idx3-ubyte(.gz) and its "
            "three others (--root FOLDER), install Debian's package dataset-fashion-mnist, or let "
            "torchvision fetch them (--download)."
        )
    train, test = _split(folder, "train"), _split(folder, "t10k")
    return clean_source("fashion-mnist", CLASSES, train, test, str(folder), flip=True)


def _find(root: Path | None) -> Path | None:
    places = [root, root / _TORCHVISION_FOLDER] if root else [DEBIAN_FOLDER, cache_folder() / _TORCHVISION_FOLDER]
    return next((place for place in places if _file(place, "train-images-idx3-ubyte")), None)


def _file(folder: Path, name: str) -> Path | None:
    """The file under its name, or with a dot before "idx" as some copies have it, raw or gzipped."""
    names = (name, name.replace("-idx", ".idx"))
    return next((file for each in names for file in (folder / each, folder / f"{each}.gz") if file.is_file()), None)


def _split(folder: Path, prefix: str) -> tuple[Images, npt.NDArray[np.uint8]]:
    images, labels = (
        _array(folder, f"{prefix}-images-idx3-ubyte", 3),
        _array(folder, f"{prefix}-labels-idx1-ubyte", 1),
    )
    if len(images) != len(labels):
        raise UserError(f"{folder}: {len(images)} {prefix} images, but {len(labels)} labels; fetch the files again.")
    return images[..., None], labels


def _array(folder: Path, name: str, num_axes: int) -> npt.NDArray[np.uint8]:
    file = _file(folder, name)
    if file is None:
        raise UserError(f"{folder} lacks {name} (raw or .gz); all four files are needed.")
    return idx.read(file, num_axes)


def _download(root: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    with downloading("fashion-mnist"):
        FashionMNIST(str(root), download=True)
    return root / _TORCHVISION_FOLDER

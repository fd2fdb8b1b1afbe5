"""Imagenette: ten easy ImageNet classes, 9,469 and 3,925 photographs, brought to 64x64 (Howard 2019)."""

from __future__ import annotations

from pathlib import Path

from condense.data import folder
from condense.data.clean_sets import cache_folder, clean_source, downloading
from condense.data.decode import LEVELS
from condense.data.pictures import Form, Handling, read, refuse_unreadable
from condense.data.types import Images, Labels, Source
from condense.errors import UserError

IMAGE_SIZE = 64

NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}

_ARCHIVE_FOLDERS = ("imagenette2-160", "imagenette2-320", "imagenette2")


def load(root: Path | None, handling: Handling, download: bool) -> Source:
    """The folder `root`, or an earlier download in `~/.cache/dmis`, or torchvision's (160 px) if allowed.

    Args:
        root: the extracted folder with train/ and val/, or the folder it lies in.
        handling: side to bring the pictures to, 64 if None, and how; see `pictures.Handling`.
        download: whether torchvision may fetch the 160 px version (100 MB).

    Raises:
        UserError: nothing found, other classes than Imagenette's, or an unreadable image.
        RunFailed: the download failed.
    """
    root = root or cache_folder()
    found = next((place for place in (root, *(root / name for name in _ARCHIVE_FOLDERS)) if _complete(place)), None)
    if found is None and download:
        found = _download(root)
    if found is None:
        raise UserError(
            f"imagenette: {root} has no folders train and val; give the extracted folder (--root FOLDER), "
            "or let torchvision fetch it (--download)."
        )
    return _read(found, handling)


def _complete(path: Path) -> bool:
    return (path / "train").is_dir() and (path / "val").is_dir()


def _read(path: Path, handling: Handling) -> Source:
    wnids = sorted(NAMES)
    splits: list[tuple[Images, Labels]] = []
    unreadable: dict[Path, str] = {}
    side = handling.image_size or IMAGE_SIZE
    # EXIF orientation is ignored: published numbers are from torchvision's loader, which ignores it
    form = Form(side, side, grey=False, fit=handling.fit, background=LEVELS[handling.background], turned=False)
    for split in ("train", "val"):
        by_class = folder.class_folders(path / split)
        if sorted(by_class) != wnids:
            raise UserError(
                f"{path / split} has the classes {', '.join(by_class)}; Imagenette's are {', '.join(wnids)}."
            )
        files, labels = folder.flatten(by_class, wnids)
        images, readable, damaged = read(files, form)
        unreadable |= damaged
        splits.append((images, labels) if readable.all() else (images[readable], labels[readable]))
    if not handling.skip_unreadable:
        refuse_unreadable(unreadable, sum(len(images) for images, _ in splits), path)
    return clean_source("imagenette", tuple(NAMES[wnid] for wnid in wnids), splits[0], splits[1], str(path), flip=True)


def _download(root: Path) -> Path:
    from torchvision.datasets import Imagenette

    with downloading("imagenette"):
        Imagenette(str(root), size="160px", download=True)
    return root / _ARCHIVE_FOLDERS[0]

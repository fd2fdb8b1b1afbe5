"""Finding the folders of training and test images by their usual names.

| split | names, in any case, also with "set", "data" or "images" behind them |
|-------|----------------------------------------------------------------------|
| train | train, training                                                      |
| test  | test, testing, tests                                                 |
| val   | val, valid, validation: the test images where there is no test       |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from condense.data.directory import subfolders, walk
from condense.errors import UserError

_SYNONYMS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "tests"),
    "val": ("val", "valid", "validation"),
}
SPLIT_OF = {name: split for split, names in _SYNONYMS.items() for name in names}


@dataclass(frozen=True)
class Splits:
    """Where the images lie: the folder of training images, that of test images, and what is used as neither."""

    train: Path
    test: Path | None
    unused: tuple[Path, ...] = ()


def split_of(name: str) -> str | None:
    """The split that a name stands for: "train", "test", "val" or None."""
    plain = re.sub(r"[-_ ]?(set|data|images|split)$", "", name.strip().casefold())
    return SPLIT_OF.get(plain)


def find(path: Path) -> Splits:
    """The split folders of `path`; `path` itself where there are none, and so holds class folders.

    Raises:
        UserError: two folders stand for one split, there are test images without a folder of training images, or
            images lie beside the split folders, where nothing would use them.
    """
    found = by_split(path)
    train = found.get("train")
    test = found.get("test") or found.get("val")
    if train is None:
        if test is None:
            return Splits(path, None)
        raise UserError(
            f"{path} has a folder of test images ({test.name}) but no folder 'train'; move the other classes into "
            "train/."
        )
    for folder in subfolders(path):
        if folder not in found.values() and walk(folder).pictures:
            raise UserError(
                f"{path} has a folder {train.name}, and beside it {folder.name} with images that nothing would use; "
                f"move them into {train.name}/, call the folder test or val, or take it out."
            )
    unused = (found["val"],) if "test" in found and "val" in found else ()
    return Splits(train, test, unused)


def by_split(path: Path) -> dict[str, Path]:
    """The folders of `path` by the split they stand for. Raises `UserError` where two stand for one."""
    found: dict[str, Path] = {}
    for folder in subfolders(path):
        split = split_of(folder.name)
        if split is None:
            continue
        if split in found:
            raise UserError(f"{path} has {found[split].name} and {folder.name}, both of {split} images; keep one.")
        found[split] = folder
    return found

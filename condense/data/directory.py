"""Listing a folder's files: hidden names skipped, links followed, everything else accounted for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from condense.data.decode import SUFFIXES
from condense.errors import UserError

# what systems, servers and archivers leave behind, in lower case; names that begin with a dot are hidden anyway
_SYSTEM = frozenset(
    {
        *("@eadir", "__macosx", "__pycache__", "#recycle", "$recycle.bin", "lost+found", "system volume information"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)


@dataclass(frozen=True)
class Found:
    """What lies below a folder, each sorted.

    Attributes:
        pictures: files whose ending is that of a picture, links to nowhere among them.
        others: visible files of other kinds.
        hidden: hidden files, and hidden folders, counted as one each.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: tuple[Path, ...]


def is_hidden(name: str) -> bool:
    """Whether a name is not the user's own: it begins with a dot, or a system gave it (Thumbs.db, @eaDir)."""
    return name.startswith((".", "~$")) or name.casefold() in _SYSTEM


def walk(folder: Path) -> Found:
    """All files below `folder`, links to folders followed.

    Raises:
        UserError: a link leads back to a folder it lies in, or a folder cannot be read.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    hidden: list[Path] = []
    for file in _files(folder, hidden):
        is_picture = file.suffix.lower() in SUFFIXES and (file.is_file() or file.is_symlink())
        (pictures if is_picture else others).append(file)
    return Found(tuple(sorted(pictures)), tuple(sorted(others)), tuple(sorted(hidden)))


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted; links to folders count. Raises `UserError` where it cannot be read."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read ({error.strerror}); allow it, or move it away.") from error


def _files(folder: Path, hidden: list[Path]) -> Iterator[Path]:
    """Visible files below `folder`; what is hidden is noted in `hidden`."""
    start = os.path.realpath(folder)
    above = {start, *map(str, Path(start).parents)}
    chains: dict[str, tuple[str, set[str]]] = {str(folder): (start, above)}  # folder: its real path, those it lies in
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real, chain = chains.pop(place)
        hidden += [Path(place, name) for name in (*folders, *files) if is_hidden(name)]
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in folders:
            path = os.path.join(place, name)
            target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)
            if target in chain:
                raise UserError(f"The link {path} leads back to {target}, a folder it lies in; remove the link.")
            chains[path] = target, chain | {target}
        yield from (Path(place, name) for name in files if not is_hidden(name))


def _refuse(error: OSError) -> None:
    raise UserError(
        f"The folder {error.filename} cannot be read ({error.strerror}); allow it, or move it away."
    ) from error

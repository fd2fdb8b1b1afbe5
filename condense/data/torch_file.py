"""Torch's .pt files from strangers: none of their code is run, and no more is unpacked than they store."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.data.memory import check_expansion
from condense.errors import UserError

if TYPE_CHECKING:  # label tables are also read by commands that need no torch
    from torch import Tensor


def load(path: Path, admitted: Sequence[Any] = ()) -> Any:
    """The contents of a file, by torch's weights-only loader, on the CPU.

    Args:
        path: the file.
        admitted: types it may contain besides tensors, see `torch.serialization.safe_globals`.

    Raises:
        UserError: its parts would unpack to far more than is stored.
        Exception: whatever the loader raises for a damaged file, or for one that would run code.
    """
    import torch

    _check_archive(path)
    with torch.serialization.safe_globals(list(admitted)):
        return torch.load(path, map_location="cpu", weights_only=True)


def claimed_and_stored(tensor: Tensor) -> tuple[int, int]:
    """Bytes that a tensor's values take, and bytes behind them: with a stride of 0 one byte becomes any number."""
    return tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()


def _check_archive(path: Path) -> None:
    """Refuse a file whose parts are packed; torch itself stores them as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older form, or damaged: torch finds out
    unpacked = sum(part.file_size for part in parts)
    check_expansion(path.stat().st_size, unpacked, str(path))
    if unpacked > 2 * path.stat().st_size + 2**20:
        raise UserError(f"{path} is packed in a way torch does not; save plain arrays with numpy.savez.")

"""Tensors and JSON in one safetensors file under a seal: the SHA-256 of all of it.

Every saved file of a run (generators, checkpoints, teachers, experts, beliefs) is written and read here. One bit of a
weight flipped on the disk is still a valid weight, with which a generator may draw black images; so a file that does
not match its seal is refused. The seal detects damage; it is not a signature, since anyone who edits a file can reseal
it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.errors import UserError, in_short
from condense.json_values import JSON

if TYPE_CHECKING:
    from torch import Tensor

MISFIT = (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)
"""What using the content of a file may raise where it is of another kind than expected."""

_SEALED, _UNSEALED = "sealed", "meta"  # names of the description in the file's header


def to_bytes(tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> bytes:
    """The content of a file that `read` takes. Tensors that share memory are written separately."""
    from safetensors.torch import save

    plain, text = _separate(tensors), json.dumps(meta)
    return save(plain, metadata={_SEALED: f"{_seal(plain, text)} {text}"})  # one key: the order of several would vary


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and meta of a file.

    A file from a version without seals is read if all its numbers are finite.

    Raises:
        UserError: it is cut short, damaged, changed since it was written, or not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not path.is_file():
            raise ValueError("it is not a regular file")  # reading a named pipe would block for ever
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            sealed = _SEALED in described
            seal, _, text = described[_SEALED].partition(" ") if sealed else ("", "", described[_UNSEALED])
            meta = json.loads(text)
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        if not isinstance(meta, dict):
            raise ValueError("its description is not a mapping")
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError, MemoryError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a readable checkpoint ({in_short(error)}); restore a copy or delete it to start over."
        ) from error
    if not sealed:
        check_finite(tensors, path)
    elif seal != _seal(tensors, text):
        raise UserError(
            f"{path} changed since it was written (its SHA-256 differs); restore a copy or delete it to start over."
        )
    return tensors, meta


@contextmanager
def as_described(place: Path | None) -> Iterator[None]:
    """Turn errors while the content of a file is used into a `UserError` that names the file.

    Keys, types and shapes are only checked on use: a sealed file may still be of another kind, or a stranger's.
    """
    try:
        yield
    except MISFIT as error:
        raise UserError(
            f"{place} does not hold what it should ({type(error).__name__}: {in_short(error)}); restore a copy, or "
            "start over with --force."
        ) from error


def _seal(tensors: Mapping[str, Tensor], meta: str) -> str:
    """SHA-256 (hex) of the meta text, then of each tensor by name: name, dtype, shape and bytes."""
    import torch

    digest = hashlib.sha256(meta.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_finite(tensors: Mapping[str, Tensor], path: Path | None) -> None:
    """Raise `UserError` if the tensors from `path` contain NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"{path} holds NaN or infinity in {name!r}; it is damaged or its training had diverged: restore a copy "
                "or delete it to start over."
            )


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, no two in the same memory (safetensors refuses those)."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return result

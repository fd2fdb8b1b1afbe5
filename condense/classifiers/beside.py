"""A teacher's network in a file beside the condensed set it labelled, so that students can query it.

SET.teacher.safetensors holds the weights and whatever else queries need, without pickles; equal networks give equal
bytes. The set records its SHA-256, which the set's own checksum covers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from condense import tensor_file
from condense.classifiers.teacher import FILE, Teacher, load_teacher, network_weights, restored
from condense.errors import UserError, in_short
from condense.files import atomic_path
from condense.json_values import section, text
from condense.run import JSON, Run
from condense.tensor_file import MISFIT

_KEPT = ("epoch", "loss", "images_seen", "image_shape", "classes", "mean", "std")


def path_beside(path: Path) -> Path:
    """Path of the teacher of the set at `path`."""
    return path.with_name(f"{path.stem}.teacher.safetensors")


def write_beside(folder: Path, path: Path) -> dict[str, JSON]:
    """Copy the trained teacher in a run folder to beside the set at `path`, without the optimiser and times.

    Returns:
        sha256 and bytes of the file, for the set's record.

    Raises:
        UserError: as `load_teacher`, or the place cannot be written to.
        RunFailed: the disk is full.
    """
    load_teacher(folder)
    found = Run(folder).load(FILE)
    assert found is not None
    tensors, meta = found
    told = {name: meta[name] for name in _KEPT}
    told |= {"options": {"network": text(section(meta, "options"), "network")}, "seconds": 0.0}
    target = path_beside(path)
    weights = {f"network.{name}": value for name, value in sorted(network_weights(tensors).items())}
    content = tensor_file.to_bytes(weights, dict(sorted(told.items())))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def read_beside(path: Path, sha256: str | None) -> Teacher | None:
    """The teacher beside the set at `path`, whose record has that SHA-256; None if either is missing.

    Raises:
        UserError: the file is not the one the set was made with, or is damaged.
    """
    target = path_beside(path)
    if sha256 is None or not target.is_file():
        return None
    if hashlib.sha256(target.read_bytes()).hexdigest() != sha256:
        raise UserError(
            f"{target} is not the teacher that {path.name} was made with (SHA-256 differs); fetch it again, or remove "
            "it to train on the soft labels stored in the set."
        )
    found = Run(target.parent).load(target.name.removesuffix(".safetensors"))
    assert found is not None
    try:
        return restored(*found)
    except MISFIT as error:
        raise UserError(f"{target} does not describe a teacher ({in_short(error)}).") from error

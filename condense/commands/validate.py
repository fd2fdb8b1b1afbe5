"""`dmis validate`: check that a file is a complete and correct condensed set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from condense.sets.hdf5 import SCHEMA, read


def validate(path: Path) -> dict[str, Any]:
    """Check the condensed set at `path`: its form, its sizes, its labels and its SHA-256.

    Returns:
        path, valid (True; else there is an error), schema, method, uses_true_labels, images, classes, ipc, sha256 and
        sealed (False: no checksum vouches for what it tells of its making; of an earlier version, or edited).

    Raises:
        UserError: it is not whole and right; the message says what is wrong.
    """
    condensed = read(path)
    return {
        "path": str(path),
        "valid": True,
        "schema": SCHEMA,
        "method": condensed.provenance.method,
        "uses_true_labels": condensed.uses_true_labels,
        "images": len(condensed),
        "classes": condensed.num_classes,
        "ipc": condensed.ipc,
        "sha256": condensed.sha256(),
        "sealed": condensed.provenance.sealed,
    }

"""`dmis validate`: check that a file is a complete and correct condensed set."""

from __future__ import annotations

from pathlib import Path

from condense.json_values import JSON
from condense.sets.hdf5 import SCHEMA, read


def validate(path: Path) -> dict[str, JSON]:
    """Check the condensed set at `path`: its schema, shapes, labels and SHA-256.

    Returns:
        path, valid (always True, since an invalid file raises), schema, method, uses_true_labels, images, classes, ipc,
        sha256 and sealed (False: no checksum protects its provenance; an earlier version wrote the file, or it was
        edited).

    Raises:
        UserError: the file is incomplete or wrong; the message explains how.
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

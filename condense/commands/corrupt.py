"""`dmis corrupt`: clean labels made imprecise, kept in a file that every other command reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from condense.commands._data import given_labels, load_source
from condense.data import arrays, corrupt
from condense.errors import UserError
from condense.recipe import DataRecipe
from condense.run import atomic_path, prepare_output


def corrupt_labels(data: DataRecipe, *, seed: int, out: Path, force: bool = False) -> dict[str, Any]:
    """Write the images of `data` with labels made imprecise by its `noise`, the clean ones beside them.

    Args:
        data: what to read, and the noise.
        seed: of the noise.
        out: an .npz file.
        force: whether an existing file is replaced.

    Returns:
        path, images, supervision, corruption and overall_rate.

    Raises:
        UserError: no noise or no clean labels to inject it into; `out` exists or is no .npz.
        RunFailed: the disk is full.
    """
    if out.suffix.lower() != ".npz":
        raise UserError(f"{out} would not be read back; give --out a name that ends in .npz.")
    if corrupt.parse(data.noise).kind == "none":
        raise UserError("No noise was asked for; give a kind and rate, e.g. --noise sym:0.4.")
    prepare_output(out, force=force)
    source = load_source(data)
    supervision, corruption = given_labels(source, data.noise, seed)
    with atomic_path(out) as temporary:
        arrays.write_npz(temporary, source, supervision, corruption)
    return {
        "path": str(out),
        "images": len(source.train),
        "supervision": supervision.kind,
        "corruption": corruption.spec,
        "overall_rate": corruption.overall_rate,
    }

"""`dmis corrupt`: make clean labels imprecise and write a file that every other command can read."""

from __future__ import annotations

from pathlib import Path

from condense.data import arrays
from condense.data.noise_spec import parse_noise
from condense.errors import UserError
from condense.json_values import JSON
from condense.pipeline.data import given_labels, load_source
from condense.recipe import DataRecipe
from condense.run import atomic_path, prepare_output


def corrupt_labels(data: DataRecipe, *, seed: int, out: Path, force: bool = False) -> dict[str, JSON]:
    """Write the images of `data` with labels corrupted by its `noise`, or taken from a label file.

    Clean labels are written too if they are known.

    Args:
        data: the data set, and the noise or the labels.
        seed: seed of the noise.
        out: an .npz file.
        force: whether an existing file is replaced.

    Returns:
        path, images, supervision, corruption and overall_rate.

    Raises:
        UserError: there is no noise, or no clean labels to inject it into; `out` exists or does not end in .npz.
        RunFailed: the disk is full.
    """
    if out.suffix.lower() != ".npz":
        raise UserError(f"{out} could not be read back; give --out a name that ends in .npz.")
    if parse_noise(data.noise).keeps_all and data.labels is None:
        raise UserError("No noise was requested; give a kind and rate, e.g. --noise sym:0.4, or a file with --labels.")
    given = given_labels(load_source(data), data, seed)
    prepare_output(out, force=force)
    source, corruption = given.source, given.corruption
    with atomic_path(out) as temporary:
        arrays.write_npz(temporary, source, source.supervision, corruption)
    return {
        "path": str(out),
        "images": len(source.train),
        "supervision": source.supervision.kind,
        "corruption": corruption.spec,
        "overall_rate": corruption.overall_rate,
    }

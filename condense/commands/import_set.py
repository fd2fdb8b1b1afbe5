"""`dmis import`: another program's condensed set, converted so that it can be scored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from condense import __version__
from condense.data.types import ImageData
from condense.errors import UserError
from condense.evaluate.score import check_same_kind
from condense.files import prepare_output
from condense.pipeline.data import load_source, places, tell_of_flip
from condense.preprocessing import Preprocessing, standardisation
from condense.recipe import DataRecipe
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet, Provenance
from condense.sets.foreign import read_foreign
from condense.sets.hdf5 import write


@dataclass(frozen=True)
class ImportOptions:
    """Facts about the set that the file does not record.

    Attributes:
        method: name of the method that made the set, e.g. "dsa".
        mean: channel means used to normalise the images; the file's own, or for a .pt file VICO's for the data set,
            when empty.
        std: channel standard deviations, likewise.
        packing: number of pictures in one image, in a square grid, which scoring cuts apart, see `condense.packing`.

    Raises:
        UserError: a number is out of range.
    """

    method: str = "imported"
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    packing: int = 1

    def __post_init__(self) -> None:
        if self.packing < 1 or math.isqrt(self.packing) ** 2 != self.packing:
            raise UserError(f"packing is {self.packing}; pictures are packed in a square: 1, 4, 9 and so on.")


def import_set(
    path: Path, out: Path, data: DataRecipe, options: ImportOptions, *, force: bool = False
) -> dict[str, JSON]:
    """Convert another program's condensed set to .h5.

    Args:
        path: a .pt or .npz file, see `condense.sets.foreign`.
        out: the .h5 file.
        data: the data set it was made from, and the noise.
        options: see `ImportOptions`.
        force: whether `out` may be replaced.

    Returns:
        path, method, images, ipc, classes, labels ("hard", or "hard and soft") and sha256.

    Raises:
        UserError: as `read_foreign`; the set does not belong to the data; `out` exists.
        RunFailed: the disk is full.
    """
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"A condensed set is HDF5; give --out a name that ends in .h5, not {str(out)!r}.")
    prepare_output(out, force=force)
    given = Preprocessing(tuple(options.mean), tuple(options.std)) if options.mean or options.std else None
    found = read_foreign(path, given, data.name)
    side = int(found.images.shape[1])
    source = load_source(data.model_copy(update={"image_size": data.image_size or side}))
    tell_of_flip(source.train)
    classes = source.train.classes
    counts = np.bincount(found.labels[found.labels >= 0], minlength=len(classes))
    made = CondensedSet(
        images=found.images,
        labels=found.labels,
        classes=classes,
        preprocessing=found.preprocessing or standardisation(source.train.images),
        provenance=_provenance(path, data, options, int(counts[0]), source.train, found.temperature),
        value_range=(0.0, 255.0) if found.images.dtype == np.uint8 else (0.0, 1.0),
        soft_labels=found.soft_labels,
    )
    check_same_kind(made, source.train)
    write(out, made, force=force)
    return {
        "path": str(out),
        "method": options.method,
        "images": len(made),
        "ipc": made.ipc,
        "classes": made.num_classes,
        "labels": "hard" if made.soft_labels is None else "hard and soft",
        "sha256": made.sha256(),
    }


def _provenance(
    path: Path, data: DataRecipe, options: ImportOptions, ipc: int, train: ImageData, temperature: float | None
) -> Provenance:
    return Provenance(
        method=options.method,
        ipc=ipc,
        seed=0,
        recipe={"data": data.model_dump(mode="json")},
        data_name=data.name,
        data_fingerprint=train.fingerprint(),
        supervision="noisy" if data.noise != "none" else "labelled",
        corruption=data.noise,
        corruption_rate=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        package_version=__version__,
        notes={
            "imported_from": path.name,
            "imported_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "pack": math.isqrt(options.packing),
            "flip": train.may_flip,
            **({} if temperature is None else {"soft_label_temperature": temperature}),
            **places(data),
        },
    )

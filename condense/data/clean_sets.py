"""Shared by the clean benchmarks: the download folder, and a `Source` from arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.types import ImageData, Images, Source, Supervision, Truth, check_labels
from condense.errors import RunFailed


def cache_folder() -> Path:
    """Where downloads go, and are found again, when no folder is given: ~/.cache/dmis."""
    return Path.home() / ".cache" / "dmis"


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Wraps torchvision's download: any failure becomes one sentence (`RunFailed`)."""
    try:
        yield
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise RunFailed(
            f"downloading {name} failed ({error}); try again, or fetch it elsewhere and give its folder with --root."
        ) from error


def clean_source(
    name: str,
    classes: tuple[str, ...],
    train: tuple[Images, npt.NDArray[np.integer]],
    test: tuple[Images, npt.NDArray[np.integer]],
    origin: str,
    *,
    flip: bool,
) -> Source:
    """A benchmark whose labels are all right.

    Args:
        name: its short name.
        classes: c class names.
        train: uint8 [n, H, W, C] and whole numbers [n] in [0, c).
        test: the same for the test split.
        origin: where the files lie, for the record.
        flip: whether a mirror image still shows its class.

    Raises:
        UserError: a label is out of range.
    """
    for _, labels in (train, test):
        check_labels(labels, len(classes), f"{name} labels from {origin}")
    provenance = {"source": name, "path": origin}
    return Source(
        ImageData(train[0], classes, name, "train", provenance, flip),
        Supervision.from_labels(train[1], len(classes), trusted=True),
        Truth(train[1].astype(np.int64)),
        ImageData(test[0], classes, name, "test", provenance, flip),
        Truth(test[1].astype(np.int64)),
    )

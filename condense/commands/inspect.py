"""`dmis inspect`: the contents of a condensed set or a data set, in numbers and as a picture."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from condense.data.types import Corruption, Images, Labels, Source, Supervision, Truth
from condense.errors import UserError
from condense.evaluate.neighbours import first_copies
from condense.files import prepare_output
from condense.grid import grid, save_png
from condense.json_values import JSON
from condense.pipeline.data import given_labels, load_source
from condense.recipe import DataRecipe
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import is_condensed_set, read

_MOST_SIZES, _MOST_NAMED = 10, 100
_SHOWN_SIDE = 64  # pixels; smaller images are enlarged to about this


def inspect(
    data: DataRecipe,
    *,
    grid_png: Path | None = None,
    columns: int = 10,
    seed: int = 0,
    force: bool = False,
) -> dict[str, JSON]:
    """Describe a condensed set, or a data set given by name or path, as JSON.

    For a data set it reports what was read, how unusual images were converted, which files were skipped and why
    (unreadable ones included, which other commands refuse unless told to skip them), and which images are duplicates.

    Args:
        data: its name is an .h5 condensed set, or as for `condense.data.sources.load`; the rest is for data sets.
        grid_png: file for a picture of the first images of each class, one row per class; None for none.
        columns: images per row of the picture.
        seed: seed of the noise in the labels.
        force: whether an existing picture is replaced.

    Returns:
        kind "condensed set" or "data set", then its description.

    Raises:
        UserError: the data cannot be read; noise was requested without clean labels; the picture exists or is not .png.
    """
    if grid_png is not None and grid_png.suffix.lower() != ".png":
        raise UserError(f"The picture is a PNG; give --grid a name that ends in .png, not {str(grid_png)!r}.")
    path = Path(data.name)
    if is_condensed_set(path):
        condensed = read(path)
        if grid_png is not None:
            _save_rows(grid_png, condensed.pictures(), condensed.labels, columns, force=force)
        return _describe_set(path, condensed)
    given = given_labels(load_source(data.model_copy(update={"skip_unreadable": True})), data, seed)
    if grid_png is not None:
        _save_rows(grid_png, given.source.train.images, given.source.supervision.observed, columns, force=force)
    return _describe_data(given.source, given.corruption)


def _describe_set(path: Path, condensed: CondensedSet) -> dict[str, JSON]:
    process = condensed.preprocessing
    return {
        "kind": "condensed set",
        "path": str(path),
        "bytes": path.stat().st_size,
        "images": len(condensed),
        "ipc": condensed.ipc,
        "packing": condensed.packing,
        "classes": list(condensed.classes),
        "image_shape": list(condensed.images.shape[1:]),
        "dtype": str(condensed.images.dtype),
        "value_range": list(condensed.value_range),
        "found_range": [float(condensed.images.min()), float(condensed.images.max())],
        "preprocessing": {
            "mean": list(process.mean),
            "std": list(process.std),
            "zca": process.zca_mean is not None,
        },
        "soft_labels": condensed.soft_labels is not None,
        "weights": condensed.weights is not None,
        "source_index": condensed.source_index is not None,
        "sha256": condensed.sha256(),
        "provenance": asdict(condensed.provenance),
    }


def _describe_data(source: Source, corruption: Corruption) -> dict[str, JSON]:
    train, supervision = source.train, source.supervision
    observed = supervision.observed
    counts = np.bincount(observed[observed >= 0], minlength=train.num_classes)
    return {
        "kind": "data set",
        "name": train.name,
        "images": len(train),
        "test_images": 0 if source.test is None else len(source.test),
        "image_shape": list(train.images.shape[1:]),
        "classes": list(train.classes),
        "class_counts": dict(zip(train.classes, counts.tolist(), strict=True)),
        "supervision": supervision.kind,
        "images_with_one_label": int(supervision.single.sum()),
        "images_without_label": int(supervision.unlabelled.sum()),
        "mean_candidates": _mean_candidates(supervision),
        "corruption": corruption.spec,
        "corruption_rate": corruption.overall_rate,
        "wrong_labels": _wrong_share(supervision, source.truth),
        "may_flip": train.may_flip,
        "duplicates": _duplicates(source),
        "sizes": _sizes(source.reading.sizes),
        "changed": dict(source.reading.changed),
        "skipped": {why: _some(files) for why, files in source.reading.skipped.items()},
        "notes": list(source.reading.notes),
        "fingerprint": train.fingerprint(),
        "provenance": dict(train.provenance),
    }


def _mean_candidates(supervision: Supervision) -> float | None:
    """Mean number of candidate classes per image; images without a label are left out."""
    labelled = supervision.candidates[~supervision.unlabelled]
    return float(labelled.sum(axis=1).mean()) if len(labelled) else None


def _some(files: Sequence[str]) -> dict[str, JSON]:
    return {"files": len(files), "which": list(files[:_MOST_NAMED])}


def _sizes(found: Counter[tuple[int, int]]) -> dict[str, int]:
    """The number of images of each of the most frequent sizes, and of all other sizes."""
    told = {f"{width}x{height}": count for (width, height), count in found.most_common(_MOST_SIZES)}
    others = found.total() - sum(told.values())
    return {**told, "others": others} if others else told


def _duplicates(source: Source) -> dict[str, int]:
    """Counts of duplicate images, of those with different labels, and of test images among the training images.

    Returns:
        images: training images equal to an earlier one; other_labels: those of them with other candidates than the
        first one; test_in_training: test images equal to a training image.
    """
    train = source.train.images
    tested = train[:0] if source.test is None else source.test.images
    first = first_copies(itertools.chain(train, tested))
    again = np.flatnonzero(first[: len(train)] != np.arange(len(train)))
    candidates = source.supervision.candidates
    return {
        "images": int(again.size),
        "other_labels": int((candidates[again] != candidates[first[again]]).any(axis=1).sum()),
        "test_in_training": int((first[len(train) :] < len(train)).sum()),
    }


def _wrong_share(supervision: Supervision, truth: Truth | None) -> float | None:
    """Fraction, in [0, 1], of images whose candidates do not include the true class; None if unknown."""
    if truth is None:
        return None
    return float(1 - supervision.candidates[np.arange(len(truth)), truth.labels].mean())


def _save_rows(path: Path, images: Images, labels: Labels, columns: int, *, force: bool) -> None:
    """Save the first `columns` images of each class, one row per class; a square of images if none has a label."""
    prepare_output(path, force=force)
    scale = max(1, _SHOWN_SIDE // images.shape[1])
    if (labels < 0).all():
        save_png(path, grid(images[: columns**2], columns, scale=scale))
        return
    columns = min(columns, int(np.bincount(labels[labels >= 0]).max()))
    blank = np.full((1, *images.shape[1:]), 255, dtype=np.uint8)
    rows = []
    for label in np.unique(labels[labels >= 0]):
        row = images[np.flatnonzero(labels == label)[:columns]]
        rows += [row, blank.repeat(columns - len(row), axis=0)]
    save_png(path, grid(np.concatenate(rows), columns, scale=scale))

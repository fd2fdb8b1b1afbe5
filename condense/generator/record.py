"""A generator's record of its training, for provenance and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict, cast, get_args, get_type_hints

from condense.run import JSON


class TrainingRecord(TypedDict, total=False):
    """Written by the loop and its driver; a generator taken from the loop alone has only the first fields."""

    objective: str
    seed: int
    steps: int
    selected_step: int
    held_out_loss: float
    seconds: float  # prerequisites included, as in the counts below
    prepared_seconds: dict[str, float]
    evaluations: int
    images_seen: int
    peak_memory_bytes: int
    data: str
    data_fingerprint: str
    labels_fingerprint: str
    held_out: float  # share of the images
    corruption: str
    arithmetic: Mapping[str, Any]  # of JSON


def checked(found: Mapping[str, Any]) -> TrainingRecord:
    """The record of a file that may come from anywhere; what it says beyond a record's lines stays as it is.

    Raises:
        ValueError: a line is of another type, or a number that is none.
    """
    for name, kind in get_type_hints(TrainingRecord).items():
        if name in found and not _fits(found[name], kind):
            raise ValueError(f"the record of its training says {found[name]!r} of {name}")
    return cast(TrainingRecord, dict(found))


def _fits(value: object, kind: Any) -> bool:
    """Whether a value read from JSON is of the type of a record's line."""
    if kind in (int, float):
        types = int if kind is int else (int, float)
        return isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str:
        return isinstance(value, str)
    _, of_values = get_args(kind)
    return isinstance(value, Mapping) and (of_values is not float or all(_fits(v, float) for v in value.values()))


def as_json(record: TrainingRecord) -> dict[str, JSON]:
    """The same as plain JSON values."""
    return cast(dict[str, JSON], dict(record))

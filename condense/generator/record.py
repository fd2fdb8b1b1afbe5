"""A generator's record of its training, for provenance and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from condense.run import JSON


@dataclass(frozen=True)
class TrainingRecord:
    """What a generator was trained on, how and at what cost.

    The loop and its driver fill it in; a generator taken from the loop alone has only the first fields, the others are
    None. The fields are in the order of the file.

    Attributes:
        objective: name of the objective.
        seed: seed of the training.
        steps: steps trained.
        held_out_loss: loss of the given labels of held-out images, in nats; None without such images.
        selected_step: the step whose weights were kept.
        seconds: time taken; prerequisites are included, as in the counts below.
        evaluations: images passed through networks.
        images_seen: training images shown, repetitions counted.
        peak_memory_bytes: the most memory taken.
        data: name of the data set.
        data_fingerprint: its `ImageData.fingerprint`.
        labels_fingerprint: `Supervision.fingerprint` of its labels.
        held_out: share of the images that were held out, in [0, 1].
        corruption: the noise injected into its labels, or "none".
        arithmetic: precision of the numbers and what else decides whether a training repeats to the bit.
        prepared_seconds: the part of `seconds` that each prerequisite took.
        others: other entries of the file.
    """

    objective: str
    seed: int
    steps: int | None = None
    held_out_loss: float | None = None
    selected_step: int | None = None
    seconds: float | None = None
    evaluations: int | None = None
    images_seen: int | None = None
    peak_memory_bytes: int | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    labels_fingerprint: str | None = None
    held_out: float | None = None
    corruption: str | None = None
    arithmetic: Mapping[str, Any] | None = None  # of JSON; `get_type_hints` cannot resolve that name
    prepared_seconds: Mapping[str, float] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> TrainingRecord:
        """The record read from a file that may come from anywhere.

        Raises:
            ValueError: objective or seed is missing, or an entry is of another type or not finite.
        """
        kinds = {name: kind for name, kind in get_type_hints(cls).items() if name != "others"}
        for name, kind in kinds.items():
            if name in found and not _fits(found[name], kind):
                raise ValueError(f"the record of its training has {found[name]!r} as {name}")
        missing = [name for name in ("objective", "seed") if name not in found]
        if missing:
            raise ValueError(f"the record of its training lacks {' and '.join(missing)}")
        others = {name: value for name, value in found.items() if name not in kinds}
        return cls(**{name: value for name, value in found.items() if name in kinds}, others=others)

    def to_json(self) -> dict[str, JSON]:
        """The known entries as plain JSON values."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "others"}
        return {**{name: value for name, value in values.items() if value is not None}, **self.others}


def _fits(value: object, kind: Any) -> bool:
    """Whether a value read from JSON is of the type of a field, for a value that is there."""
    if kind in (int, float):
        types = int if kind is int else (int, float)
        return isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    if kind is str:
        return isinstance(value, str)
    first, *rest = get_args(kind)
    if type(None) in rest:
        return _fits(value, first)
    return isinstance(value, Mapping) and (rest != [float] or all(_fits(each, float) for each in value.values()))

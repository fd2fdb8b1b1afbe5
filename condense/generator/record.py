"""What a generator remembers of its training, for provenance and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast

from condense.run import JSON


class TrainingRecord(TypedDict, total=False):
    """Written by the loop and by what drives it; a generator taken from a loop alone has the first lines only."""

    objective: str
    seed: int
    steps: int
    selected_step: int
    held_out_loss: float
    seconds: float  # what was prepared included, as in the counts below
    prepared_seconds: dict[str, float]
    evaluations: int
    images_seen: int
    peak_memory_bytes: int
    data: str
    data_fingerprint: str
    labels_fingerprint: str
    held_out: float  # share of the images
    corruption: str
    arithmetic: Mapping[str, JSON]


def as_json(record: TrainingRecord) -> dict[str, JSON]:
    """The same as plain JSON values."""
    return cast(dict[str, JSON], dict(record))

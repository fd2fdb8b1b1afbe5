"""The identity of a run in its checkpoints: what all sessions of a training share."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from condense.changes import changes
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.options import NetworkOptions, TrainOptions
from condense.run import JSON

if TYPE_CHECKING:
    from torch import Tensor


def identity(
    data: TrainingSet, network: NetworkOptions, options: TrainOptions, seed: int, beliefs: Tensor | None
) -> dict[str, JSON]:
    """Options, seed, data, labels and given beliefs [n, c] of a training, as its checkpoints name them."""
    return {
        "options": options.model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "seed": seed,
        **data.identity(),
        "beliefs": None if beliefs is None else sha256(beliefs.cpu().numpy().tobytes()).hexdigest(),
    }


def check_identity(meta: Mapping[str, JSON], mine: Mapping[str, JSON]) -> None:
    """Raise `UserError` with the differences if a checkpoint's `meta` is of another run than `mine`."""
    changed = changes({**meta, **_completed(meta)}, mine)
    if changed:
        raise UserError(
            f"The checkpoint belongs to a run with other {', '.join(changed)}; use the same or start afresh."
        )


def _completed(meta: Mapping[str, JSON]) -> dict[str, JSON]:
    """A checkpoint's options, completed by defaults for newer ones; empty if they cannot be read."""
    try:
        return {
            "options": TrainOptions.model_validate(meta["options"]).model_dump(mode="json"),
            "network": NetworkOptions.model_validate(meta["network"]).model_dump(mode="json"),
        }
    except (KeyError, ValueError):
        return {}

"""The options of a labeller, see `labeller.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from condense.options import Options


class LabellerOptions(Options):
    """How the labeller is trained."""

    QUICK: ClassVar[Mapping[str, Any]] = {"folds": 2, "rounds": 1, "epochs": 2, "width": 8, "crops": False}

    folds: int | None = Field(
        None,
        ge=2,
        description="folds, each judged by a network that did not see it; when empty 2, or 5 for few images",
    )
    rounds: int = Field(
        2,
        ge=1,
        le=10,
        description="rounds of training; from the second on, networks learn from the beliefs of the round before",
    )
    width: int = Field(
        16, ge=1, description="channels of the first of three blocks; the others have four times as many"
    )
    epochs: int | None = Field(
        None, ge=1, description="epochs over the labelled images; when empty 8, and more for few images"
    )
    batch_size: int = Field(256, ge=2, description="images per step, at most a sixteenth of the labelled ones")
    learning_rate: float = Field(0.5, gt=0, description="peak learning rate of SGD, for 256 images per step")
    crops: bool = Field(True, description="whether to judge shifted views too, which takes three times as long")

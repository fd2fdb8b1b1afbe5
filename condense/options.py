"""The base of every class of options: typed, frozen, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Options with defaults and a description per field; a misspelt key, infinity and NaN are errors.

    Attributes:
        QUICK: values, nested like the options, for the smallest budget that still runs every stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    QUICK: ClassVar[Mapping[str, Any]] = {}

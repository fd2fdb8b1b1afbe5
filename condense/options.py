"""The base of every class of options: typed, frozen, unknown keys refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Options with defaults and a description a field; a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

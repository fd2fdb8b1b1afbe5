"""Notices to the user that are not errors: one sentence each, on stderr, once per process."""

from __future__ import annotations

import logging
from functools import cache

LOGGER = logging.getLogger("condense")
"""Programs that use the package may silence or collect the sentences here."""


@cache
def tell(sentence: str) -> None:
    """Show a sentence once per process."""
    LOGGER.warning("note: %s", sentence)

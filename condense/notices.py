"""Notes to the user where nothing is wrong: one sentence each, on stderr, once."""

from __future__ import annotations

import logging
from functools import cache

LOGGER = logging.getLogger("condense")
"""Programs that use the package may silence or collect the sentences here."""


@cache
def tell(sentence: str) -> None:
    """Tell a sentence, the first time that it is to be told in this process."""
    LOGGER.warning("note: %s", sentence)

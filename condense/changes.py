"""The differences between a saved run and the requested one, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 40  # characters of a value that are worth showing; fingerprints are not


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each key of `now` whose value differs from the one before, with the changed values: `seed (0, now 1)`.

    Args:
        before: the saved values; keys that `now` lacks are ignored.
        now: the requested values, plain JSON.
    """
    found = []
    for key, value in now.items():
        if before.get(key) != value:
            details = "; ".join(_leaves(before.get(key), value, ""))
            found.append(f"{key} ({details})" if details else key)
    return found


def _leaves(before: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*now, *before]):
            if before.get(key) != now.get(key):
                yield from _leaves(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        return
    texts = [json.dumps(value, default=str) for value in (before, now)]
    if max(map(len, texts)) <= _LONGEST:
        yield f"{name} {texts[0]}, now {texts[1]}".strip()
    elif name:
        yield name

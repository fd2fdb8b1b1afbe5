"""JSON from a file, read entry by entry as the type it must be.

Files may come from anywhere, so every reader of an entry states its type. A missing entry is a `KeyError`, one of
another type a `TypeError`; `tensor_file.as_described` turns both into a sentence that names the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


Value = TypeVar("Value")


def whole(values: Mapping[str, JSON], name: str) -> int:
    """The entry `name`, a whole number."""
    found = values[name]
    if isinstance(found, bool) or not isinstance(found, int):
        raise _other(found, name, "a whole number")
    return found


def number(values: Mapping[str, JSON], name: str) -> float:
    """The entry `name`, a number; NaN and infinity are numbers too."""
    return _float(values[name], name)


def text(values: Mapping[str, JSON], name: str) -> str:
    """The entry `name`, a text."""
    found = values[name]
    if not isinstance(found, str):
        raise _other(found, name, "a text")
    return found


def section(values: Mapping[str, JSON], name: str) -> Mapping[str, JSON]:
    """The entry `name`, an object with entries of its own."""
    found = values[name]
    if not isinstance(found, Mapping):
        raise _other(found, name, "an object")
    return found


def listed(values: Mapping[str, JSON], name: str) -> Sequence[JSON]:
    """The entry `name`, a list."""
    found = values[name]
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise _other(found, name, "a list")
    return found


def wholes(values: Mapping[str, JSON], name: str) -> tuple[int, ...]:
    """The entry `name`, a list of whole numbers."""
    return tuple(whole({name: each}, name) for each in listed(values, name))


def numbers(values: Mapping[str, JSON], name: str) -> tuple[float, ...]:
    """The entry `name`, a list of numbers."""
    return tuple(_float(each, name) for each in listed(values, name))


def texts(values: Mapping[str, JSON], name: str) -> tuple[str, ...]:
    """The entry `name`, a list of texts."""
    return tuple(text({name: each}, name) for each in listed(values, name))


def sections(values: Mapping[str, JSON], name: str) -> tuple[Mapping[str, JSON], ...]:
    """The entry `name`, a list of objects."""
    return tuple(section({name: each}, name) for each in listed(values, name))


def maybe(read: Callable[[Mapping[str, JSON], str], Value], values: Mapping[str, JSON], name: str) -> Value | None:
    """The entry `name` as `read` reads it; None where it is missing or null."""
    return None if values.get(name) is None else read(values, name)


def _float(found: JSON, name: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _other(found, name, "a number")
    return float(found)


def _other(found: JSON, name: str, wanted: str) -> TypeError:
    return TypeError(f"{name!r} must be {wanted}, found {str(found)[:40]!r}")

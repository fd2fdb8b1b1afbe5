"""Baseline classifiers that learn from imprecise labels: the registry is the folder itself.

An arm is a file here with

- `Options`: a pydantic model, frozen, unknown keys forbidden (subclass `condense.options.Options`);
- `check(supervision)`: raises `UserError` if it cannot learn from labels of that kind;
- `lesson(given, options) -> Lesson`: the arguments of the shared training loop;
- a docstring that names its source.

Its name is the file's, with "-" for "_". An arm receives the given labels, never the truth.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Protocol, cast

from condense.classifiers.arms._lesson import Given, Lesson
from condense.data.types import Supervision
from condense.errors import UserError
from condense.options import Options as BaseOptions


class Arm(Protocol):
    """The interface of an arm's module."""

    Options: type[BaseOptions]

    def check(self, supervision: Supervision) -> None:
        """Raise `UserError` if the arm cannot learn from such labels."""
        ...

    def lesson(self, given: Given, options: BaseOptions) -> Lesson:
        """The arguments of the training loop."""
        ...


def names() -> tuple[str, ...]:
    """Names of the arms in this folder, sorted; nothing is imported."""
    found = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return tuple(sorted(name.replace("_", "-") for name in found))


def load(name: str) -> Arm:
    """Import one arm by name. Raises `UserError` if there is none of that name."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 3, 0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the arms are {', '.join(names())}."
        raise UserError(f"There is no arm {name!r}; {hint}")
    return cast(Arm, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))

"""Baseline classifiers that learn from imprecise labels: the registry is the folder itself, see `condense.plugins`.

An arm is a file here, or a module that an installed package announces by an entry point of the group `dmis.arms`, with

- `Options`: a pydantic model, frozen, unknown keys forbidden (subclass `condense.options.Options`);
- `check(supervision)`: raises `UserError` if it cannot learn from labels of that kind;
- `lesson(given, options) -> Lesson`: the arguments of the shared training loop;
- a docstring that names its source.

The name of a file here is read with "-" for "_". An arm receives the given labels, never the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from condense.plugins import ARMS, Registry

if TYPE_CHECKING:  # the command line needs the names for its help, without loading torch
    from condense.classifiers.lesson import Given, Lesson
    from condense.data.types import Supervision
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


_registry = Registry(
    kind="arm",
    package=__name__,
    group=ARMS,
    functions=("check(supervision)", "lesson(given, options)"),
    space="-",
)
names, installed = _registry.names, _registry.installed


def load(name: str) -> Arm:
    """One arm by its name; see `condense.plugins.Registry.load`."""
    return cast(Arm, _registry.load(name))

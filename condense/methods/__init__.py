"""The registry of condensation methods: the folder itself, see `condense.plugins`.

A method is a file here, a module that an installed package announces by an entry point of the group `dmis.methods`, or
one that the user names by hand: a file in the current folder, or a dotted path. It has

- `Options`: a pydantic model, frozen, unknown keys forbidden (subclass `condense.options.Options`);
- `condense(train, ipc, options, seed, run) -> CondensedSet`;
- a docstring that names its source.

It may also have `evaluations(train, ipc, options) -> int`: the number of images that will pass through networks, for
`--dry-run`, computed without reading a pixel; `stages(train, ipc, options)`, the same as a sequence of (progress bar,
number) pairs if it has several bars; and `check(train, ipc, options)`, which raises `UserError` before any work if the
method cannot handle such labels or classes.

`condense` receives images and imprecise labels, never the truth. It draws all randomness from `seed`, reports
progress and keeps checkpoints through `run`, and returns `ipc` images per class in class-major order, most easily by
`condense.sets.assemble`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from condense.plugins import METHODS, Registry

if TYPE_CHECKING:  # the command line needs the names for its help, without loading torch
    from condense.data.types import TrainingSet
    from condense.options import Options as BaseOptions
    from condense.run import Run
    from condense.sets.condensed_set import CondensedSet


class Method(Protocol):
    """The interface of a method's module."""

    Options: type[BaseOptions]

    def condense(self, train: TrainingSet, ipc: int, options: BaseOptions, seed: int, run: Run) -> CondensedSet:
        """Make a set of `ipc` images per class."""
        ...


_registry = Registry(
    kind="method",
    package=__name__,
    group=METHODS,
    functions=("condense(train, ipc, options, seed, run)",),
    by_hand="--method {name} (benchmark: --set 'methods=[{name}]')",
)
names, installed = _registry.names, _registry.installed
trust, is_trusted = _registry.trust, _registry.is_trusted


def load(name: str, *, own: bool = False) -> Method:
    """One method by its name, or a module of the user's; see `condense.plugins.Registry.load`."""
    return cast(Method, _registry.load(name, own=own))

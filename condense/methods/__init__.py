"""The registry of condensation methods: the folder itself.

A method is a file here (or any importable module, named by its dotted path) with

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

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

from condense.errors import UserError

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


def names() -> tuple[str, ...]:
    """Names of the methods in this folder, sorted; nothing is imported."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


_trusted: set[str] = set()


def trust(given: Iterable[object]) -> None:
    """Note methods the user named by hand: in this process, `load` may import them even if outside this folder."""
    _trusted.update(name for name in given if isinstance(name, str))


def is_trusted(name: str) -> bool:
    """Whether `load` may import a method: it is in this folder, or the user named it by hand."""
    return name in names() or name in _trusted


def load(name: str, *, own: bool = False) -> Method:
    """Import one method by file name; or a module of the user's: a file in the current folder, or a dotted path.

    Args:
        name: name of the method.
        own: whether a module outside this folder may be imported, which runs its code, without `trust`. Only for names
            that the user gave by hand, never for those in a recipe or a run folder, which may come from a stranger.

    Raises:
        UserError: there is no such method, it cannot be imported, or it lacks `Options` or `condense`.
    """
    if name in names():
        module = importlib.import_module(f"{__name__}.{name}")
    elif not (own or is_trusted(name)) and _may_be_of_the_user(name):
        raise UserError(
            f"The method {name!r} is a module outside the package; its code runs only if you name it by hand: give it "
            f"as --method {name} (benchmark: --set 'methods=[{name}]')."
        )
    elif _may_be_of_the_user(name):
        module = _module_of_the_user(name)
    else:
        near = difflib.get_close_matches(name, names(), 3, 0.4)
        hint = f"did you mean {' or '.join(near)}? The" if near else "the"
        raise UserError(f"There is no method {name!r}; {hint} methods are {', '.join(names())}.")
    _check(module, name)
    return cast(Method, module)


def _may_be_of_the_user(name: str) -> bool:
    return all(part.isidentifier() for part in name.split(".")) and ("." in name or Path(f"{name}.py").is_file())


def _module_of_the_user(name: str) -> ModuleType:
    """Import from Python's path, or else from the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's file does wrong
        raise UserError(f"The method {name!r} cannot be imported: {type(error).__name__}: {error}.") from error


def _check(module: ModuleType, name: str) -> None:
    from condense.options import Options as BaseOptions

    options = getattr(module, "Options", None)
    if not (isinstance(options, type) and issubclass(options, BaseOptions)):
        raise UserError(f"The method {name!r} has no class Options that derives from condense.options.Options.")
    if not callable(getattr(module, "condense", None)):
        raise UserError(f"The method {name!r} has no function condense(train, ipc, options, seed, run).")

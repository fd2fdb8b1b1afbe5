"""Registries of plug-ins: the modules of a folder of this package, of installed packages, and of the user.

A folder is its own registry: a module's name is the plug-in's. An installed package announces further modules by entry
points, as modules of the folder by any recipe. A module that is neither runs only if the user names it by hand.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from condense.errors import UserError

GROUPS = METHODS, ARMS, DATA = "dmis.methods", "dmis.arms", "dmis.data"
"""The kinds of entry points: modules of methods and of arms, and functions (root, download) that return a `Source`."""


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind.

    Attributes:
        kind: what one is called, e.g. "method".
        package: the package whose modules they are, without those that begin with "_".
        group: the entry points of installed packages.
        functions: what a module must have besides a class `Options`: names and arguments.
        by_hand: how the user names a module of their own, {name} standing for its name; empty: such modules must be
            installed.
        space: what stands in a plug-in's name for "_" in a module's.
    """

    kind: str
    package: str
    group: str
    functions: tuple[str, ...]
    by_hand: str = ""
    space: str = "_"
    _trusted: set[str] = field(default_factory=set)

    def names(self) -> tuple[str, ...]:
        """Names of the modules of the folder and of installed packages, sorted; nothing is imported."""
        return tuple(sorted({*self._shipped(), *self._entries()}))

    def installed(self) -> tuple[str, ...]:
        """Those of `names` that come from other packages."""
        return tuple(sorted(self._entries()))

    def trust(self, given: Iterable[object]) -> None:
        """Note names the user gave by hand: in this process, `load` may import them whatever they are."""
        self._trusted.update(name for name in given if isinstance(name, str))

    def is_trusted(self, name: str) -> bool:
        """Whether `load` may import a plug-in: it is one of `names`, or the user named it by hand."""
        return name in self.names() or name in self._trusted

    def load(self, name: str, *, own: bool = False) -> ModuleType:
        """Import one plug-in by its name; or a module of the user's: a file in the current folder, or a dotted path.

        Args:
            name: name of the plug-in.
            own: whether a module of the user's may be imported, which runs its code, without `trust`. Only for names
                that the user gave by hand, never for those in a recipe or a run folder, which may come from a stranger.

        Raises:
            UserError: there is no such plug-in, it cannot be imported, or it lacks what its kind must have.
        """
        if name in (shipped := self._shipped()):
            module = importlib.import_module(f"{self.package}.{shipped[name]}")
        elif name in (entries := self._entries()):
            module = self._imported(name, entries[name].load)
        elif not self.by_hand or not _may_be_of_the_user(name):
            near = difflib.get_close_matches(name, self.names(), 3, 0.4)
            hint = f"did you mean {' or '.join(near)}? The" if near else "the"
            raise UserError(f"There is no {self.kind} {name!r}; {hint} {self.kind}s are {', '.join(self.names())}.")
        elif own or name in self._trusted:
            module = self._imported(name, functools.partial(_import_of_the_user, name))
        else:
            raise UserError(
                f"The {self.kind} {name!r} is a module outside the package; its code runs only if you name it by hand: "
                f"give it as {self.by_hand.format(name=name)}."
            )
        self._check(module, name)
        return module

    def _shipped(self) -> dict[str, str]:
        """The modules of the folder by plug-in."""
        found = (module.name for module in pkgutil.iter_modules(sys.modules[self.package].__path__))
        return {name.replace("_", self.space): name for name in found if not name.startswith("_")}

    def _entries(self) -> dict[str, EntryPoint]:
        """Those of installed packages by plug-in; a name of the folder is not theirs to take."""
        shipped = self._shipped()
        return {name: entry for name, entry in announced(self.group).items() if name not in shipped}

    def _imported(self, name: str, load: Callable[[], ModuleType]) -> ModuleType:
        try:
            return load()
        except Exception as error:  # whatever the author's file does wrong
            raise UserError(f"The {self.kind} {name!r} cannot be imported: {type(error).__name__}: {error}.") from error

    def _check(self, module: ModuleType, name: str) -> None:
        from condense.options import Options  # pydantic takes long to import

        options = getattr(module, "Options", None)
        if not (isinstance(options, type) and issubclass(options, Options)):
            raise UserError(
                f"The {self.kind} {name!r} has no class Options that derives from condense.options.Options."
            )
        for function in self.functions:
            if not callable(getattr(module, function.partition("(")[0], None)):
                raise UserError(f"The {self.kind} {name!r} has no function {function}.")


def announced(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by their names; nothing is imported."""
    return {entry.name: entry for entry in every_entry_point() if entry.group == group}


@functools.cache
def every_entry_point() -> tuple[EntryPoint, ...]:
    """Those of this project, looked for once, so that a folder that joins Python's path later announces none."""
    found = entry_points()
    return tuple(entry for group in GROUPS for entry in found.select(group=group))


def _may_be_of_the_user(name: str) -> bool:
    return all(part.isidentifier() for part in name.split(".")) and ("." in name or Path(f"{name}.py").is_file())


def _import_of_the_user(module: str) -> ModuleType:
    """Import from Python's path, or else from the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module)

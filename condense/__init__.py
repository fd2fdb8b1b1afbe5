"""DMIS: condense image data sets whose labels are wrong, ambiguous or missing.

The names in `__all__` are loaded when they are first used, so that `import condense` imports neither torch nor numpy.
`condense.evaluate` is both the function that scores a set and the package of protocols and scores behind it:
`condense.evaluate(small, data)` and `from condense.evaluate.protocols import protocol` both work. So it is with
`condense.benchmark`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import condense.benchmark as _benchmark_package
import condense.evaluate as _evaluate_package

if TYPE_CHECKING:
    import inspect

    from condense.data.types import Supervision, TrainingSet
    from condense.front_door import benchmark, classify, condense, evaluate, load_data, relabel, report, train
    from condense.generator.model import Generator
    from condense.sets.condensed_set import CondensedSet
    from condense.sets.hdf5 import CondensedDataset

__version__ = "0.1.0"

__all__ = [
    "CondensedDataset",
    "CondensedSet",
    "Generator",
    "Supervision",
    "TrainingSet",
    "benchmark",
    "classify",
    "condense",
    "evaluate",
    "load_data",
    "relabel",
    "report",
    "train",
]

_HOMES = {
    "CondensedDataset": "condense.sets.hdf5",
    "CondensedSet": "condense.sets.condensed_set",
    "Generator": "condense.generator.model",
    "Supervision": "condense.data.types",
    "TrainingSet": "condense.data.types",
    "classify": "condense.front_door",
    "condense": "condense.front_door",
    "load_data": "condense.front_door",
    "relabel": "condense.front_door",
    "report": "condense.front_door",
    "train": "condense.front_door",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CallablePackage(ModuleType):
    """A package that is also a function: the import system sets the attribute of that name to the package."""

    @property
    def __call__(self) -> Callable[..., Any]:
        """The front door's function of that name."""
        name = self.__name__.rpartition(".")[2]
        function: Callable[..., Any] = getattr(importlib.import_module("condense.front_door"), name)
        return function

    @property
    def __signature__(self) -> inspect.Signature:
        """What `inspect.signature` and editors show."""
        return importlib.import_module("inspect").signature(self.__call__)  # type: ignore[no-any-return]


for _package in (_benchmark_package, _evaluate_package):
    sys.modules[_package.__name__].__class__ = _CallablePackage

"""A benchmark's recipe, and the independent cells it stands for."""

from __future__ import annotations

import collections
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from condense import methods
from condense.classifiers.cross import FoldOptions
from condense.data import sources
from condense.errors import UserError
from condense.evaluate.protocols import protocol
from condense.evaluate.results import Result
from condense.methods._generate import GeneratorOptions
from condense.options import Options
from condense.recipe import DataRecipe, EvaluateRecipe, Recipe, merge, parse

CELLS, SHARED = "cells", "shared"
Trained = Literal["generator", "teacher"]  # options of methods that take the run folder of one
# who repairs labels by something trained, and its options
LABELLERS: dict[str, type[Options]] = {"dmis": GeneratorOptions, "cleanlab": FoldOptions}


class BenchmarkRecipe(Options):
    """A grid: every method, for every setting, size and seed, with labels as given or repaired."""

    title: str = Field("", description="heading of the report")
    methods: list[str] | Literal["all"] = Field("all", description="methods by name, or all there are")
    settings: list[DataRecipe] = Field(min_length=1, description="data and noise, as in a recipe's section `data`")
    roots: dict[str, Path] = Field(default_factory=dict, description="where named data sets lie, by their name")
    download: bool = Field(False, description="whether named data sets may be fetched")
    ipc: list[int] = Field([10], min_length=1, description="images per class")
    seeds: list[int] = Field([0], min_length=1, description="seeds of the noise, the making and the scoring")
    clean_first: list[str] = Field(["none"], min_length=1, description="who repairs the labels beforehand")
    quick: bool = Field(False, description="whether every default is the method's smallest budget")
    evaluate: EvaluateRecipe = EvaluateRecipe()
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, description="options of a method, by its name")
    judged: dict[str, EvaluateRecipe] = Field(
        default_factory=dict, description="methods scored in another way, by their name, e.g. on soft labels"
    )
    labeller: dict[str, Any] = Field(
        default_factory=dict, description="options of who repairs labels; of several: each one's, by its name"
    )


@dataclass(frozen=True)
class Cell:
    """One set to make and score.

    Attributes:
        name: of its folder.
        setting: data, size and noise in one name for people.
        recipe: as a recipe file has it; `dmis condense -c` would take it.
        shared: name of what all sizes of this method, setting and seed train together; None where nothing is.
        trains: what that is.
        labeller: name of who is trained to repair the labels of this setting and seed; None without one.
    """

    name: str
    setting: str
    recipe: Mapping[str, Any]
    shared: str | None
    trains: Trained | None
    labeller: str | None

    def is_of(self, recipe: Mapping[str, Any]) -> bool:
        """Whether a recipe asks for this cell; where the data lie may have changed."""
        return _placeless(recipe) == _placeless(json.loads(json.dumps(self.recipe)))

    def folder(self, out: Path) -> Path:
        """Where the cell lies below the benchmark's folder."""
        return out / CELLS / self.name

    def result(self) -> Result:
        """The cell as a line of the results, before it has been run."""
        recipe, data, wanted = self.recipe, self.recipe["data"], self.recipe["evaluate"]
        return Result(
            cell=self.name,
            setting=self.setting,
            method=recipe["method"],
            data=data["name"],
            noise=_labels(data["noise"], data.get("labels")),
            ipc=recipe["ipc"],
            seed=recipe["seed"],
            clean_first=recipe["clean_first"],
            protocol=wanted["protocol"],
            network=wanted["network"] or protocol(wanted["protocol"]).network,
            status="missing",
        )


OptionsOf = Callable[[str], type[Options] | None]
"""The options of a method by its name; None where they are not to be looked at."""


def shipped_options(name: str) -> type[Options]:
    """Of a method of the package; a module of the user's is refused, see `methods.load`."""
    return methods.load(name).Options


def own_options(name: str) -> type[Options]:
    """Of any method, importing the user's own modules: for names given by hand."""
    return methods.load(name, own=True).Options


def known_options(name: str) -> type[Options] | None:
    """Of a method of the package, None for any other: nothing of a stranger's folder is imported."""
    return methods.load(name).Options if name in methods.names() else None


def read_benchmark(layers: Mapping[str, Any], options_of: OptionsOf = shipped_options) -> BenchmarkRecipe:
    """The recipe, checked as far as it can be without its data; `methods` is a list afterwards.

    Args:
        layers: the recipe as nested mappings.
        options_of: which methods may be named.

    Raises:
        UserError: an unknown key, method or option, or a value out of range.
    """
    if "settings" not in layers:
        raise UserError(
            "A benchmark's recipe lists its `settings`, e.g. settings: [{name: digits, noise: 'sym:0.4'}]; "
            "a recipe without them is for `dmis condense -c`."
        )
    recipe = parse(BenchmarkRecipe, layers, "benchmark's recipe")
    names = list(methods.names()) if recipe.methods == "all" else recipe.methods
    if not names:
        raise UserError("The benchmark's recipe names no methods; write methods: all, or a list.")
    for name in names:
        if (options := options_of(name)) is not None:
            parse(options, recipe.options.get(name, {}), f"benchmark's options for {name!r}")
    if unused := (set(recipe.options) | set(recipe.judged)) - set(names):
        raise UserError(f"The benchmark has options for {sorted(unused)[0]!r}, which is not among its methods.")
    for wanted in (recipe.evaluate, *recipe.judged.values()):
        protocol(wanted.protocol)
    for by in recipe.clean_first:
        if by in LABELLERS:
            parse(LABELLERS[by], _labeller(recipe, by), f"benchmark's options for the labeller {by!r}")
    return recipe.model_copy(update={"methods": names})


def expand(recipe: BenchmarkRecipe, options_of: OptionsOf = shipped_options) -> list[Cell]:
    """All cells, those of the first seed first; their names depend on nothing but what they are.

    Raises:
        UserError: two cells are the same, or a value is out of range.
    """
    cells = list(_cells(recipe, options_of))
    counts = collections.Counter(cell.name for cell in cells)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"The benchmark has the cell {twice[0]} {counts[twice[0]]} times; name each of its parts once.")
    return cells


def _cells(recipe: BenchmarkRecipe, options_of: OptionsOf) -> Iterator[Cell]:
    for seed in recipe.seeds:
        for data in recipe.settings:
            for by in recipe.clean_first:
                for method in recipe.methods:
                    for ipc in recipe.ipc:
                        yield _cell(recipe, data, method, by, ipc, seed, options_of(method))


def _cell(
    recipe: BenchmarkRecipe, data: DataRecipe, method: str, by: str, ipc: int, seed: int, options: type[Options] | None
) -> Cell:
    labeller = _labeller(recipe, by)
    named = {
        "data": _asked(data) | {"name": data.name, "noise": data.noise} | _found_at(recipe, data),
        "method": method,
        "ipc": ipc,
        "seed": seed,
        "clean_first": by,
        "evaluate": recipe.judged.get(method, recipe.evaluate).model_dump(mode="json"),
        **({"quick": True} if recipe.quick else {}),
        **({"labeller": labeller} if labeller else {}),
    }
    parse(Recipe, named, "benchmark's recipe")
    own = recipe.options.get(method, {})
    place = "_".join([_slug(_setting(data)), *_whose(data)])
    group = "_".join([place, _slug(method), *([] if by == "none" else [f"by-{by}"])])
    trains = None if options is None else _trains(options, own)
    repairs = by in LABELLERS and "generator" not in labeller
    return Cell(
        name=f"{group}_ipc{ipc}_seed{seed}",
        setting=_setting(data),
        recipe=merge(own, named),
        shared=None if trains is None else f"{group}_seed{seed}",
        trains=trains,
        labeller=f"{place}_labels-by-{by}_seed{seed}" if repairs else None,
    )


def _labeller(recipe: BenchmarkRecipe, by: str) -> dict[str, Any]:
    """The options of who repairs the labels; none for the oracle and for nobody.

    Raises:
        UserError: one section is meant to serve two, or a section is for nobody there is.
    """
    trained, given = [each for each in recipe.clean_first if each in LABELLERS], recipe.labeller
    if by not in trained:
        return {}
    if not given.keys() & LABELLERS.keys():
        if given and len(set(trained)) > 1:
            raise UserError(
                f"The benchmark repairs labels by {' and by '.join(trained)}, which have different options; write "
                f"labeller: {{{', '.join(f'{each}: {{…}}' for each in trained)}}}."
            )
        return given
    if unknown := given.keys() - LABELLERS.keys():
        raise UserError(f"The benchmark's labeller has {sorted(unknown)[0]!r} beside {' and '.join(trained)}.")
    own = given.get(by, {})
    if not isinstance(own, dict):
        raise UserError(f"The benchmark's options for the labeller {by!r} are {own!r}; write names and values.")
    return own


def _found_at(recipe: BenchmarkRecipe, data: DataRecipe) -> dict[str, Any]:
    """Where the data lie, and whether they may be fetched, as far as the recipe tells for all settings."""
    root = recipe.roots.get(data.name) if data.root is None else data.root
    return {**({} if root is None else {"root": str(root)}), **({"download": True} if recipe.download else {})}


def _trains(options: type[Options], own: Mapping[str, Any]) -> Trained | None:
    """What a method trains that does not depend on the images per class, unless it is given one."""
    if "generator" in options.model_fields:
        return None if "generator" in own else "generator"
    if "teacher" in options.model_fields:
        return None if "folder" in own.get("teacher", {}) else "teacher"
    return None


def _setting(data: DataRecipe) -> str:
    """E.g. "cifar10 sym:0.4", "imagenette 64px asym:0.4"."""
    name = data.name if data.name in sources.NAMES else Path(data.name.partition("::")[0]).name
    size = [] if data.image_size is None else [f"{data.image_size}px"]
    seed = [] if data.noise_seed is None else [f"noise seed {data.noise_seed}"]
    return " ".join([name, *size, _labels(data.noise, data.labels), *seed])


def _labels(noise: str, file: str | None) -> str:
    """What is wrong with the labels: the noise injected, or the name of a file of labels."""
    return noise if file is None else f"labels {Path(file).name}"


def _whose(data: DataRecipe) -> list[str]:
    """Six characters for where files lie, so that two folders of the same name are told apart; none for names."""
    places = [text for text in (data.name, data.labels) if text is not None and text not in sources.NAMES]
    return [hashlib.sha256("|".join(places).encode()).hexdigest()[:6]] if places else []


def _asked(model: Options) -> dict[str, Any]:
    """What differs from the defaults, so that a later version with more fields knows the cell again."""
    return model.model_dump(mode="json", exclude_defaults=True)


def _placeless(recipe: Mapping[str, Any]) -> dict[str, Any]:
    data = recipe.get("data")
    if not isinstance(data, Mapping):  # of a damaged file
        return dict(recipe)
    return {**recipe, "data": {key: value for key, value in data.items() if key not in ("root", "download")}}


def _slug(text: str) -> str:
    """Safe as a file name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")

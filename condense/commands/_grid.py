"""A benchmark's recipe, and the independent cells it stands for."""

from __future__ import annotations

import collections
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
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
    methods: list[str] | Literal["all"] = Field(
        "all", description="methods by name, or all there are; NAME@VARIANT has options of its own over those of NAME"
    )
    settings: list[DataRecipe] = Field(min_length=1, description="data and noise, as in a recipe's section `data`")
    roots: dict[str, Path] = Field(default_factory=dict, description="where named data sets lie, by their name")
    download: bool = Field(False, description="whether named data sets may be fetched")
    ipc: list[int] = Field([10], min_length=1, description="images per class")
    seeds: list[int] = Field([0], min_length=1, description="seeds of the noise, the making and the scoring")
    clean_first: list[str] = Field(["none"], min_length=1, description="who repairs the labels beforehand")
    quick: bool = Field(False, description="whether every default is the method's smallest budget")
    evaluate: EvaluateRecipe = EvaluateRecipe()
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of a method or a variant, by its name"
    )
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
        method: as tables call it: the method's name, or NAME@VARIANT.
        recipe: as a recipe file has it; `dmis condense -c` would take it.
        shared: name of what all sizes of this method, setting and seed train together; None where nothing is.
        trains: what that is.
        labeller: name of who is trained to repair the labels of this setting and seed; None without one.
    """

    name: str
    setting: str
    method: str
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
            method=self.method,
            data=data["name"],
            noise=_labels(data["noise"], data.get("labels")),
            ipc=recipe["ipc"],
            seed=recipe["seed"],
            clean_first=recipe["clean_first"],
            protocol=wanted["protocol"],
            network=wanted["network"] or protocol(wanted["protocol"]).network,
            status="missing",
        )


def read_benchmark(layers: Mapping[str, Any]) -> BenchmarkRecipe:
    """The recipe, checked as far as it can be without its data; `methods` is a list afterwards.

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
        _check_variant(recipe, name)
        parse(methods.load(_base(name)).Options, _options(recipe, name), f"benchmark's options for {name!r}")
    if unused := (set(recipe.options) | set(recipe.judged)) - set(names) - set(map(_base, names)):
        raise UserError(f"The benchmark has options for {sorted(unused)[0]!r}, which is not among its methods.")
    for wanted in (recipe.evaluate, *recipe.judged.values()):
        protocol(wanted.protocol)
    for by in recipe.clean_first:
        if by in LABELLERS:
            parse(LABELLERS[by], _labeller(recipe, by), f"benchmark's options for the labeller {by!r}")
    return recipe.model_copy(update={"methods": names})


def expand(recipe: BenchmarkRecipe) -> list[Cell]:
    """All cells, those of the first seed first; their names depend on nothing but what they are.

    Raises:
        UserError: two cells are the same, or a value is out of range.
    """
    cells = list(_cells(recipe))
    counts = collections.Counter(cell.name for cell in cells)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"The benchmark has the cell {twice[0]} {counts[twice[0]]} times; name each of its parts once.")
    return cells


def _cells(recipe: BenchmarkRecipe) -> Iterator[Cell]:
    for seed in recipe.seeds:
        for data in recipe.settings:
            for by in recipe.clean_first:
                for method in recipe.methods:
                    for ipc in recipe.ipc:
                        yield _cell(recipe, data, method, by, ipc, seed)


def _cell(recipe: BenchmarkRecipe, data: DataRecipe, method: str, by: str, ipc: int, seed: int) -> Cell:
    labeller, base = _labeller(recipe, by), _base(method)
    named = {
        "data": _asked(data) | {"name": data.name, "noise": data.noise} | _found_at(recipe, data),
        "method": base,
        "ipc": ipc,
        "seed": seed,
        "clean_first": by,
        "evaluate": recipe.judged.get(method, recipe.judged.get(base, recipe.evaluate)).model_dump(mode="json"),
        **({"quick": True} if recipe.quick else {}),
        **({"labeller": labeller} if labeller else {}),
    }
    parse(Recipe, named, "benchmark's recipe")
    own = _options(recipe, method)
    place = "_".join([_slug(_setting(data)), *_whose(data)])
    repaired = [] if by == "none" else [f"by-{by}"]
    group = "_".join([place, _slug(method), *repaired])
    trainer = base if _trained_part(own) == _trained_part(recipe.options.get(base, {})) else method
    trains = _trains(methods.load(base).Options, own)
    repairs = by in LABELLERS and "generator" not in labeller
    return Cell(
        name=f"{group}_ipc{ipc}_seed{seed}",
        setting=_setting(data),
        method=method,
        recipe=merge(own, named),
        shared=None if trains is None else "_".join([place, _slug(trainer), *repaired, f"seed{seed}"]),
        trains=trains,
        labeller=f"{place}_labels-by-{by}_seed{seed}" if repairs else None,
    )


def _base(name: str) -> str:
    """The method of a variant, "vanilla" of "vanilla@plain"; of a method its own name."""
    return name.partition("@")[0]


def _options(recipe: BenchmarkRecipe, name: str) -> dict[str, Any]:
    """Options of a method, or those of a variant laid over its method's."""
    own = recipe.options.get(name, {})
    return own if name == _base(name) else merge(recipe.options.get(_base(name), {}), own)


def _check_variant(recipe: BenchmarkRecipe, name: str) -> None:
    """Raise `UserError` unless a variant has a name and options."""
    if "@" in name and (name.endswith("@") or not recipe.options.get(name)):
        raise UserError(
            f"The benchmark's variant {name!r} has no options of its own; write options: {{{name!r}: {{…}}}}, "
            f"or {_base(name)!r} for the method itself."
        )


def _trained_part(own: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide what is trained: two variants that agree in them can share a generator.

    `drawn` matters by its default of `second_stage` alone.
    """
    drawing = {"draw", "drawn"} if "second_stage" in own else {"draw"}
    return {key: value for key, value in own.items() if key not in drawing}


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
    data = {key: value for key, value in recipe.get("data", {}).items() if key not in ("root", "download")}
    return {**recipe, "data": data}


def _slug(text: str) -> str:
    """Safe as a file name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")

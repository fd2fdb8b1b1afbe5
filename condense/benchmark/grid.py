"""Expansion of a benchmark's recipe into independent cells.

A cell makes and scores a condensed set, measures a generator's samples, or trains and tests a classifier:

    methods x ipc            sets; none if `ipc` is empty; `rows` are further methods, with other options
    `also`                   the same sets scored in further ways
    `whole`                  networks on all real images, as a reference for the sets
    methods, `generation`    samples of every generator among the methods
    `classifiers`            every arm that accepts the setting's kind of labels
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from condense import rng
from condense.benchmark.grid_recipe import (
    LABELLERS,
    BenchmarkRecipe,
    GenerationRecipe,
    Setting,
    is_generator,
    labeller_options,
    method_options,
    way_of,
)
from condense.data import sources
from condense.errors import UserError
from condense.evaluate.protocols import protocol
from condense.evaluate.results import REFERENCE, Result, TaskName
from condense.options import Options
from condense.pipeline import classify
from condense.pipeline.plan import DRAWING_SECTIONS, GENERATOR_SECTIONS, read_config
from condense.recipe import DataRecipe, EvaluateRecipe, Recipe, merge, parse

CELLS, SHARED = "cells", "shared"
GENERATION, CLASSIFIER, WHOLE = "generation", "classifier", "whole"  # sections of a cell's recipe
Trained = Literal["generator", "teacher"]  # options with which a method takes the run folder of one


@dataclass(frozen=True)
class Cell:
    """One set to make and score, one generator's samples to measure, or one classifier to test.

    Attributes:
        name: name of its folder.
        setting: data, size and noise in one readable name.
        task: which of the three tasks.
        recipe: contents of a recipe file; for a set, one that `dmis condense -c` accepts. The others have one more
            section, "generation" or "classifier".
        shared: name of the folder with the generator or teacher that all sizes of this method, setting and seed share;
            None if they share none.
        trains: which of the two is shared.
        labeller: name of the labeller that repairs the labels of this setting and seed; None without one.
        published: data and noise, in our names, of the published numbers to compare with.
        row: its name in tables if that is not the method's.
        set_of: name of the cell whose set is scored; its own when None.
    """

    name: str
    setting: str
    task: TaskName
    recipe: Mapping[str, Any]
    shared: str | None
    trains: Trained | None
    labeller: str | None
    published: tuple[str, str]
    row: str = ""
    set_of: str | None = None

    @property
    def planned(self) -> dict[str, Any]:
        """The recipe up to its plan (data, method, seed, options), without the sections on measuring the outcome."""
        return {key: value for key, value in self.recipe.items() if key not in (GENERATION, CLASSIFIER, WHOLE)}

    @property
    def method(self) -> str:
        """The method, or the classifier's name, or `REFERENCE` for networks on all real images."""
        if WHOLE in self.recipe:
            return REFERENCE
        return str(self.recipe[CLASSIFIER]["name"] if self.task == "weak-supervision" else self.recipe["method"])

    @property
    def trained_by(self) -> dict[str, Any]:
        """The part of the recipe that determines what is trained in the `shared` folder."""
        measured = {"ipc", "evaluate", GENERATION, CLASSIFIER, WHOLE}
        return _placeless(_trained_part({key: value for key, value in self.recipe.items() if key not in measured}))

    @property
    def repaired_by(self) -> dict[str, Any]:
        """The part of the recipe that determines what is trained in the `labeller`'s folder."""
        asked = ("data", "seed", "clean_first", "labeller", "quick")
        return _placeless({key: self.recipe[key] for key in asked if key in self.recipe})

    def is_of(self, recipe: Mapping[str, Any]) -> bool:
        """Whether a recipe asks for this cell; the location of the data may differ."""
        return _placeless(recipe) == _placeless(json.loads(json.dumps(self.recipe)))

    def folder(self, out: Path) -> Path:
        """The cell's folder below the benchmark's."""
        return out / CELLS / self.name

    def result(self) -> Result:
        """The cell's row of the results before it has been run."""
        recipe, data = self.recipe, self.recipe["data"]
        wanted, fit = recipe.get("evaluate"), recipe.get(CLASSIFIER, {}).get("fit", {})
        return Result(
            cell=self.name,
            setting=self.setting,
            task=self.task,
            method=self.method,
            data=data["name"],
            noise=_labels(data["noise"], data.get("labels")),
            ipc=recipe.get("ipc"),
            seed=recipe["seed"],
            clean_first=recipe["clean_first"],
            protocol=wanted["protocol"] if wanted else "",
            network=wanted["network"] or protocol(wanted["protocol"]).network if wanted else fit.get("network", ""),
            status="missing",
            published_data=self.published[0],
            published_noise=self.published[1],
            row=self.row,
            noise_seed=data.get("noise_seed"),
            protocol_version=protocol(wanted["protocol"]).version if wanted else 1,
            labels="hard" if not wanted or protocol(wanted["protocol"]).labels == "hard" else "soft",
        )


def expand(recipe: BenchmarkRecipe) -> list[Cell]:
    """All cells, those of the first seed first; a cell's name depends on its own recipe alone.

    Raises:
        UserError: two cells are the same, or a value is out of range.
    """
    cells = list(_cells(recipe))
    names = told_apart([(cell.setting, cell.recipe["data"]) for cell in cells])
    cells = [dataclasses.replace(cell, setting=name) for cell, name in zip(cells, names, strict=True)]
    counts = collections.Counter(cell.name for cell in cells)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"The benchmark has the cell {twice[0]} {counts[twice[0]]} times; name each of its parts once.")
    _check_classifiers(recipe, {cell.method for cell in cells if cell.task == "weak-supervision"})
    return cells


def told_apart(found: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Names of settings, with the paths of their data where those of several places have one name.

    Args:
        found: the name of each, and its recipe's section `data`.
    """
    paths = [", ".join(str(data[key]) for key in ("name", "labels") if data.get(key)) for _, data in found]
    places: dict[str, set[str]] = {}
    for (setting, _), path in zip(found, paths, strict=True):
        places.setdefault(setting, set()).add(path)
    return [
        setting if len(places[setting]) == 1 else f"{setting} ({path})"
        for (setting, _), path in zip(found, paths, strict=True)
    ]


def _check_classifiers(recipe: BenchmarkRecipe, trained: set[str]) -> None:
    """Raise `UserError` for a classifier listed by name that does not accept the labels of any setting."""
    if idle := [name for name in recipe.classifiers if name not in trained and recipe.classifiers != "all"]:
        why = classify.why_not(idle[0], classify.labels_like(recipe.settings[0].noise))
        raise UserError(f"The classifier {idle[0]!r} accepts the labels of none of the benchmark's settings: {why}")


def _cells(recipe: BenchmarkRecipe) -> Iterator[Cell]:
    for seed in recipe.seeds:
        for data in recipe.settings:
            for by in recipe.clean_first:
                for number in range(recipe.sets):
                    for name in (*recipe.methods, *recipe.rows):
                        for ipc in recipe.ipc:
                            yield from _judged_cells(recipe, _set_cell(recipe, data, name, by, ipc, seed, number))
                yield from _whole_cells(recipe, data, by, seed)
            if recipe.generation is not None:
                for method in filter(is_generator, recipe.methods):
                    yield _samples_cell(recipe, data, method, recipe.generation, seed)
            for arm in _arms(recipe, data):
                yield _classifier_cell(recipe, data, arm, seed)


def _set_cell(recipe: BenchmarkRecipe, data: Setting, name: str, by: str, ipc: int, seed: int, number: int = 0) -> Cell:
    """The cell of the `number`-th set of the method or row called `name`, under the noise of `seed`."""
    row = recipe.rows.get(name)
    method = name if row is None else row.method
    judged = recipe.judged.get(method, recipe.evaluate) if row is None or row.evaluate is None else row.evaluate
    own = _own(recipe, data, method) if row is None else row.options
    options = method_options(method)
    trains = None if options is None else _trains(options, own)
    trainer = method if _trained_part(own) == _trained_part(_own(recipe, data, method)) else name
    made_with = seed if number == 0 else rng.derive(seed, "set", number)
    drawn = {} if number == 0 else {"noise_seed": seed if data.noise_seed is None else data.noise_seed}
    named = {
        **_named(recipe, data, method, made_with),
        "ipc": ipc,
        "clean_first": by,
        "evaluate": judged.model_dump(mode="json"),
        **_repaired(recipe, data, by),
    }
    named["data"] |= drawn
    parse(Recipe, named, "benchmark's recipe")
    repaired = [] if by == "none" else [f"by-{by}"]
    group = "_".join([_group(data, name), *repaired])
    own_seed = f"seed{seed}" if number == 0 else f"seed{seed}-set{number}"
    return Cell(
        name=f"{group}_ipc{ipc}_{own_seed}",
        setting=_setting(data),
        task="condensation",
        recipe=merge(own, named),
        shared=None if trains is None else "_".join([_group(data, trainer), *repaired, own_seed]),
        trains=trains,
        labeller=_labeller_name(recipe, data, by, own_seed),
        published=_published(data),
        row="" if row is None else name,
    )


def _trained_part(own: Mapping[str, Any]) -> dict[str, Any]:
    """The options that determine training: a row that agrees with its method on these shares the generator.

    `drawn` affects training only through the default it gives `second_stage`.
    """
    drawing = {"draw", "drawn"} if "second_stage" in own else {"draw"}
    return {key: value for key, value in own.items() if key not in drawing}


def _repaired(recipe: BenchmarkRecipe, data: Setting, by: str) -> dict[str, Any]:
    """The labeller's section, the same for every method; a generator's begins with the data's `generators` recipe."""
    sections = _generator_sections(recipe, data) if by == "dmis" else {}
    learning = {key: value for key, value in sections.items() if key not in DRAWING_SECTIONS}
    labeller = merge(learning, labeller_options(recipe, by))
    return {"labeller": labeller} if labeller else {}


def _labeller_name(recipe: BenchmarkRecipe, data: Setting, by: str, seed: str) -> str | None:
    repairs = by in LABELLERS and "generator" not in labeller_options(recipe, by)
    return f"{_place(data)}_labels-by-{by}_{seed}" if repairs else None


def _judged_cells(recipe: BenchmarkRecipe, cell: Cell) -> Iterator[Cell]:
    """The cell, and one for each further way of scoring its set."""
    yield cell
    own = way_of(EvaluateRecipe.model_validate(cell.recipe["evaluate"]))
    for wanted in recipe.also:
        if way_of(wanted) == own:  # of a method that is `judged` in this way
            continue
        how = "-".join([wanted.protocol, *([] if wanted.network is None else [wanted.network])])
        judged = merge(cell.recipe, {"evaluate": wanted.model_dump(mode="json")})
        yield dataclasses.replace(
            cell, name=f"{cell.name}_judged-{_slug(how)}", recipe=judged, shared=None, trains=None, set_of=cell.name
        )


def _whole_cells(recipe: BenchmarkRecipe, data: Setting, by: str, seed: int) -> Iterator[Cell]:
    """Cells of networks on all real images: for as many batches as on a set of each size, or for given epochs."""
    hard = [wanted for wanted in (recipe.evaluate, *recipe.also) if protocol(wanted.protocol).learning_rate is not None]
    hard = [wanted for wanted in hard if protocol(wanted.protocol).labels == "hard"]
    for how in recipe.whole:
        for number, wanted in enumerate(hard):
            for ipc in recipe.ipc if how == "equal" else (0,):
                named = {
                    **_named(recipe, data, "random", seed),
                    **({"ipc": ipc} if ipc else {}),
                    "clean_first": by,
                    "evaluate": wanted.model_dump(mode="json"),
                    **_repaired(recipe, data, by),
                }
                name = [_place(data), "whole", *([] if by == "none" else [f"by-{by}"])]
                name += [f"ipc{ipc}" if how == "equal" else f"epochs{how}", *([f"judged{number}"] if number else [])]
                yield Cell(
                    name="_".join([*name, f"seed{seed}"]),
                    setting=_setting(data),
                    task="condensation",
                    recipe={**named, WHOLE: {"epochs": None if how == "equal" else how}},
                    shared=None,
                    trains=None,
                    labeller=_labeller_name(recipe, data, by, f"seed{seed}"),
                    published=_published(data),
                    row="all images, as many batches" if how == "equal" else f"all images, {how} epochs",
                )


def _samples_cell(recipe: BenchmarkRecipe, data: Setting, method: str, generation: GenerationRecipe, seed: int) -> Cell:
    section = {GENERATION: generation.model_dump(mode="json")}
    return _other_cell(recipe, data, method, f"{_group(data, method)}_samples_seed{seed}", "generation", section, seed)


def _classifier_cell(recipe: BenchmarkRecipe, data: Setting, arm: str, seed: int) -> Cell:
    of_generator = arm in classify.OF_GENERATORS
    fits = arm not in classify.OBJECTIVES
    asked = {
        "name": arm,
        **({"fit": recipe.fit.model_dump(mode="json")} if fits else {}),
        "options": {name: recipe.options.get(name, {}) for name in _arms_of(arm)},
    }
    method = classify.objective_of(arm) if of_generator else "random"  # the plan of one that trains nothing
    name = f"{_place(data)}_classifier-{_slug(arm)}_seed{seed}"
    return _other_cell(recipe, data, method, name, "weak-supervision", {CLASSIFIER: asked}, seed)


def _arms_of(arm: str) -> tuple[str, ...]:
    """The arms whose options an arm has, besides a generator's."""
    if arm == classify.REGENERATED:
        return (arm, "ce")
    return () if arm in classify.OBJECTIVES else (arm,)


def _other_cell(
    recipe: BenchmarkRecipe,
    data: Setting,
    method: str,
    name: str,
    task: TaskName,
    section: Mapping[str, Any],
    seed: int,
) -> Cell:
    """A cell that makes no set; it trains nothing for a method without a generator."""
    own = _own(recipe, data, method) if is_generator(method) else {}
    trains: Trained | None = "generator" if is_generator(method) and "generator" not in own else None
    return Cell(
        name=name,
        setting=_setting(data),
        task=task,
        recipe=merge(own, _named(recipe, data, method, seed), {"clean_first": "none"}, section),
        shared=None if trains is None else f"{_group(data, method)}_seed{seed}",
        trains=trains,
        labeller=None,
        published=_published(data),
    )


def _named(recipe: BenchmarkRecipe, data: Setting, method: str, seed: int) -> dict[str, Any]:
    """The part of the recipe that all cells of a method, setting and seed have in common."""
    return {
        "data": _asked(data) | {"name": data.name, "noise": data.noise} | _found_at(recipe, data),
        "method": method,
        "seed": seed,
        **({"quick": True} if recipe.quick else {}),
    }


def _own(recipe: BenchmarkRecipe, data: Setting, method: str) -> dict[str, Any]:
    """The method's options: those of the data's `generators` recipe, overridden by the benchmark's own."""
    below = _generator_sections(recipe, data) if is_generator(method) else {}
    return merge(below, recipe.options.get(method, {}))


def _generator_sections(recipe: BenchmarkRecipe, data: Setting) -> dict[str, Any]:
    """Those of the recipe that `generators` names for the data; empty without one."""
    if data.name not in recipe.generators:
        return {}
    found = read_config(recipe.generators[data.name])
    return {key: found[key] for key in GENERATOR_SECTIONS if key in found}


def _arms(recipe: BenchmarkRecipe, data: Setting) -> list[str]:
    """The classifiers that accept the labels of a setting, judged by its noise, and those that are not installed here.

    Raises `UserError` for `all` with a label file, whose kind is unknown until it is read.
    """
    if recipe.classifiers == "all" and data.labels is not None:
        raise UserError(
            f"Which classifiers accept the labels of {data.labels} is not known before they are read; name some in "
            "classifiers."
        )
    asked = classify.names() if recipe.classifiers == "all" else recipe.classifiers
    if data.labels is not None:
        return list(asked)
    like = classify.labels_like(data.noise)
    known = classify.names()
    return [arm for arm in asked if arm not in known or classify.why_not(arm, like) is None]


def _published(data: Setting) -> tuple[str, str]:
    """Data and noise of the published numbers to compare with."""
    beside = data.published
    return beside.data or data.name, beside.noise or _labels(data.noise, data.labels)


def _place(data: Setting) -> str:
    """The beginning of the names of a setting's folders."""
    return "_".join([_slug(_setting(data)), *_whose(data)])


def _group(data: Setting, method: str) -> str:
    return f"{_place(data)}_{_slug(method)}"


def _found_at(recipe: BenchmarkRecipe, data: DataRecipe) -> dict[str, Any]:
    """The data's folder and whether they may be downloaded, as far as the recipe sets these."""
    root = recipe.roots.get(data.name) if data.root is None else data.root
    return {**({} if root is None else {"root": str(root)}), **({"download": True} if recipe.download else {})}


def _trains(options: type[Options], own: Mapping[str, Any]) -> Trained | None:
    """What a method trains independently of the images per class; None for nothing, or if it is given one."""
    if "generator" in options.model_fields:
        return None if "generator" in own else "generator"
    if "teacher" in options.model_fields:
        return None if "folder" in own.get("teacher", {}) else "teacher"
    return None


def _setting(data: DataRecipe) -> str:
    """E.g. "cifar10 sym:0.4", "imagenette 64px asym:0.4"."""
    name = data.name if data.name in sources.names() else Path(data.name.partition("::")[0]).name
    size = [] if data.image_size is None else [f"{data.image_size}px"]
    seed = [] if data.noise_seed is None else [f"noise seed {data.noise_seed}"]
    return " ".join([name, *size, _labels(data.noise, data.labels), *seed])


def _labels(noise: str, file: str | None) -> str:
    """Where the labels come from: the injected noise, or the name of a label file."""
    return noise if file is None else f"labels {Path(file).name}"


def _whose(data: DataRecipe) -> list[str]:
    """Six characters hashed from file paths, which tell two folders of one name apart; empty for named data sets."""
    places = [text for text in (data.name, data.labels) if text is not None and text not in sources.names()]
    return [hashlib.sha256("|".join(places).encode()).hexdigest()[:6]] if places else []


def _asked(model: Options) -> dict[str, Any]:
    """The values that differ from the defaults, so that a later version with more fields recognises the cell."""
    return model.model_dump(mode="json", exclude_defaults=True, exclude={"published"})


def _placeless(recipe: Mapping[str, Any]) -> dict[str, Any]:
    data = recipe.get("data")
    if not isinstance(data, Mapping):  # of a damaged file
        return dict(recipe)
    return {**recipe, "data": {key: value for key, value in data.items() if key not in ("root", "download")}}


def _slug(text: str) -> str:
    """`text` with characters that are unsafe in file names replaced."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")

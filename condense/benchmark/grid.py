"""A benchmark's recipe, and the independent cells it stands for.

A cell makes and scores a condensed set, measures a generator's samples, or trains and tests a classifier:

    methods x ipc            sets; none where `ipc` is empty; `rows` are further methods, with other options
    `also`                   the same sets judged in further ways
    `whole`                  networks on all real images, to measure the sets by
    methods, `generation`    samples of every generator among the methods
    `classifiers`            every arm that takes the labels of the setting
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

from pydantic import Field

from condense import methods, rng
from condense.classifiers.arms._training import ArmTraining
from condense.classifiers.cross import FoldOptions
from condense.data import sources
from condense.errors import UserError
from condense.evaluate.features import FULL
from condense.evaluate.judge import STEPS
from condense.evaluate.protocols import protocol
from condense.evaluate.quality import KS
from condense.evaluate.results import REFERENCE, Result, TaskName
from condense.methods._generate import GeneratorOptions
from condense.options import Options
from condense.pipeline import classify
from condense.pipeline.feature_space import check_space
from condense.pipeline.plan import GENERATOR_SECTIONS, read_config
from condense.recipe import DataRecipe, EvaluateRecipe, Recipe, merge, parse

CELLS, SHARED = "cells", "shared"
GENERATION, CLASSIFIER, WHOLE = "generation", "classifier", "whole"  # sections of a cell's recipe
EXTENDS = "extends"
Trained = Literal["generator", "teacher"]  # options of methods that take the run folder of one
# who repairs labels by something trained, and its options
LABELLERS: dict[str, type[Options]] = {"dmis": GeneratorOptions, "cleanlab": FoldOptions}


class Column(Options):
    """A column of a paper's tables, in our names."""

    data: str | None = Field(None, description="data set; the setting's own when empty")
    noise: str | None = Field(None, description="noise, or the paper's name of labels given by people")


class Setting(DataRecipe):
    """Data and labels, and which published numbers stand beside ours."""

    published: Column = Field(
        Column(), description="column of the papers' tables to stand beside; that of the same data and noise when empty"
    )


class GenerationRecipe(Options):
    """How many images a generator draws to be measured, and against what."""

    samples: int = Field(FULL, ge=1, description="images drawn in all, as many of each class")
    real: int = Field(FULL, ge=2, description="most real training images to compare with")
    space: str = Field("convnet", description="feature space: convnet, efflite0 or inception")
    weights: Path | None = Field(None, description="file of weights that the space inception needs")
    ks: tuple[int, ...] = Field(KS, min_length=1, description="neighbours of Density and Coverage")
    steps: int = Field(STEPS, ge=1, description="batches the classifier of the space convnet is trained for")


class MethodRow(Options):
    """A further row of the tables: a method with options or judges of its own."""

    method: str = Field(description="name of the method")
    options: dict[str, Any] = Field(default_factory=dict, description="its options, in place of the method's")
    evaluate: EvaluateRecipe | None = Field(None, description="how it is scored; as its method when empty")


class BenchmarkRecipe(Options):
    """A grid: every method, for every setting, size and seed, with labels as given or repaired."""

    title: str = Field("", description="heading of the report")
    methods: list[str] | Literal["all"] = Field("all", description="methods by name, or all there are")
    settings: list[Setting] = Field(min_length=1, description="data and noise, as in a recipe's section `data`")
    roots: dict[str, Path] = Field(default_factory=dict, description="where named data sets lie, by their name")
    download: bool = Field(False, description="whether named data sets may be fetched")
    ipc: list[int] = Field([10], description="images per class; no sets are made when empty")
    seeds: list[int] = Field([0], min_length=1, description="seeds of the noise, the making and the scoring")
    clean_first: list[str] = Field(["none"], min_length=1, description="who repairs the labels beforehand")
    quick: bool = Field(False, description="whether every default is the method's smallest budget")
    evaluate: EvaluateRecipe = EvaluateRecipe()
    generation: GenerationRecipe | None = Field(None, description="samples of the generators are measured so")
    classifiers: list[str] | Literal["all"] = Field([], description="arms of `dmis classify` to be trained and tested")
    fit: ArmTraining = Field(ArmTraining(), description="the budget of every classifier but those of generators")
    generators: dict[str, str] = Field(
        default_factory=dict,
        description="recipe whose sections network, train, second_stage and draw hold for generators, by data set",
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of a method or classifier, by its name; they win over `generators`"
    )
    judged: dict[str, EvaluateRecipe] = Field(
        default_factory=dict, description="methods scored in another way, by their name, e.g. on soft labels"
    )
    rows: dict[str, MethodRow] = Field(
        default_factory=dict, description="further methods with other options, by a name"
    )
    also: list[EvaluateRecipe] = Field([], description="further ways in which every set is scored")
    sets: int = Field(1, ge=1, description="sets made under each seed's noise, with seeds of their own")
    whole: list[int | Literal["equal"]] = Field(
        [], description="networks on all real images: for so many epochs, or for as many batches as on a set (equal)"
    )
    labeller: dict[str, Any] = Field(
        default_factory=dict, description="options of who repairs labels; of several: each one's, by its name"
    )


@dataclass(frozen=True)
class Cell:
    """One set to make and score, one generator's samples to measure, or one classifier to test.

    Attributes:
        name: of its folder.
        setting: data, size and noise in one name for people.
        task: which of the three.
        recipe: as a recipe file has it; `dmis condense -c` would take that of a set. The others have one more section,
            "generation" or "classifier".
        shared: name of what all sizes of this method, setting and seed train together; None where nothing is.
        trains: what that is.
        labeller: name of who is trained to repair the labels of this setting and seed; None without one.
        published: data and noise of the published numbers to stand beside, in our names.
        row: what it is called in tables where that is not the method.
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
        """The recipe without what is asked of the outcome: data, method, seed, options."""
        return {key: value for key, value in self.recipe.items() if key not in (GENERATION, CLASSIFIER, WHOLE)}

    @property
    def method(self) -> str:
        """The method, or the classifier's name, or `REFERENCE` for networks on all real images."""
        if WHOLE in self.recipe:
            return REFERENCE
        return str(self.recipe[CLASSIFIER]["name"] if self.task == "weak-supervision" else self.recipe["method"])

    def is_of(self, recipe: Mapping[str, Any]) -> bool:
        """Whether a recipe asks for this cell; where the data lie may have changed."""
        return _placeless(recipe) == _placeless(json.loads(json.dumps(self.recipe)))

    def folder(self, out: Path) -> Path:
        """Where the cell lies below the benchmark's folder."""
        return out / CELLS / self.name

    def result(self) -> Result:
        """The cell as a line of the results, before it has been run."""
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


def layers_of(config: str) -> dict[str, Any]:
    """A benchmark's recipe by path or name, laid over those it extends.

    Raises:
        UserError: one of them is missing or no YAML mapping, or they extend each other.
    """
    layers, seen = read_config(config), [config]
    while (below := layers.pop(EXTENDS, None)) is not None:
        if below in seen:
            raise UserError(f"The recipe {config} extends {' which extends '.join([*seen[1:], below])}, without end.")
        seen.append(str(below))
        layers = merge(read_config(str(below)), layers)
    return layers


def read_benchmark(layers: Mapping[str, Any]) -> BenchmarkRecipe:
    """The recipe, checked as far as it can be without its data; `methods` is a list afterwards.

    Methods outside the package are left as they are unless they were named by hand, see `methods.trust`.

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
    classifiers = list(classify.names()) if recipe.classifiers == "all" else recipe.classifiers
    if not names and not classifiers:
        raise UserError("The benchmark's recipe names no methods; write methods: all, or a list.")
    for name in classifiers:
        classify.check_name(name)
    for name, row in recipe.rows.items():
        _parse_options(row.method, row.options, name)
        if name in names:
            raise UserError(f"The benchmark's row {name!r} is called as a method; give it another name.")
    known = {*names, *(classify.objective_of(name) for name in classifiers if name in classify.OF_GENERATORS)}
    for name in known:
        _parse_options(name, recipe.options.get(name, {}), name)
    classify.read_options(recipe.fit, recipe.options)
    if unused := set(recipe.options) - known - set(classifiers) or set(recipe.judged) - set(names):
        raise UserError(f"The benchmark has options for {sorted(unused)[0]!r}, which is not among its methods.")
    _check_tasks(recipe, names, classifiers)
    of_rows = [row.evaluate for row in recipe.rows.values() if row.evaluate is not None]
    for wanted in (recipe.evaluate, *recipe.judged.values(), *of_rows, *recipe.also):
        protocol(wanted.protocol)
    for by in recipe.clean_first:
        if by in LABELLERS:
            parse(LABELLERS[by], _labeller(recipe, by), f"benchmark's options for the labeller {by!r}")
    return recipe.model_copy(update={"methods": names})


def _check_tasks(recipe: BenchmarkRecipe, names: Sequence[str], classifiers: Sequence[str]) -> None:
    """Whether everything named has a cell, and labels as given are there where they are needed."""
    drawers = [name for name in names if _draws(name)]
    if recipe.generation is not None:
        check_space(recipe.generation.space, recipe.generation.weights)
        if not drawers:
            raise UserError("The benchmark measures samples (generation), but none of its methods has a generator.")
    if not recipe.ipc and (idle := set(names) - set(drawers if recipe.generation else ())):
        raise UserError(
            f"The benchmark makes no sets, for ipc is empty, so there is nothing to do for {sorted(idle)[0]!r}; give "
            "images per class, or measure the samples of generators with a section generation."
        )
    if (recipe.generation or classifiers) and recipe.clean_first != ["none"]:
        raise UserError(
            "Samples and classifiers are benchmarked with the labels as given; leave clean_first out, or make sets in "
            "a benchmark of their own."
        )


def _options(method: str) -> type[Options] | None:
    """The options of a method; None for a module that the user did not name by hand: it is not imported."""
    return methods.load(method).Options if methods.is_trusted(method) else None


def _parse_options(method: str, values: Mapping[str, Any], name: str) -> None:
    if (options := _options(method)) is not None:
        parse(options, values, f"benchmark's options for {name!r}")


def _draws(method: str) -> bool:
    """Whether a method has a generator."""
    options = _options(method)
    return options is not None and "generator" in options.model_fields


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
    _check_classifiers(recipe, {cell.method for cell in cells if cell.task == "weak-supervision"})
    return cells


def _check_classifiers(recipe: BenchmarkRecipe, trained: set[str]) -> None:
    """Raise `UserError` for a classifier asked for by name that takes the labels of no setting."""
    if idle := [name for name in recipe.classifiers if name not in trained and recipe.classifiers != "all"]:
        why = classify.why_not(idle[0], classify.labels_like(recipe.settings[0].noise))
        raise UserError(f"The classifier {idle[0]!r} takes the labels of none of the benchmark's settings: {why}")


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
                for method in filter(_draws, recipe.methods):
                    yield _samples_cell(recipe, data, method, recipe.generation, seed)
            for arm in _arms(recipe, data):
                yield _classifier_cell(recipe, data, arm, seed)


def _set_cell(recipe: BenchmarkRecipe, data: Setting, name: str, by: str, ipc: int, seed: int, number: int = 0) -> Cell:
    """A set of the method or row called `name`, the `number`-th under the noise of `seed`."""
    row = recipe.rows.get(name)
    method = name if row is None else row.method
    judged = recipe.judged.get(method, recipe.evaluate) if row is None or row.evaluate is None else row.evaluate
    own = _own(recipe, data, method) if row is None else row.options
    options = _options(method)
    trains = None if options is None else _trains(options, own)
    trainer = method if _trained_part(own) == _trained_part(_own(recipe, data, method)) else name
    made_with = seed if number == 0 else rng.derive(seed, "set", number)
    drawn = {} if number == 0 else {"noise_seed": seed if data.noise_seed is None else data.noise_seed}
    named = {
        **_named(recipe, data, method, made_with),
        "ipc": ipc,
        "clean_first": by,
        "evaluate": judged.model_dump(mode="json"),
        **_repaired(recipe, by),
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
    """The options that decide what is trained: a row that agrees in them with its method shares its generator.

    `drawn` matters by its default of `second_stage` alone.
    """
    drawing = {"draw", "drawn"} if "second_stage" in own else {"draw"}
    return {key: value for key, value in own.items() if key not in drawing}


def _repaired(recipe: BenchmarkRecipe, by: str) -> dict[str, Any]:
    labeller = _labeller(recipe, by)
    return {"labeller": labeller} if labeller else {}


def _labeller_name(recipe: BenchmarkRecipe, data: Setting, by: str, seed: str) -> str | None:
    repairs = by in LABELLERS and "generator" not in _labeller(recipe, by)
    return f"{_place(data)}_labels-by-{by}_{seed}" if repairs else None


def _judged_cells(recipe: BenchmarkRecipe, cell: Cell) -> Iterator[Cell]:
    """The cell, and one for each further way in which its set is scored."""
    yield cell
    for wanted in recipe.also:
        how = "-".join([wanted.protocol, *([] if wanted.network is None else [wanted.network])])
        judged = merge(cell.recipe, {"evaluate": wanted.model_dump(mode="json")})
        yield dataclasses.replace(
            cell, name=f"{cell.name}_judged-{_slug(how)}", recipe=judged, shared=None, trains=None, set_of=cell.name
        )


def _whole_cells(recipe: BenchmarkRecipe, data: Setting, by: str, seed: int) -> Iterator[Cell]:
    """Networks on all real images: for as many batches as on a set of each size, or for some epochs."""
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
                    **_repaired(recipe, by),
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
    """Whose options an arm has, besides a generator's."""
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
    """A cell that makes no set; of a method without a generator nothing is trained."""
    own = _own(recipe, data, method) if _draws(method) else {}
    trains: Trained | None = "generator" if _draws(method) and "generator" not in own else None
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
    """What the recipes of all cells of a method, setting and seed have."""
    return {
        "data": _asked(data) | {"name": data.name, "noise": data.noise} | _found_at(recipe, data),
        "method": method,
        "seed": seed,
        **({"quick": True} if recipe.quick else {}),
    }


def _own(recipe: BenchmarkRecipe, data: Setting, method: str) -> dict[str, Any]:
    """The method's options: those of the recipe of the data's generators, and over them the benchmark's own."""
    below: dict[str, Any] = {}
    if data.name in recipe.generators and _draws(method):
        found = read_config(recipe.generators[data.name])
        below = {key: found[key] for key in GENERATOR_SECTIONS if key in found}
    return merge(below, recipe.options.get(method, {}))


def _arms(recipe: BenchmarkRecipe, data: Setting) -> list[str]:
    """The classifiers that take the labels of a setting, as far as its noise tells.

    Raises `UserError` for `all` of a file of labels, whose kind is known when it is read.
    """
    if recipe.classifiers == "all" and data.labels is not None:
        raise UserError(
            f"Which classifiers take the labels of {data.labels} is not known before they are read; name some in "
            "classifiers."
        )
    asked = classify.names() if recipe.classifiers == "all" else recipe.classifiers
    if data.labels is not None:
        return list(asked)
    like = classify.labels_like(data.noise)
    return [arm for arm in asked if classify.why_not(arm, like) is None]


def _published(data: Setting) -> tuple[str, str]:
    """Data and noise of the numbers that stand beside."""
    beside = data.published
    return beside.data or data.name, beside.noise or _labels(data.noise, data.labels)


def _place(data: Setting) -> str:
    """What the names of a setting's folders begin with."""
    return "_".join([_slug(_setting(data)), *_whose(data)])


def _group(data: Setting, method: str) -> str:
    return f"{_place(data)}_{_slug(method)}"


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
    return model.model_dump(mode="json", exclude_defaults=True, exclude={"published"})


def _placeless(recipe: Mapping[str, Any]) -> dict[str, Any]:
    data = recipe.get("data")
    if not isinstance(data, Mapping):  # of a damaged file
        return dict(recipe)
    return {**recipe, "data": {key: value for key, value in data.items() if key not in ("root", "download")}}


def _slug(text: str) -> str:
    """Safe as a file name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")

"""A benchmark's recipe: methods, settings, sizes, seeds and judges, checked before a cell of it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from condense import methods
from condense.classifiers.arms._training import ArmTraining
from condense.errors import UserError
from condense.evaluate.features import FULL
from condense.evaluate.judge import STEPS
from condense.evaluate.protocols import protocol
from condense.evaluate.quality import KS
from condense.methods._generate import GeneratorOptions
from condense.options import Options
from condense.pipeline import classify
from condense.pipeline.feature_space import check_space
from condense.pipeline.plan import CLASSIFIERS, read_config
from condense.recipe import DataRecipe, EvaluateRecipe, merge, parse

EXTENDS = "extends"
# who repairs labels by something trained, and its options
LABELLERS: dict[str, type[Options]] = {"dmis": GeneratorOptions, **CLASSIFIERS}


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
            parse(LABELLERS[by], labeller_options(recipe, by), f"benchmark's options for the labeller {by!r}")
    return recipe.model_copy(update={"methods": names})


def _check_tasks(recipe: BenchmarkRecipe, names: Sequence[str], classifiers: Sequence[str]) -> None:
    """Whether everything named has a cell, and labels as given are there where they are needed."""
    drawers = [name for name in names if is_generator(name)]
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


def method_options(method: str) -> type[Options] | None:
    """The options of a method; None for a module that the user did not name by hand: it is not imported."""
    return methods.load(method).Options if methods.is_trusted(method) else None


def _parse_options(method: str, values: Mapping[str, Any], name: str) -> None:
    if (options := method_options(method)) is not None:
        parse(options, values, f"benchmark's options for {name!r}")


def is_generator(method: str) -> bool:
    """Whether a method has a generator."""
    options = method_options(method)
    return options is not None and "generator" in options.model_fields


def labeller_options(recipe: BenchmarkRecipe, by: str) -> dict[str, Any]:
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

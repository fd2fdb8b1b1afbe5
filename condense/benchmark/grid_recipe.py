"""A benchmark's recipe: methods, settings, sizes, seeds and protocols, checked before any cell is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from condense import methods
from condense.classifiers.arm_training import ArmTraining
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
TABLES = ("roots", "generators", "options", "judged", "rows")  # sections whose entries have names of the user's
# labellers that are trained, and their options
LABELLERS: dict[str, type[Options]] = {"dmis": GeneratorOptions, **CLASSIFIERS}


class Column(Options):
    """A column of a paper's tables, in our names."""

    data: str | None = Field(None, description="data set; the setting's own when empty")
    noise: str | None = Field(None, description="noise, or the paper's name for human labels")


class Setting(DataRecipe):
    """Data and labels, and the published numbers to compare with."""

    published: Column = Field(
        Column(), description="column of the papers' tables to compare with; the same data and noise when empty"
    )


class GenerationRecipe(Options):
    """How many samples of a generator are measured, and what they are compared with."""

    samples: int = Field(FULL, ge=1, description="images drawn in total, equally many of each class")
    real: int = Field(FULL, ge=2, description="maximum number of real training images to compare with")
    space: str = Field("convnet", description="feature space: convnet, efflite0 or inception")
    weights: Path | None = Field(None, description="weights file that the space inception needs")
    ks: tuple[int, ...] = Field(KS, min_length=1, description="numbers of neighbours for Density and Coverage")
    steps: int = Field(STEPS, ge=1, description="training batches of the classifier of the space convnet")


class MethodRow(Options):
    """A further row of the tables: a method with its own options or its own scoring."""

    method: str = Field(description="name of the method")
    options: dict[str, Any] = Field(default_factory=dict, description="its options, in place of the method's")
    evaluate: EvaluateRecipe | None = Field(None, description="how it is scored; like its method when empty")


class BenchmarkRecipe(Options):
    """A grid of every method, setting, size and seed, with the labels as given or repaired."""

    title: str = Field("", description="heading of the report")
    methods: list[str] | Literal["all"] = Field("all", description="names of methods, or all")
    settings: list[Setting] = Field(min_length=1, description="data and noise, as in a recipe's section `data`")
    roots: dict[str, Path] = Field(default_factory=dict, description="folders of named data sets, by their name")
    download: bool = Field(False, description="whether named data sets may be downloaded")
    ipc: list[int] = Field([10], description="images per class; no sets are made when empty")
    seeds: list[int] = Field([0], min_length=1, description="seeds of the noise, the methods and the scoring")
    clean_first: list[str] = Field(["none"], min_length=1, description="labellers that repair the labels beforehand")
    quick: bool = Field(False, description="whether every default is the method's smallest budget")
    evaluate: EvaluateRecipe = EvaluateRecipe()
    generation: GenerationRecipe | None = Field(None, description="how the generators' samples are measured")
    classifiers: list[str] | Literal["all"] = Field([], description="arms of `dmis classify` to train and test")
    fit: ArmTraining = Field(ArmTraining(), description="training budget of all classifiers except the generators'")
    generators: dict[str, str] = Field(
        default_factory=dict,
        description="recipe whose sections network, train, second_stage and draw apply to generators, by data set",
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of a method or classifier, by its name; they override `generators`"
    )
    judged: dict[str, EvaluateRecipe] = Field(
        default_factory=dict, description="methods scored in another way, by their name, e.g. on soft labels"
    )
    rows: dict[str, MethodRow] = Field(
        default_factory=dict, description="further methods with other options, by row name"
    )
    also: list[EvaluateRecipe] = Field([], description="further ways of scoring every set")
    sets: int = Field(1, ge=1, description="sets made under each seed's noise, each with its own seed")
    whole: list[int | Literal["equal"]] = Field(
        [], description="networks on all real images: for so many epochs, or for as many batches as on a set (equal)"
    )
    labeller: dict[str, Any] = Field(
        default_factory=dict, description="options of the labeller; with several labellers, one section each by name"
    )


def layers_of(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's recipe by path or name, or as a file holds it, over the recipes it extends, see `overridden`.

    Raises:
        UserError: a recipe is missing or is not a YAML mapping, or recipes extend each other in a cycle.
    """
    layers, seen = (read_config(config), [config]) if isinstance(config, str) else (dict(config), [])
    while (below := layers.pop(EXTENDS, None)) is not None:
        if below in seen:
            raise UserError(f"The recipe {seen[0]} extends {' which extends '.join([*seen[1:], below])}: a cycle.")
        seen.append(str(below))
        layers = overridden(read_config(str(below)), layers)
    return layers


def overridden(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with `above` merged over it, which can also take things out.

    An empty section, `rows: {}`, empties that of `below`; null takes out a section, `rows: null`, or one entry of those
    in `TABLES`, `rows: {plain: null}`. Deeper, null is a value as any other: `second_stage: null` means without one.

    Raises:
        UserError: as `merge`.
    """
    kept, over = _emptied(below, above), dict(above)
    for name, section in above.items():
        if section is None and isinstance(below.get(name), Mapping):
            del kept[name], over[name]
        elif name in TABLES and isinstance(section, Mapping) and isinstance(below.get(name), Mapping):
            gone = {key for key, value in section.items() if value is None and key in below[name]}
            kept[name] = {key: value for key, value in kept[name].items() if key not in gone}
            over[name] = {key: value for key, value in section.items() if key not in gone}
    return merge(kept, over)


def _emptied(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with every section empty that is `{}` in `above`."""
    return {
        key: ({} if over == {} else _emptied(value, over))
        if isinstance(value, Mapping) and isinstance(over := above.get(key), Mapping)
        else value
        for key, value in below.items()
    }


def read_benchmark(layers: Mapping[str, Any]) -> BenchmarkRecipe:
    """The recipe, checked as far as possible without its data, with `methods` as a list.

    The options of methods outside the package are checked only if the user named them, see `methods.trust`; those of
    classifiers that are not installed here are not checked.

    Raises:
        UserError: an unknown key or option, or a value out of range.
    """
    if "settings" not in layers:
        raise UserError(
            "A benchmark's recipe needs a list of `settings`, e.g. settings: [{name: digits, noise: 'sym:0.4'}]; "
            "a recipe without them is for `dmis condense -c`."
        )
    recipe = parse(BenchmarkRecipe, layers, "benchmark's recipe")
    names = list(methods.names()) if recipe.methods == "all" else recipe.methods
    classifiers = list(classify.names()) if recipe.classifiers == "all" else recipe.classifiers
    if not names and not classifiers:
        raise UserError("The benchmark's recipe names no methods; write methods: all, or a list.")
    for name, row in recipe.rows.items():
        _parse_options(row.method, row.options, name)
        if name in names:
            raise UserError(f"The benchmark's row {name!r} has the name of a method; give it another name.")
    known = {*names, *(classify.objective_of(name) for name in classifiers if name in classify.OF_GENERATORS)}
    for name in known:
        _parse_options(name, recipe.options.get(name, {}), name)
    classify.read_options(recipe.fit, recipe.options, classifiers)
    if unused := set(recipe.options) - known - set(classifiers) or set(recipe.judged) - set(names):
        raise UserError(f"The benchmark has options for {sorted(unused)[0]!r}, which is not among its methods.")
    _check_tasks(recipe, names, classifiers)
    of_rows = [row.evaluate for row in recipe.rows.values() if row.evaluate is not None]
    for wanted in (recipe.evaluate, *recipe.judged.values(), *of_rows, *recipe.also):
        protocol(wanted.protocol)
    ways = [way_of(wanted) for wanted in (recipe.evaluate, *recipe.also)]
    if twice := [way for number, way in enumerate(ways) if way in ways[:number]]:
        raise UserError(
            f"The benchmark scores every set twice by the protocol {twice[0][0]} with {twice[0][1]}, which would count "
            "as two sets; name each way once in evaluate and also, and more networks by repeats."
        )
    for by in recipe.clean_first:
        if by in LABELLERS:
            parse(LABELLERS[by], labeller_options(recipe, by), f"benchmark's options for the labeller {by!r}")
    return recipe.model_copy(update={"methods": names})


def way_of(wanted: EvaluateRecipe) -> tuple[str, str]:
    """Protocol and network of a way of scoring: results of one way stand in one column."""
    return wanted.protocol, wanted.network or protocol(wanted.protocol).network


def _check_tasks(recipe: BenchmarkRecipe, names: Sequence[str], classifiers: Sequence[str]) -> None:
    """Check that everything named has a cell, and that samples and classifiers get the labels as given."""
    drawers = [name for name in names if is_generator(name)]
    if recipe.generation is not None:
        check_space(recipe.generation.space, recipe.generation.weights)
        if not drawers:
            raise UserError("The benchmark measures samples (generation), but none of its methods has a generator.")
    if not recipe.ipc and (idle := set(names) - set(drawers if recipe.generation else ())):
        raise UserError(
            f"The benchmark makes no sets, because ipc is empty, so there is nothing to do for {sorted(idle)[0]!r}; "
            "give images per class, or measure the samples of generators with a section generation."
        )
    if (recipe.generation or classifiers) and recipe.clean_first != ["none"]:
        raise UserError(
            "Samples and classifiers are benchmarked with the labels as given; leave clean_first out, or make sets in "
            "a separate benchmark."
        )


def method_options(method: str) -> type[Options] | None:
    """The options of a method; None for an outside module that the user did not name, which is not imported."""
    return methods.load(method).Options if methods.is_trusted(method) else None


def _parse_options(method: str, values: Mapping[str, Any], name: str) -> None:
    if (options := method_options(method)) is not None:
        parse(options, values, f"benchmark's options for {name!r}")


def is_generator(method: str) -> bool:
    """Whether a method has a generator."""
    options = method_options(method)
    return options is not None and "generator" in options.model_fields


def labeller_options(recipe: BenchmarkRecipe, by: str) -> dict[str, Any]:
    """The options of the labeller called `by`; empty for "oracle" and "none".

    Raises:
        UserError: two labellers would share one section, or a section names an unknown labeller.
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

"""From a request to a plan: recipe layers, data, labels, the method and its options.

Layers, from lowest to highest priority: generator defaults for size and number of the images, with `--quick` the
method's smallest budget, with `drawn: as-published` plain drawing, the recipe file (`-c`), named options (`--ipc`),
`--set a.b=c`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, get_args

import yaml

from condense import methods
from condense.classifiers.cross import FoldOptions
from condense.data.types import Source, TrainingSet
from condense.errors import UserError
from condense.generator.generator_file import FILE
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.options import ObjectiveName
from condense.methods._generate import PLAIN, GeneratorOptions
from condense.notices import tell
from condense.options import Options
from condense.pipeline.data import LoadedData, given_labels, load_source, tell_of_flip
from condense.recipe import (
    DataRecipe,
    Recipe,
    check_sections,
    generator_defaults,
    merge,
    parse,
    parse_overrides,
    read_yaml,
    resolve,
    shipped,
)
from condense.text import shortened

GENERATOR_SECTIONS = tuple(GeneratorOptions.model_fields)
LABELLER_SECTIONS = ("generator", "network", "train")
DRAWING_SECTIONS = ("second_stage", "draw", "refine")  # of the defaults by image size; a labeller draws no images
BELIEVERS = ("dmis", "labeller")  # repairs that return beliefs in addition to labels
CLASSIFIERS: Mapping[str, type[LabellerOptions] | type[FoldOptions]] = {
    "labeller": LabellerOptions,
    "cleanlab": FoldOptions,
}
"""Options of the classifiers that repair labels, by their name in `clean_first`."""
Repairer: TypeAlias = GeneratorOptions | LabellerOptions | FoldOptions
OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)


@dataclass(frozen=True)
class Request:
    """A user's request, before it is resolved.

    Attributes:
        config: a recipe file, or the name of a recipe that ships with the package.
        named: options of the command line, nested like a recipe.
        settings: overrides of the form `a.b=c`.
    """

    config: str | None = None
    named: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """A resolved request.

    Attributes:
        recipe: the resolved recipe; its `options` and `labeller` hold every field.
        source: the data as used, with the truth for scoring.
        train: the input of training.
        method: the method's module.
        options: the method's options.
        labeller: options of the generator, the labeller or the classifiers that repair the labels first, if any.
    """

    recipe: Recipe
    source: Source
    train: TrainingSet
    method: methods.Method
    options: Options
    labeller: Repairer | None

    @property
    def beliefs_are_given(self) -> bool:
        """Whether the method receives beliefs in addition to the labels."""
        return self.train.beliefs is not None or self.recipe.clean_first in BELIEVERS

    def written(self) -> dict[str, Any]:
        """The resolved recipe in the form of a recipe file: plain values, the method's options at the top level."""
        plain = self.recipe.model_dump(mode="json")
        options = plain.pop("options")
        if self.labeller is None:
            del plain["labeller"]
        return {**plain, **options}


def make_plan(request: Request, loaded: LoadedData | None = None) -> Plan:
    """Read the recipe, then the data, then all options.

    Args:
        request: the request.
        loaded: the data, if in memory already; then the request must not name data.

    Raises:
        UserError: the recipe, the data or an option cannot be used.
    """
    file, asked = _layers(request)
    if loaded is not None:
        _check_names_no_other_data(_section(file, "data"), _section(asked, "data"), loaded)
        file, asked = {**file, "data": loaded.recipe.model_dump(exclude_unset=True)}, {**asked, "data": {}}
    layers = merge(file, asked)
    data = parse(DataRecipe, _section(layers, "data"), "recipe section 'data'")
    # the user's own code is imported only if named by hand, never because an (untrusted) recipe file names it
    method = methods.load(str(layers.get("method", Recipe.model_fields["method"].default)), own="method" in asked)
    if loaded is None and "name" not in _section(layers, "data"):
        tell(f"no data set is named, so this works on {data.name!r}; name yours with --data NAME|PATH.")
    source = load_source(data) if loaded is None else loaded.source
    tell_of_flip(source.train)
    found = len(source.train) if loaded is None else loaded.images_found
    recipe, options, labeller = resolve_options(file, asked, method, min(source.train.image_shape[1:]), found)
    if labeller is None and (idle := parse_overrides(request.settings).get("labeller")):
        raise UserError(
            f"--set labeller.{next(iter(idle))}=… has no effect, because no labels are repaired; choose what repairs "
            "them with --clean-first, or leave it out."
        )
    for generator in (options, labeller):
        _check_generator(getattr(generator, "generator", None))
    if loaded is None:
        loaded = given_labels(source, data, recipe.noise_seed)
    elif recipe.data.noise != "none" and loaded.noise_seed != recipe.noise_seed:
        seeded = recipe.data.model_copy(update={"noise_seed": loaded.noise_seed})
        recipe = recipe.model_copy(update={"data": seeded})
    return Plan(recipe, loaded.source, loaded.training_set(), method, options, labeller)


def resolve_options(
    file: Mapping[str, Any],
    asked: Mapping[str, Any],
    method: methods.Method,
    image_side: int,
    images: int | None = None,
) -> tuple[Recipe, Options, Repairer | None]:
    """The recipe with every option filled in, for images of `image_side` pixels.

    Sections about generators are the method's if it has one, and then its labeller's lie in `labeller`. If it has none,
    they apply only to the labeller; a recipe file may also contain them without effect, so that one file serves all
    methods.

    Args:
        file: the recipe file, method options at the top level.
        asked: options that override it, in the same form.
        method: the method's module.
        image_side: smaller side of the images in pixels.
        images: number of training images; None: no limit on the training steps.

    Returns:
        The recipe, the method's options, and those of the repair if `clean_first` names one that is trained.

    Raises:
        UserError: an unknown key or a value out of range.
    """
    sizes = generator_defaults(image_side, images)
    layers = merge(file, asked)
    check_sections(GeneratorOptions, layers)
    check_sections(method.Options, layers)
    foreign = [key for key in GENERATOR_SECTIONS if key not in method.Options.model_fields]
    for_labeller = {key: layers[key] for key in LABELLER_SECTIONS if key in layers and "generator" in foreign}
    quick = layers.get("quick", False)
    plain = PLAIN if layers.get("drawn") == "as-published" else {}
    own = merge(
        {key: value for key, value in sizes.items() if key not in foreign and "generator" not in foreign},
        method.Options.QUICK if quick else {},
        {key: value for key, value in plain.items() if key not in foreign},
        {key: value for key, value in file.items() if key not in foreign},
        {key: value for key, value in asked.items() if not (layers.get("clean_first") == "dmis" and key in foreign)},
    )
    recipe = resolve(own)
    if recipe.method in OBJECTIVES:
        recipe = recipe.model_copy(update={"options": merge(recipe.options, {"train": {"objective": recipe.method}})})
    options = parse(method.Options, recipe.options, f"recipe for method {recipe.method!r}")
    labeller = _repairer(recipe, sizes, for_labeller, quick=bool(quick))
    filled = {
        "options": options.model_dump(mode="json"),
        "labeller": {} if labeller is None else labeller.model_dump(mode="json", exclude={"drawn", "draw", "refine"}),
    }
    return recipe.model_copy(update=filled), options, labeller


def _repairer(
    recipe: Recipe, sizes: Mapping[str, Any], for_generator: Mapping[str, Any], *, quick: bool
) -> Repairer | None:
    """The options of the labeller; `for_generator` and the defaults `sizes` apply only to a generator."""
    if recipe.clean_first in CLASSIFIERS:
        kind = CLASSIFIERS[recipe.clean_first]
        return parse(kind, merge(kind.QUICK if quick else {}, recipe.labeller), "recipe section 'labeller'")
    if recipe.clean_first != "dmis":
        return None
    budget = GeneratorOptions.QUICK if quick else {}
    learning = {key: value for key, value in sizes.items() if key not in DRAWING_SECTIONS}
    asked = merge(learning, budget, for_generator, recipe.labeller, {"train": {"objective": "dmis"}})
    return parse(GeneratorOptions, asked, "recipe section 'labeller'")


def read_layers(request: Request) -> dict[str, Any]:
    """The recipe file with all overrides, method options at the top level."""
    return merge(*_layers(request))


def _layers(request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe file, and the options that override it."""
    file = _flat(read_config(request.config)) if request.config else {}
    if {"methods", "settings", "extends"} & set(file):
        raise UserError(
            f"The recipe {request.config} is a grid of several runs; use `dmis benchmark {request.config} --out DIR`, "
            "or give the recipe of a single run."
        )
    return file, merge(_flat(request.named), _flat(parse_overrides(request.settings)))


def read_config(config: str) -> dict[str, Any]:
    """A recipe file by path, or a recipe shipped with the package by name. Raises `UserError` if there is none."""
    if Path(config).exists() and not Path(config).is_dir():
        return read_yaml(Path(config))
    name = Path(config).name.removesuffix(".yaml")
    names = sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("condense.recipes").iterdir()
        if entry.name.endswith(".yaml") and not entry.name.startswith("generator-")
    )
    if name in names and Path(config).parent == Path():
        return shipped(name)
    raise UserError(f"There is no recipe {config!r}; give a YAML file, or one of those that ship: {', '.join(names)}.")


def as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, short lists on one line."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def _flat(layer: Mapping[str, Any]) -> dict[str, Any]:
    """`layer` with the section of method options moved to the top level."""
    rest = {key: value for key, value in layer.items() if key != "options"}
    return merge({} if layer.get("options") is None else layer["options"], rest)


def _section(layers: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = layers.get(name, {})
    if not isinstance(section, dict):
        shown = shortened(str(section), 80)
        raise UserError(f"The recipe section {name!r} is {shown!r}; write it as {{name: {shown}, …}}.")
    return section


def _check_names_no_other_data(file: Mapping[str, Any], asked: Mapping[str, Any], loaded: LoadedData) -> None:
    """Refuse what `asked` says otherwise of data that are loaded already; tell what a recipe file says of labels."""
    known, drawn = loaded.recipe.model_dump(), {"noise_seed": loaded.noise_seed}
    wanted = parse(DataRecipe, {**known, **asked}, "recipe section 'data'").model_dump()
    for name, value in asked.items():
        if wanted[name] not in (known[name], drawn.get(name, known[name])):
            raise UserError(
                f"The data are loaded already, so data.{name} = {shortened(repr(value), 80)} of the recipe cannot "
                "change them; give it to load_data."
            )
    for name in ("noise", "labels"):
        if (value := file.get(name, known[name])) != known[name]:
            tell(
                f"the recipe's data.{name} = {shortened(repr(value), 80)} is not used, because the data are loaded "
                "already; give it to load_data."
            )


def _check_generator(folder: Path | None) -> None:
    if folder is not None and not (folder / f"{FILE}.safetensors").is_file():
        raise UserError(
            f"{folder} holds no trained generator ({FILE}.safetensors); give the run folder of `dmis train`, "
            "or leave it out to train one."
        )

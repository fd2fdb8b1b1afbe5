"""The recipe: one typed description of a run, read from YAML and overridden by `--set a.b=c`.

Top-level keys are the fields of `Recipe`; every other key belongs to the method's own options, e.g.

    data: {name: fashion-mnist, noise: sym:0.4}
    method: dmis
    ipc: 10
    train: {steps: 8000}

A recipe without a file starts from the generator defaults for the data's image size (`generator-*.yaml`),
trained for fewer steps where there are few images.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from condense.errors import UserError, in_short
from condense.json_values import JSON
from condense.options import Options
from condense.rng import MOST_SEEDS
from condense.text import shortened

Model = TypeVar("Model", bound=BaseModel)

_MOST_BYTES, _MOST_VALUES, _DEEPEST = 2**18, 100_000, 30

SIZES: tuple[tuple[int, str, int | None], ...] = (
    (16, "generator-8px", None),
    (40, "generator-28px", 100),
    (10**9, "generator-64px", None),
)
"""(largest image side in pixels, recipe of defaults, most epochs of the stage that learns the classes).

Without a limit the network sees a small data set so often that it memorises wrong labels; docs/decisions.md has the
figures behind the limits.
"""


class DataRecipe(Options):
    """Which images, and what is done to their labels."""

    name: str = Field("digits", description="name or path of the data set")
    root: Path | None = Field(None, description="folder or file that holds a named data set")
    image_size: int | None = Field(None, ge=4, description="side in pixels to which images are cropped and resized")
    download: bool = Field(False, description="whether a named data set may be downloaded")
    fit: Literal["crop", "pad", "squash"] = Field(
        "crop", description="how images are made square: crop the middle, pad with a margin, or stretch"
    )
    background: Literal["white", "grey", "black"] = Field(
        "white", description="colour behind transparent images and of the margin of fit: pad"
    )
    skip_unreadable: bool = Field(False, description="whether to skip files that cannot be read")
    flip: bool | None = Field(
        None, description="whether a mirrored image keeps its class; guessed from the class names when empty"
    )
    labels: str | None = Field(None, description="FILE or FILE::NAME of the given labels, in place of the data's own")
    noise: str = Field("none", description="KIND:RATE injected into clean labels, e.g. sym:0.4")
    noise_seed: int | None = Field(
        None, ge=0, lt=MOST_SEEDS, description="seed of the noise; the recipe's seed when empty"
    )


class EvaluateRecipe(Options):
    """How the condensed set is scored."""

    protocol: str = Field("hard", description="name of the protocol")
    network: str | None = Field(None, description="downstream network; the protocol's own when empty")
    repeats: int = Field(5, ge=1, description="networks per set")


class Recipe(Options):
    """A resolved run."""

    data: DataRecipe = DataRecipe()
    method: str = Field("dmis", description="name of the condensation method")
    ipc: int = Field(10, ge=1, description="images per class")
    seed: int = Field(0, ge=0, lt=MOST_SEEDS, description="seed of everything")
    quick: bool = Field(False, description="whether to use the method's smallest budget as defaults, for a first try")
    clean_first: Literal["none", "dmis", "labeller", "cleanlab", "oracle"] = Field(
        "none", description="how the labels are repaired beforehand; oracle: the true labels"
    )
    labeller: dict[str, Any] = Field(
        default_factory=dict,
        description="options of the repair: generator, network and train of dmis; folds, epochs, … of others",
    )
    evaluate: EvaluateRecipe = EvaluateRecipe()
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own options")

    @property
    def noise_seed(self) -> int:
        """Seed of the injected noise."""
        return self.seed if self.data.noise_seed is None else self.data.noise_seed


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises `UserError` if the file is missing or does not hold a mapping."""
    try:
        if not path.is_file():
            raise UserError(f"The recipe {path} cannot be read: it is not a file.")
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"The recipe {path} has more than {_MOST_BYTES:,} bytes, which no recipe needs.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The recipe {path} is not YAML: {in_short(error)}.") from error
    found = _from_yaml(text, f"The recipe {path}")
    if not isinstance(found, dict):
        raise UserError(f"The recipe {path} must be a mapping of names to values.")
    return found


def _from_yaml(text: str, what: str) -> JSON:
    """YAML as plain values: mappings with text for keys, lists, texts, numbers, true, false and nothing.

    Raises `UserError` for anything else YAML allows: dates, bytes, sets, self-references.
    """
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        told = "it holds a number with too many digits" if "int_max_str_digits" in str(error) else in_short(error)
        raise UserError(f"{what} is not YAML: {told}.") from error
    return _plain(found, what, [_MOST_VALUES])


class _Loader(yaml.SafeLoader):
    """Safe YAML without dates: 2024-01-01 is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _plain(value: object, what: str, left: list[int], depth: int = 0) -> JSON:
    """`value` if it is plain; `left` counts the values still allowed, an alias at each use."""
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise UserError(f"{what} holds itself or too much: {_MOST_VALUES} values, {_DEEPEST} deep, are the most.")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{what} maps names to values, but {shortened(repr(key), 80)} is not a name; quote it.")
        return {key: _plain(item, what, left, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, what, left, depth + 1) for item in value]
    if value is None or isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    shown = "a number with too many digits" if isinstance(value, int) else f"a value of type {type(value).__name__}"
    raise UserError(f"{what} holds {shown}; write texts, numbers, lists and names with values.")


def shipped(name: str) -> dict[str, Any]:
    """A recipe that ships with the package, by its file name without ".yaml"."""
    with resources.as_file(resources.files("condense.recipes") / f"{name}.yaml") as path:
        return read_yaml(path)


def generator_defaults(image_side: int, images: int | None = None) -> dict[str, Any]:
    """Network and training options that suit images of `image_side` pixels.

    For few images, `train.steps` is limited to the epochs in SIZES.
    """
    name, passes = next((name, passes) for limit, name, passes in SIZES if image_side <= limit)
    defaults = shipped(name)
    if passes is not None and images is not None:
        train = defaults["train"]
        train["steps"] = min(train["steps"], math.ceil(passes * images / train["batch_size"]))
    return defaults


def parse_overrides(settings: Iterable[str]) -> dict[str, Any]:
    """`["train.steps=2000", …]` as a nested mapping; values are read as YAML."""
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"--set {setting!r} is not of the form a.b=value, e.g. train.steps=2000.")
        *parents, leaf = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {setting!r} sets a part of something that another --set gave a value.")
        try:
            place[leaf] = _from_yaml(value, "the value")
        except UserError as error:
            raise UserError(f"--set {shortened(repr(setting), 80)}: {error}") from error
    return nested


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings: later ones override earlier ones, and null overrides a whole section.

    Raises `UserError` if a layer is not a mapping, or has a value where another layer has a section.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        if not isinstance(layer, Mapping):
            raise UserError(
                f"Found {shortened(repr(layer), 80)} where names with values are needed, e.g. {{steps: 2000}}."
            )
        for key, value in layer.items():
            below = merged.get(key)
            if isinstance(below, dict) and isinstance(value, Mapping):
                merged[key] = merge(below, value)
                continue
            if None not in (below, value) and isinstance(below, dict) != isinstance(value, Mapping):
                if isinstance(below, dict):
                    _refuse_value(key, value)
                raise UserError(
                    f"The recipe key {key!r} is {shortened(repr(below), 80)} in one place (a recipe or the defaults), "
                    f"and {shortened(repr(value), 80)} in another; it is either one value or names with values."
                )
            merged[key] = value
    return merged


def check_sections(model: type[BaseModel], layers: Mapping[str, Any]) -> None:
    """Raise `UserError` where `layers` has a plain value, or null, for what is a section of `model`."""
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        may_lack = BaseModel in {base for part in get_args(field.annotation) for base in getattr(part, "__mro__", ())}
        value = layers.get(name, {})
        if (is_section or (may_lack and value is not None)) and not isinstance(value, Mapping):
            _refuse_value(name, value)


def _refuse_value(name: str, value: object) -> None:
    raise UserError(
        f"The recipe section {name!r} is {shortened(repr(value), 80)}; write names with values, e.g. {{steps: 2000}}, "
        "or leave it out."
    )


def resolve(layers: Mapping[str, Any]) -> Recipe:
    """A recipe from a nested mapping; keys it does not know become the method's options."""
    check_sections(Recipe, layers)
    known = {key: value for key, value in layers.items() if key in Recipe.model_fields}
    rest = {key: value for key, value in layers.items() if key not in Recipe.model_fields}
    known["options"] = merge(known.get("options") or {}, rest)
    return parse(Recipe, known, "recipe")


def parse(model: type[Model], values: Mapping[str, Any], what: str, *, options: bool = False) -> Model:
    """`values` as a pydantic model; errors become one sentence that names the key and the closest known one.

    Args:
        model: the pydantic model.
        values: nested like the model.
        what: what the values are, in words.
        options: whether they are command-line options, `--image-size` for image_size.
    """
    if not isinstance(values, Mapping):
        raise UserError(
            f"Found {shortened(repr(values), 80)} as the {what}; write names with values, e.g. {{steps: 2000}}."
        )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(first["loc"][-1]), _field_names(model), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(model.model_fields) or 'none'}."
            raise UserError(f"The {what} has an unknown key {place!r}; {hint}") from error
        shown = json.dumps(first.get("input"), default=str)[:80]
        key = f"--{place.replace('_', '-')[:80]}" if options else f"The {what} key {place[:80]!r}"
        told = " ".join(first["msg"].split())[:300]
        raise UserError(f"{key} is {shown}: {told}{_nearest(first)}.") from error


def _nearest(error: Mapping[str, Any]) -> str:
    """The question "did you mean …?" if the value resembles one of the allowed words."""
    allowed = re.findall(r"'([^']*)'", str((error.get("ctx") or {}).get("expected", "")))
    near = difflib.get_close_matches(str(error.get("input")), allowed, 1, 0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _field_names(model: type[BaseModel]) -> list[str]:
    """All field names of a model and of the models in it."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _field_names(field.annotation)
    return names

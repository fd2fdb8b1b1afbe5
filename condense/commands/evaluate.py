"""`dmis evaluate`: train networks on condensed sets and test them on real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate.protocols import Protocol, protocol
from condense.evaluate.sets import Evaluation
from condense.pipeline.data import own_data
from condense.pipeline.plan import Request, read_layers
from condense.pipeline.score import HowToScore, evaluate_sets, test_split
from condense.recipe import EvaluateRecipe, parse_overrides, resolve
from condense.run import Run
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import read

SECTIONS = ("data", "evaluate", "seed")  # of a recipe, which scoring uses


def evaluate(
    paths: Sequence[Path],
    request: Request,
    *,
    network_names: Sequence[str] = (),
    cross: bool = False,
    teacher: Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score the condensed sets at `paths`, one or several of one method, with each network.

    Args:
        paths: the sets.
        request: the sections `data` (source of the test images, by default the data set that the set records) and
            `evaluate` of its recipe are used, and the seed.
        network_names: from `condense.classifiers.networks.NAMES`; when empty the recipe's network, else the protocol's.
        cross: whether one network of each architecture that accepts images of this size is trained too.
        teacher: run folder of the teacher that gives the images soft labels, for protocols that use them.
        progress: whether a bar is drawn on stderr.

    Raises:
        UserError: a file is damaged or given twice, or a name is unknown; otherwise as `evaluate_sets`.
        RunFailed: the training diverged.
    """
    layers = read_layers(request)
    _check_settings(parse_overrides(request.settings))
    recipe = resolve({key: layers[key] for key in SECTIONS if key in layers})
    wanted = recipe.evaluate
    names = network_names or ([wanted.network] if wanted.network and not cross else [])
    how = HowToScore(protocol(wanted.protocol), names, cross, teacher, wanted.repeats, recipe.seed)
    named = "name" in layers.get("data", {})

    def test(condensed: CondensedSet) -> tuple[ImageData, Truth]:
        return test_split(condensed, recipe.data if named else own_data(condensed, recipe.data), its_own=not named)

    return evaluate_sets(read_sets(paths), test, how, Run(None, progress=progress))


def _check_settings(asked: Mapping[str, Any]) -> None:
    """Raise `UserError` if --set sets something that scoring does not use."""
    foreign = [key for key in asked if key not in SECTIONS]
    if foreign:
        raise UserError(
            f"--set {foreign[0]}=… has no effect here; settings begin with {' or '.join(SECTIONS)}, "
            "e.g. --set evaluate.repeats=3."
        )
    own = asked.get("evaluate")
    rules = {field.name for field in fields(Protocol)} - set(EvaluateRecipe.model_fields)
    fixed = [key for key in own if key in rules] if isinstance(own, Mapping) else []
    if fixed:
        raise UserError(
            f"--set evaluate.{fixed[0]}=… is refused: the protocol fixes it, so that scores can be compared; choose "
            f"another --protocol. Allowed: {', '.join(f'evaluate.{key}' for key in EvaluateRecipe.model_fields)}."
        )


def read_sets(paths: Sequence[Path]) -> dict[str, CondensedSet]:
    """The sets at `paths`, by path. Raises `UserError` if one is damaged or two are the same file."""
    sets = {str(path): read(path) for path in paths}
    if len(sets) < len(paths):
        twice = next(str(path) for path in paths if list(paths).count(path) > 1)
        raise UserError(f"{twice} and {twice} are the same set; counting it twice would narrow the interval.")
    return sets

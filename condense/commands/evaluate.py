"""`dmis evaluate`: train networks on condensed sets and test them on real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from condense.classifiers import networks
from condense.errors import UserError
from condense.evaluate.protocols import Protocol, protocol
from condense.evaluate.score import Score, check_comparable
from condense.evaluate.sets import SetsScore, check_one_method, combine
from condense.pipeline.data import own_data
from condense.pipeline.plan import Request, read_layers
from condense.pipeline.score import score_set, test_split, with_labels
from condense.recipe import EvaluateRecipe, parse_overrides, resolve
from condense.run import Run
from condense.sets.hdf5 import read

SECTIONS = ("data", "evaluate", "seed")  # of a recipe, which scoring uses


def evaluate(
    path: Path,
    request: Request,
    *,
    network_names: Sequence[str] = (),
    cross: bool = False,
    teacher: Path | None = None,
    progress: bool = False,
) -> list[Score]:
    """Score the condensed set at `path` with each of some networks.

    Args:
        path: the set.
        request: of the recipe the sections `data` (where the test images come from; the data set the set names when
            it gives no name) and `evaluate`, and the seed, are used.
        network_names: of `condense.classifiers.networks.NAMES`; the recipe's one, else the protocol's, when empty.
        cross: whether also one network of each kind that takes images of this size is trained.
        teacher: run folder of a teacher that gives the images their soft labels, for protocols with such.
        progress: whether a bar is drawn on stderr.

    Returns:
        One score a network, in the order asked for.

    Raises:
        UserError: the set is damaged, does not fit the test data or the protocol, or a name is not known.
        RunFailed: the training diverged.
    """
    table = _scores([path], request, network_names, teacher, cross=cross, progress=progress)
    return [scores[0] for scores in table]


def evaluate_sets(
    paths: Sequence[Path],
    request: Request,
    *,
    network_names: Sequence[str] = (),
    cross: bool = False,
    teacher: Path | None = None,
    progress: bool = False,
) -> list[SetsScore]:
    """As `evaluate`, of several sets that one method made alike but for the seed: one score a network for all sets.

    The networks of set i, counted from 0, are those of `evaluate` with i added to the seed: the interval needs every
    set to have networks of its own.

    Raises:
        UserError: as `evaluate`, or the sets are of different kinds, or two are the same.
        RunFailed: the training diverged.
    """
    names = [str(path) for path in paths]
    table = _scores(paths, request, network_names, teacher, cross=cross, progress=progress)
    return [combine(names, scores) for scores in table]


def _scores(
    paths: Sequence[Path],
    request: Request,
    network_names: Sequence[str],
    teacher: Path | None,
    *,
    cross: bool,
    progress: bool,
) -> list[list[Score]]:
    """For every network the score of every set."""
    layers = read_layers(request)
    foreign = [key for key in parse_overrides(request.settings) if key not in SECTIONS]
    if foreign:
        raise UserError(
            f"--set {foreign[0]}=… means nothing here; what is set begins with {' or '.join(SECTIONS)}, "
            "e.g. --set evaluate.repeats=3."
        )
    recipe = resolve({key: layers[key] for key in SECTIONS if key in layers})
    wanted, rules = recipe.evaluate, protocol(recipe.evaluate.protocol)
    sets = [with_labels(read(path), rules, teacher) for path in paths]
    check_one_method([str(path) for path in paths], sets)
    names = _network_names(network_names, wanted, rules, sets[0].images.shape[1], cross=cross)
    named = "name" in layers.get("data", {})
    test, truth = test_split(sets[0], recipe.data if named else own_data(sets[0], recipe.data), its_own=not named)
    for condensed in sets:
        check_comparable(condensed, test, truth)
    run = Run(None, progress=progress)
    return [
        [
            score_set(condensed, test, truth, rules, name, wanted.repeats, recipe.seed + index, run)
            for index, condensed in enumerate(sets)
        ]
        for name in names
    ]


def _network_names(
    asked: Sequence[str], wanted: EvaluateRecipe, rules: Protocol, side: int, *, cross: bool
) -> list[str]:
    """What to train, each once. Raises where a name is unknown or the images do not suit it, before the long work."""
    names = list(asked)
    if cross:
        names += [name for name in networks.CROSS if networks.fits(name, side)]
    if not names:
        names = [wanted.network or rules.network]
    for name in names:
        networks.check_fits(name, side)
    return list(dict.fromkeys(names))

"""`dmis classify`: compares classifiers that learn from imprecise labels, including the generators themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condense.json_values import JSON
from condense.pipeline import arm_scores
from condense.pipeline.arm_scores import ArmScores, Plans
from condense.pipeline.plan import Plan, Request, make_plan
from condense.recipe import merge, parse_overrides


@dataclass(frozen=True)
class Asked:
    """The classifiers to compare, as the command line names them.

    Attributes:
        arms: names of arms; "all" for every arm that accepts the labels.
        seed: the first seed.
        seeds: number of seeds, each with its own labels, networks and generators.
        generators: run folders of trained generators, at most one of each objective.
        settings: `a.b=c` each: `fit.epochs=40` for all arms, `ARM.option=value`, anything else for the generators.
    """

    arms: Sequence[str]
    seed: int = 0
    seeds: int = 1
    generators: Sequence[Path] = ()
    settings: Sequence[str] = ()


def classify(request: Request, asked: Asked, *, out: Path | None = None, progress: bool = False) -> ArmScores:
    """Train and test every arm asked for, see `arm_scores.score_arms`.

    Args:
        request: its recipe supplies the data and, for generators, the options of the method dmis.
        asked: the classifiers to compare.
        out: folder for one result per arm and seed, and for the generators; existing ones are reused.
        progress: whether bars are drawn on stderr.
    """
    plans, wanted = _read(request, asked)
    return arm_scores.score_arms(plans, wanted, out=out, progress=progress)


def dry_run(request: Request, asked: Asked, *, out: Path | None = None) -> dict[str, JSON]:
    """The arms and generators that `classify` would train, see `arm_scores.foresee`."""
    plans, wanted = _read(request, asked)
    return arm_scores.foresee(plans, wanted, out=out)


def _read(request: Request, asked: Asked) -> tuple[Plans, arm_scores.Asked]:
    settings = parse_overrides(asked.settings)
    own = {name: settings.pop(name) for name in arm_scores.with_options() if name in settings}

    def plan_of(seed: int) -> Plan:
        layers = merge(request.named, settings, {"method": "dmis", "seed": seed})
        return make_plan(Request(request.config, layers, request.settings))

    return plan_of, arm_scores.Asked(asked.arms, asked.seed, asked.seeds, asked.generators, own)

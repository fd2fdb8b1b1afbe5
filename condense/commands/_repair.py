"""`--clean-first`: the labels repaired before the method sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from condense import rng
from condense.commands._plan import Plan
from condense.condensed_set import Cost
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.session import train_generator
from condense.machine import best_device, num_processes
from condense.relabel import repaired_by, repaired_by_oracle
from condense.run import JSON, Run

FOLDER = "labeller"


@dataclass(frozen=True)
class Repaired:
    """Training data with other labels, what that took, and a note of the generator for the record."""

    train: TrainingSet
    cost: Cost = field(default_factory=Cost)
    notes: dict[str, JSON] = field(default_factory=dict)


def check_repair(plan: Plan) -> None:
    """Raise `UserError` where the labels cannot be repaired as the plan wants."""
    if plan.recipe.clean_first == "oracle" and plan.source.truth is None:
        raise UserError(
            f"{plan.source.train.name} has no clean labels, so no oracle can repair them; "
            "use --clean-first dmis, which learns them."
        )


def repair(plan: Plan, run: Run) -> Repaired:
    """The plan's training data, its labels repaired as the plan wants. Raises as `train_generator`."""
    check_repair(plan)
    if plan.recipe.clean_first == "oracle":
        assert plan.source.truth is not None
        return Repaired(repaired_by_oracle(plan.source.truth, plan.train))
    if plan.labeller is None:
        return Repaired(plan.train)
    generator = _labeller(plan, run)
    before = generator.denoiser.evaluations
    train = repaired_by(generator, plan.train, plan.recipe.seed)
    changed = train.supervision.observed != plan.train.supervision.observed
    meta = cast(Mapping[str, float], generator.meta)
    return Repaired(
        train,
        Cost(
            seconds=meta["seconds"],
            network_evaluations=int(meta["evaluations"]) + generator.denoiser.evaluations - before,
            peak_memory_bytes=int(meta["peak_memory_bytes"]),
            images_seen=int(meta["images_seen"]),
        ),
        {"labeller": generator.meta, "labels_changed": float(changed.mean())},
    )


def labeller_seed(seed: int) -> int:
    """Seed of the generator that repairs the labels, other than that of the generator trained on them."""
    return rng.derive(seed, "labeller")


def _labeller(plan: Plan, run: Run) -> Generator:
    options = plan.labeller
    assert options is not None
    if options.generator is not None:
        return Generator.load(Run(options.generator), best_device())  # `repaired_by` checks that it fits
    if num_processes() > 1:
        raise UserError(
            "Under torchrun one command trains one generator; train the one that repairs the labels with `dmis train`, "
            "then give it with --generator."
        )
    folder = Run(None if run.path is None else run.path / FOLDER, progress=run.progress)
    return train_generator(plan.train, options.network, options.train, labeller_seed(plan.recipe.seed), folder)

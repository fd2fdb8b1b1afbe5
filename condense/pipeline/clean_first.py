"""`--clean-first`: repairs the labels before the method sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from condense import rng
from condense.classifiers.cross import FoldOptions
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.labels import labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.model import Generator
from condense.generator.training.session import train_generator
from condense.machine import best_device, num_processes
from condense.methods._believed import labelling_cost
from condense.methods._generate import GeneratorOptions, training_cost
from condense.pipeline.plan import Plan
from condense.pipeline.relabel import check_cleanlab, relabelled, repaired_by, repaired_by_cleanlab, repaired_by_oracle
from condense.run import JSON, Run, peak_memory_bytes
from condense.sets.condensed_set import Cost

FOLDER = "labeller"


@dataclass(frozen=True)
class Repaired:
    """Training data with repaired labels, the cost of the repair, and a note for the record."""

    train: TrainingSet
    cost: Cost = field(default_factory=Cost)
    notes: dict[str, JSON] = field(default_factory=dict)


def check_repair(plan: Plan) -> None:
    """Raise `UserError` if the labels cannot be repaired as planned."""
    if plan.recipe.clean_first == "oracle" and plan.source.truth is None:
        raise UserError(
            f"{plan.source.train.name} has no clean labels, so the oracle cannot repair them; "
            "use --clean-first dmis, which learns them."
        )
    if plan.recipe.clean_first == "cleanlab":
        check_cleanlab(plan.train.supervision)
    if isinstance(plan.labeller, LabellerOptions):
        labeller.check(plan.train, plan.labeller)


def repair(plan: Plan, run: Run) -> Repaired:
    """The plan's training data with labels repaired as planned; the repairing network is saved in `run`.

    Raises as `check_repair`, `train_generator`, `labeller.fit` and `repaired_by_cleanlab`.
    """
    check_repair(plan)
    if plan.recipe.clean_first == "oracle":
        assert plan.source.truth is not None
        train = repaired_by_oracle(plan.source.truth, plan.train)
        return Repaired(train, notes={**_notes(plan, train), "uses_true_labels": True})
    if isinstance(plan.labeller, FoldOptions):
        return _repaired_by_cleanlab(plan, plan.labeller, run)
    if isinstance(plan.labeller, LabellerOptions):
        return _repaired_by_labeller(plan, plan.labeller, run)
    if isinstance(plan.labeller, GeneratorOptions):
        return _repaired_by_generator(plan, plan.labeller, run)
    return Repaired(plan.train)


def foreseen(plan: Plan) -> TrainingSet:
    """The training data as the method will get them, for its cost: after a repair any label for each, and beliefs."""
    if plan.recipe.clean_first == "none":
        return plan.train
    classes = plan.train.images.num_classes
    train = relabelled(plan.train, np.arange(len(plan.train)) % classes, plan.recipe.clean_first)
    return replace(train, beliefs=train.supervision.as_beliefs()) if plan.beliefs_are_given else train


def _notes(plan: Plan, train: TrainingSet) -> dict[str, JSON]:
    changed = train.supervision.observed != plan.train.supervision.observed
    return {"labels_repaired_by": plan.recipe.clean_first, "labels_changed": float(changed.mean())}


def _repaired_by_cleanlab(plan: Plan, options: FoldOptions, run: Run) -> Repaired:
    seed = labeller_seed(plan.recipe.seed)
    train, seconds = repaired_by_cleanlab(plan.train, options, seed, run, device=best_device())
    evaluations = fold_evaluations(options, len(plan.train))
    seen = evaluations - len(plan.train)
    cost = Cost(seconds, network_evaluations=evaluations, peak_memory_bytes=peak_memory_bytes(), images_seen=seen)
    return Repaired(train, cost, _notes(plan, train))


def _repaired_by_labeller(plan: Plan, options: LabellerOptions, run: Run) -> Repaired:
    fitted = labeller.fit(plan.train, options, labeller_seed(plan.recipe.seed), run, device=best_device())
    found = fitted.suggestions
    train = relabelled(plan.train, found.suggested, "labeller", found.posterior)
    return Repaired(train, labelling_cost(fitted), _notes(plan, train))


def fold_evaluations(options: FoldOptions, images: int) -> int:
    """Images passed through the classifiers: each trains in all folds but one, and is predicted in that one."""
    return images * (options.epochs * (options.folds - 1) + 1)


def _repaired_by_generator(plan: Plan, options: GeneratorOptions, run: Run) -> Repaired:
    generator = _labeller(plan, options, run)
    home = run if options.generator is None else Run(options.generator, progress=run.progress)
    train, believed = repaired_by(generator, plan.train, home)
    cost = training_cost(generator.record) + Cost(believed.seconds, believed.evaluations)
    return Repaired(train, cost, {"labeller": generator.record.to_json(), **_notes(plan, train)})


def labeller_seed(seed: int) -> int:
    """Seed of the generator that repairs the labels; it differs from that of the generator trained on them."""
    return rng.derive(seed, "labeller")


def labeller_run(plan: Plan, run: Run) -> Run:
    """The subfolder of the run for the network that repairs the labels; in memory if none does."""
    return run.within(FOLDER) if plan.labeller is not None else Run(None, progress=run.progress)


def _labeller(plan: Plan, options: GeneratorOptions, run: Run) -> Generator:
    if options.generator is not None:
        return Generator.load(Run(options.generator), best_device())  # `repaired_by` checks that it fits
    if num_processes() > 1:
        raise UserError(
            "Under torchrun one command trains one generator; train the one that repairs the labels with `dmis train`, "
            "then give it with --generator."
        )
    return train_generator(plan.train, options.network, options.train, labeller_seed(plan.recipe.seed), run)

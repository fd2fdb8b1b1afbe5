"""From a plan to a condensed set: optional label repair, the method, the full record."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from condense.classifiers import networks
from condense.classifiers.beside import write_beside
from condense.methods._generate import GeneratorOptions, check_features
from condense.methods._learn import PackedOptions
from condense.packing import check_pack
from condense.pipeline.clean_first import Repaired, check_repair, labeller_run, repair
from condense.pipeline.data import places
from condense.pipeline.plan import Plan
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


def check_plan(plan: Plan) -> None:
    """Raise `UserError` unless the images are large enough and can be packed, and the labels repaired and used."""
    learning = plan.options.refine if isinstance(plan.options, GeneratorOptions) else plan.options
    if isinstance(learning, PackedOptions):
        check_pack(learning.pack, *plan.train.images.images.shape[1:3])
    if isinstance(plan.options, GeneratorOptions):
        check_features(plan.options.draw, plan.train.images.images.shape[1])
    backbone = getattr(learning, "backbone", None)
    if backbone is not None:
        networks.check_fits(backbone, plan.train.images.images.shape[1])
    check_repair(plan)
    check = getattr(plan.method, "check", None)
    if check is not None and plan.recipe.clean_first == "none":
        check(plan.train, plan.recipe.ipc, plan.options)


def make_set(plan: Plan, run: Run, labeller: Run | None = None) -> CondensedSet:
    """Repair the labels if planned, condense, and record the whole recipe and cost in the set.

    A method that records no seconds is recorded with those of this call.

    Args:
        plan: the plan.
        run: keeps checkpoints of the method.
        labeller: run that saves the network repairing the labels; a subfolder of `run` when None.
    """
    repaired = repair(plan, labeller or labeller_run(plan, run))
    started = time.perf_counter()
    made = plan.method.condense(repaired.train, plan.recipe.ipc, plan.options, plan.recipe.seed, run)
    return _recorded(made, plan, repaired, time.perf_counter() - started)


def with_teacher(made: CondensedSet, plan: Plan, run: Run, out: Path) -> CondensedSet:
    """Write the teacher of the set's soft labels, if any, beside `out`; returns the set with its checksum recorded."""
    given = getattr(getattr(plan.options, "teacher", None), "folder", None)
    folder = given or run.path
    if made.soft_labels is None or "teacher" not in made.provenance.notes or folder is None:
        return made
    notes = {**made.provenance.notes, "online_teacher": write_beside(folder, out)}
    return dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, notes=notes))


def _recorded(made: CondensedSet, plan: Plan, repaired: Repaired, seconds: float) -> CondensedSet:
    told = made.provenance
    whole = repaired.cost + dataclasses.replace(told.cost, seconds=told.cost.seconds or seconds)
    notes = {**told.notes, **repaired.notes, **places(plan.recipe.data)}
    return dataclasses.replace(
        made, provenance=dataclasses.replace(told, recipe=plan.written(), cost=whole, notes=notes)
    )

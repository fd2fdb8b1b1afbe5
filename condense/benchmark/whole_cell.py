"""The cell of a benchmark that trains networks on all real images, as a reference for the sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from condense.benchmark.grid import WHOLE, Cell
from condense.benchmark.shared import now, read_score, write_json
from condense.evaluate.protocols import protocol
from condense.evaluate.results import Result
from condense.evaluate.score import FreshNetworks
from condense.evaluate.whole import epochs_of_steps, score_whole, steps_on_a_set
from condense.machine import best_device, machine
from condense.pipeline.clean_first import repair
from condense.pipeline.plan import Plan
from condense.run import Run

SCORE = "score.json"


def run_whole_cell(plan: Plan, cell: Cell, folder: Path, labeller: Run) -> None:
    """Repair the labels if the recipe asks for it, train on all images, test, and write score.json."""
    train, source = repair(plan, labeller).train, plan.source
    assert source.test is not None and source.test_truth is not None
    wanted = plan.recipe.evaluate
    rules = protocol(wanted.protocol)
    labelled = int((~train.supervision.unlabelled).sum())
    epochs = cell.recipe[WHOLE]["epochs"]
    if epochs is None:
        steps = steps_on_a_set(rules, plan.recipe.ipc * train.images.num_classes)
        epochs = epochs_of_steps(steps, labelled, rules.batch_size)
    print(f"{now()} training on {labelled} real images for {epochs} epochs")
    score = score_whole(
        train,
        source.test,
        source.test_truth,
        protocol=dataclasses.replace(rules, epochs=epochs),
        fresh=FreshNetworks(wanted.network, wanted.repeats, plan.recipe.seed),
        device=best_device(),
    )
    told = {**score.to_json(), "training_bytes": train.images.images.nbytes + 8 * labelled, "machine": machine()}
    write_json(folder / SCORE, told)


def read_whole_cell(folder: Path, before: Result) -> Result:
    """`before` with the score from a cell's folder; unchanged if there is none."""
    return read_score(folder / SCORE, before) or before

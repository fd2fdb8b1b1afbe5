"""The cell of a benchmark that trains a classifier on imprecise labels and tests it.

cells/NAME/  recipe.json  accuracy.json  log.txt  (error.json if it failed)
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from condense.benchmark.grid import CLASSIFIER, Cell
from condense.benchmark.shared import now, read_json, shared_generator, write_json
from condense.classifiers.arm_training import ArmTraining
from condense.evaluate.results import Result
from condense.generator.model import Generator
from condense.json_values import number
from condense.methods._generate import training_cost
from condense.pipeline.classify import arm_accuracy, check_test, read_options
from condense.pipeline.plan import Request, make_plan
from condense.recipe import parse

ACCURACY = "accuracy.json"


def run_classifier_cell(out: Path, cell: Cell) -> None:
    """Train the classifier, or the generator that classifies unless it exists, and test it.

    Raises:
        UserError: the recipe or the data do not suit the classifier.
        RunFailed: the training diverged.
        Interrupted: stopped by Ctrl-C; a generator's state is saved.
    """
    plan, asked = make_plan(Request(named=cell.planned)), cell.recipe[CLASSIFIER]
    check_test(plan)
    training = parse(ArmTraining, asked.get("fit", {}), "benchmark's section fit")
    started, earlier = time.perf_counter(), 0.0

    def generator(objective: str) -> Generator:
        nonlocal started, earlier
        found, _ = shared_generator(out, cell, plan)
        started, earlier = time.perf_counter(), training_cost(found.record).seconds
        return found

    print(f"{now()} training and testing the classifier {asked['name']}")
    options = read_options(training, asked["options"], [asked["name"]])
    accuracy = arm_accuracy(asked["name"], plan, options, generator)
    seconds = earlier + time.perf_counter() - started
    write_json(cell.folder(out) / ACCURACY, {"accuracy": accuracy, "seconds": seconds})


def read_classifier_cell(folder: Path, result: Result) -> Result:
    """`result` with the accuracy from a cell's folder; unchanged if there is none."""
    told = read_json(folder / ACCURACY)
    try:
        if told is None:
            return result
        accuracy = number(told, "accuracy")
        return dataclasses.replace(
            result, status="done", accuracies=(accuracy,), mean=accuracy, seconds=number(told, "seconds")
        )
    except (KeyError, TypeError, OverflowError):
        return result

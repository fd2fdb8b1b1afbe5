"""From a plan to a trained generator and its accuracy as a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.methods._generate import GeneratorOptions, cost_of_stages
from condense.pipeline.label_scores import labels_recovered, test_accuracy
from condense.pipeline.plan import OBJECTIVES, Plan
from condense.processes import leave_processes
from condense.run import JSON, Run


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training.

    Attributes:
        run: the run folder; None without one.
        seconds: time of all stages.
        evaluations: images passed through the networks.
        temperature: temperature of the generator as a classifier.
        test_accuracy: test accuracy in percent of the generator as a classifier; None without test images.
        labels_recovered: percentage of training labels that are right after repair by the generator; None if the truth
            is unknown.
    """

    run: Path | None
    seconds: float
    evaluations: int
    temperature: float
    test_accuracy: float | None
    labels_recovered: float | None

    def to_json(self) -> dict[str, JSON]:
        """All attributes as a JSON object."""
        return {
            "run": None if self.run is None else str(self.run),
            "seconds": self.seconds,
            "evaluations": self.evaluations,
            "temperature": self.temperature,
            "test_accuracy": self.test_accuracy,
            "labels_recovered": self.labels_recovered,
        }


def training_options(plan: Plan) -> GeneratorOptions:
    """The options of the plan's generator. Raises `UserError` if the plan has none to train."""
    if plan.recipe.method not in OBJECTIVES or not isinstance(plan.options, GeneratorOptions):
        raise UserError(
            f"The method {plan.recipe.method!r} has no generator to train; choose one of {', '.join(OBJECTIVES)}."
        )
    if plan.options.generator is not None or plan.recipe.clean_first != "none":
        raise UserError(
            "`dmis train` trains on the labels as given; leave out generator and clean_first, which belong to "
            "`dmis condense`."
        )
    return plan.options


def train_plan(plan: Plan, run: Run) -> Generator:
    """Train the plan's generator in `run`. Raises as `training_options`, `train_stages` and `leave_processes`."""
    options = training_options(plan)
    found = train_stages(plan.train, options.network, options.train, options.second_stage, plan.recipe.seed, run)
    leave_processes()
    return found


def describe_training(generator: Generator, plan: Plan, run: Path | None) -> TrainingOutcome:
    """The cost of the training, the test accuracy and, if the truth is known, the recovered labels."""
    cost = cost_of_stages(generator)
    return TrainingOutcome(
        run,
        cost.seconds,
        cost.network_evaluations,
        generator.temperature,
        test_accuracy(generator, plan),
        labels_recovered(generator, plan),
    )

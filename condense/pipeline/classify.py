"""The classifiers of `dmis classify` and of benchmarks: their names, options and test accuracy.

An arm is one of `condense.classifiers.arms`, or

    vanilla, dmis   the diffusion classifier of a generator with that objective, argmax p(y | x)
    dmis-ce         the arm `ce` on images drawn by the DMIS generator, as many as the training set has or `per_class`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from condense import rng
from condense.classifiers import arms
from condense.classifiers.arm_training import ArmTraining, train_arm
from condense.classifiers.fit import Epoch
from condense.classifiers.teacher import Teacher
from condense.data.noise_spec import LOST, parse_noise
from condense.data.types import ImageData, Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.model import Generator
from condense.machine import best_device
from condense.methods._generate import GeneratorOptions
from condense.options import Options
from condense.pipeline.generate import Wanted, draw
from condense.pipeline.label_scores import test_accuracy
from condense.pipeline.plan import Plan
from condense.recipe import parse
from condense.run import Run

OBJECTIVES = ("vanilla", "dmis")
REGENERATED = "dmis-ce"
OF_GENERATORS = (*OBJECTIVES, REGENERATED)
ALL = "all"

_SETS = ("partial", "class-partial", "annotators")


class Regeneration(Options):
    """Options of `dmis-ce`."""

    per_class: int | None = Field(
        None, ge=1, description="images drawn per class; as many in all as the training set has when empty"
    )


@dataclass(frozen=True)
class ArmOptions:
    """The training budget of all arms, the options of those chosen by name, and those of `dmis-ce`."""

    training: ArmTraining
    arms: Mapping[str, Options]
    regeneration: Regeneration


def names() -> tuple[str, ...]:
    """All arms: those of the folder, then those of generators."""
    return (*arms.names(), *OF_GENERATORS)


def check_name(name: str) -> None:
    """Raise `UserError` if there is no arm of that name."""
    if name not in OF_GENERATORS:
        arms.load(name)


def read_options(training: ArmTraining, given: Mapping[str, Any], chosen: Iterable[str]) -> ArmOptions:
    """Options of the `chosen` arms, and of those that have some in `given`, options by name; other names are ignored.

    Raises:
        UserError: an unknown key, or a value out of range.
    """
    asked = {"ce" if name == REGENERATED else name for name in (*chosen, *given)}
    own = {
        name: parse(arms.load(name).Options, given.get(name, {}), f"options of the arm {name!r}")
        for name in arms.names()
        if name in asked
    }
    regeneration = parse(Regeneration, given.get(REGENERATED, {}), f"options of the arm {REGENERATED!r}")
    return ArmOptions(training, own, regeneration)


def objective_of(name: str) -> str:
    """The objective whose generator an arm of `OF_GENERATORS` uses."""
    return "dmis" if name == REGENERATED else name


def why_not(name: str, supervision: Supervision) -> str | None:
    """The reason why an arm cannot learn from such labels; None if it can."""
    try:
        if name not in OF_GENERATORS:
            arms.load(name).check(supervision)
    except UserError as error:
        return str(error)
    return None


def labels_like(noise: str) -> Supervision:
    """A few labels of the kind that `noise` produces, for checking arms before the data are read.

    Rare outcomes are left out: random candidate sets may contain every class, but do not count as missing labels.

    Raises `UserError` if `noise` cannot be parsed.
    """
    possible, trusted = [], []
    for spec, _ in parse_noise(noise).parts:
        single = np.eye(3, dtype=np.bool_)
        first = single if spec.kind != LOST else np.ones_like(single)
        second = single
        if spec.kind in _SETS:
            second = single | single[[1, 2, 0]]
        elif spec.kind in ("unlabeled", LOST):
            second = np.ones_like(single)
        possible += [first, second]
        trusted += [spec.kind in ("none", "partial", "class-partial", "unlabeled", LOST)] * 6
    return Supervision(np.concatenate(possible), np.array(trusted))


def check_test(plan: Plan) -> None:
    """Raise `UserError` for data without a test split."""
    if plan.source.test is None or plan.source.test_truth is None:
        raise UserError(
            f"{plan.source.train.name} has no test images; add a folder test/ (or rows with split test in labels.csv)."
        )


def arm_accuracy(
    name: str,
    plan: Plan,
    options: ArmOptions,
    generator: Callable[[str], Generator],
    *,
    progress: bool = False,
) -> float:
    """Test accuracy in percent of an arm trained on the plan's labels, after the last epoch or step.

    Args:
        name: the arm.
        plan: data with a test split, and the seed; for `dmis-ce` its options say how to draw.
        options: options of all arms.
        generator: returns the trained generator of an objective; only arms of generators call it.
        progress: whether bars are drawn on stderr.

    Raises:
        UserError: the arm does not accept the labels, or the network the images.
        RunFailed: a training diverged.
    """
    if name in OBJECTIVES:
        accuracy = test_accuracy(generator(name), plan)
        assert accuracy is not None
        return accuracy
    train = plan.train
    if name == REGENERATED:
        train = _regenerated(plan, generator(objective_of(name)), options.regeneration, progress=progress)
    classifier = _trained(name, train, plan.recipe.seed, options, progress=progress)
    test, truth = plan.source.test, plan.source.test_truth
    assert test is not None and truth is not None
    return 100 * float((classifier.logits(test.images).argmax(1).numpy() == truth.labels).mean())


def _trained(name: str, train: TrainingSet, seed: int, options: ArmOptions, *, progress: bool) -> Teacher:
    of = "ce" if name == REGENERATED else name
    with Run(None, progress=progress).track(options.training.epochs, f"{name}, seed {seed}") as tracker:

        def tell(epoch: Epoch) -> None:
            tracker.update(epoch.epoch, loss=epoch.loss)

        arm, own = arms.load(of), options.arms[of]
        return train_arm(arm, own, options.training, train, seed, device=best_device(), on_epoch=tell)


def _regenerated(plan: Plan, generator: Generator, options: Regeneration, *, progress: bool) -> TrainingSet:
    """Images drawn by the generator, with their classes as labels; as many as the training set has by default."""
    train, own = plan.train, plan.options
    assert isinstance(own, GeneratorOptions)
    wanted = Wanted(
        options.per_class or max(1, round(len(train) / train.images.num_classes)),
        steps=own.draw.sampler_steps,
        guidance=own.draw.guidance,
        seed=rng.derive(plan.recipe.seed, "regenerated"),
    )
    images, labels = draw(generator, wanted, progress=progress)
    data = ImageData(images, train.images.classes, train.images.name, "train", flip=train.images.flip)
    return TrainingSet(data, Supervision.from_labels(labels, train.images.num_classes, trusted=True))

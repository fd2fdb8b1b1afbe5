"""`dmis train`: a generator only, and how well it knows the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from condense import rng
from condense.commands import _estimate
from condense.commands._folder import RUNS, open_run, run_name
from condense.commands._plan import OBJECTIVES, Plan, Request, make_plan
from condense.data.types import Labels, TrainingSet
from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.stages import train_stages
from condense.methods._generate import GeneratorOptions

MOST_SCORED = 10_000  # images a score is measured on; the same number costs minutes more on a CPU


def train(
    request: Request,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a generator into a run folder and score it where the truth is known.

    Args:
        request: the recipe and what is laid over it; its method names the objective, dmis or vanilla.
        run_folder: for the generator, checkpoints and metrics; below runs/ when None.
        resume: whether to go on from a checkpoint in the run folder.
        force: whether an earlier run in the folder is replaced.
        progress: whether a bar is drawn on stderr.

    Returns:
        run, seconds and evaluations of the training, temperature of the classifier, test_accuracy and
        labels_recovered in percent (None where the truth is not known).

    Raises:
        UserError: something asked for cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    plan, options = _trainable(request)
    run_folder = run_folder or RUNS / run_name(plan)
    with open_run(run_folder, plan, resume=resume, force=force, progress=progress) as run:
        generator = train_stages(
            plan.train, options.network, options.train, options.second_stage, plan.recipe.seed, run
        )
    stages = [generator] if generator.second is None else [generator, generator.second]
    return {
        "run": str(run_folder),
        "seconds": sum(cast(float, stage.meta["seconds"]) for stage in stages),
        "evaluations": sum(cast(int, stage.meta["evaluations"]) for stage in stages),
        "temperature": generator.temperature,
        "test_accuracy": test_accuracy(generator, plan),
        "labels_recovered": labels_recovered(generator, plan),
    }


def dry_run(request: Request) -> dict[str, Any]:
    """What `train` would do and cost, see `_estimate.describe`; nothing is written."""
    return _estimate.describe(_trainable(request)[0], draws=False)


def test_accuracy(generator: Generator, plan: Plan) -> float | None:
    """Accuracy in percent of the diffusion classifier on (at most 10,000) test images; None without any."""
    test, truth = plan.source.test, plan.source.test_truth
    if test is None or truth is None:
        return None
    chosen = scored_images(len(test), plan.recipe.seed)
    posterior = generator.posterior(test.images[chosen], seed=plan.recipe.seed)
    return 100 * float((posterior.argmax(1) == truth.labels[chosen]).mean())


def labels_recovered(generator: Generator, plan: Plan) -> float | None:
    """Share in percent of (at most 10,000) training images whose likeliest class, label weighed in, is right."""
    if plan.source.truth is None:
        return None
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    found = recovered_labels(generator, plan.train.take(chosen), plan.recipe.seed)
    return 100 * float((found == plan.source.truth.labels[chosen]).mean())


def recovered_labels(generator: Generator, train: TrainingSet, seed: int) -> Labels:
    """Each image's likeliest class given its label too, argmax p(y | x, z): int64 [n]."""
    posterior = generator.label_posterior(train.images.images, train.supervision, seed=seed)
    return np.asarray(posterior.argmax(1), dtype=np.int64)


def scored_images(count: int, seed: int) -> Labels:
    """All indices, or `MOST_SCORED` of them at random, ascending."""
    if count <= MOST_SCORED:
        return np.arange(count)
    generator = np.random.default_rng(rng.derive(seed, "scored"))
    return np.sort(generator.choice(count, MOST_SCORED, replace=False))


def _trainable(request: Request) -> tuple[Plan, GeneratorOptions]:
    plan = make_plan(request)
    if plan.recipe.method not in OBJECTIVES or not isinstance(plan.options, GeneratorOptions):
        raise UserError(
            f"The method {plan.recipe.method!r} has no generator to train; choose one of {', '.join(OBJECTIVES)}."
        )
    if plan.options.generator is not None or plan.recipe.clean_first != "none":
        raise UserError(
            "`dmis train` trains on the labels as given; leave out generator and clean_first, which belong to "
            "`dmis condense`."
        )
    return plan, plan.options

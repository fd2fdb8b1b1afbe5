"""`dmis train`: a generator only, and how well it knows the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from condense.errors import UserError
from condense.generator.training.two_stage import train_stages
from condense.methods._generate import GeneratorOptions
from condense.pipeline import cost
from condense.pipeline.label_scores import labels_recovered, test_accuracy
from condense.pipeline.plan import OBJECTIVES, Plan, Request, make_plan
from condense.pipeline.run_folder import RUNS, open_run, run_name


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
    """What `train` would do and cost, see `cost.describe`; nothing is written."""
    return cost.describe(_trainable(request)[0], draws=False)


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

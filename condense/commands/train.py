"""`dmis train`: train a generator, and test it as a classifier."""

from __future__ import annotations

from pathlib import Path

from condense.json_values import JSON
from condense.pipeline import cost
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.run_folder import RUNS, open_run, run_name
from condense.pipeline.stages import stages, training
from condense.pipeline.timing import foretold
from condense.pipeline.train import TrainingOutcome, describe_training, train_plan, training_options
from condense.watch import expected


def train(
    request: Request,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    log: str | None = None,
) -> TrainingOutcome:
    """Train a generator into a run folder, and score it if the true labels are known.

    Args:
        request: the recipe and its overrides; its method names the objective.
        run_folder: folder for the generator, checkpoints and metrics; below runs/ when None.
        resume: whether to continue from a checkpoint in the run folder.
        force: whether an earlier run in the folder is replaced.
        progress: whether a bar is drawn on stderr.
        log: one of `condense.watch.LOGS`, a tracker that also receives the metrics; its files are in the run folder.

    Raises:
        UserError: a part of the request cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    plan = make_plan(request)
    options = training_options(plan)
    run_folder = run_folder or RUNS / run_name(plan)
    ahead = expected(stages(plan, training(plan, options)) if progress else [])
    with ahead, open_run(run_folder, plan, resume=resume, force=force, progress=progress, log=log) as run:
        return describe_training(train_plan(plan, run), plan, run_folder)


def dry_run(request: Request) -> dict[str, JSON]:
    """The plan and cost of `train`, see `cost.describe` and `foretold`; nothing is written."""
    plan = make_plan(request)
    options = training_options(plan)
    return {**cost.describe(plan, draws=False), **foretold(plan, training(plan, options))}

"""`dmis condense`: from images with imprecise labels to a condensed set on disk."""

from __future__ import annotations

from pathlib import Path

from condense.errors import UserError
from condense.json_values import JSON
from condense.machine import num_processes
from condense.methods._generate import GeneratorOptions
from condense.pipeline import cost
from condense.pipeline.make import check_plan, make_set, with_teacher
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.run_folder import RUNS, check_run, derived_name, open_run, run_name
from condense.pipeline.stages import condensing, stages
from condense.pipeline.timing import foretold
from condense.run import prepare_output
from condense.sets.hdf5 import write
from condense.watch import expected


def condense(
    request: Request,
    *,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    log: str | None = None,
) -> dict[str, JSON]:
    """Make a condensed set and write it.

    Args:
        request: the recipe and its overrides.
        out: the .h5 file; named after data, method and ipc when None.
        run_folder: folder for checkpoints and metrics; below runs/ when None.
        resume: whether to continue from a checkpoint in the run folder.
        force: whether existing output is replaced, and without `resume` an earlier run too.
        progress: whether bars are drawn on stderr.
        log: one of `condense.watch.LOGS`, a tracker that also receives the metrics; its files are in the run folder.

    Returns:
        The path, and the set's `to_json`.

    Raises:
        UserError: a part of the request cannot be used, or output exists without `force`.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    plan = make_plan(request)
    _check_processes(plan)
    name = f"{derived_name(plan)}-ipc{plan.recipe.ipc}"
    out, run_folder = out or Path(f"{name}.h5"), run_folder or RUNS / run_name(plan, f"ipc{plan.recipe.ipc}")
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"A condensed set is HDF5; give --out a name that ends in .h5, not {str(out)!r}.")
    check_plan(plan)
    check_run(run_folder, plan, resume=resume, force=force)
    prepare_output(out, force=force)
    ahead = expected(stages(plan, condensing(plan)) if progress else [])
    with ahead, open_run(run_folder, plan, resume=resume, force=force, progress=progress, log=log) as run:
        made = with_teacher(make_set(plan, run), plan, run, out)
        write(out, made, force=force)
    return {"path": str(out), **made.to_json()}


def dry_run(request: Request) -> dict[str, JSON]:
    """The plan and cost of `condense`, see `cost.describe` and `foretold`; nothing is written."""
    plan = make_plan(request)
    check_plan(plan)
    return {**cost.describe(plan, draws=True), **foretold(plan, condensing(plan))}


def _check_processes(plan: Plan) -> None:
    """Refuse several processes unless they train a generator together; otherwise each would write the set."""
    trains = isinstance(plan.options, GeneratorOptions) and plan.options.generator is None
    if num_processes() > 1 and not trains:
        raise UserError(
            f"Several processes train a generator together, but here none is trained (method {plan.recipe.method}); "
            "run it without torchrun."
        )

"""`dmis condense`: from images with imprecise labels to a condensed set on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from condense.errors import UserError
from condense.pipeline import cost
from condense.pipeline.clean_first import check_repair
from condense.pipeline.make import make_set
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.run_folder import RUNS, check_run, derived_name, open_run, run_name
from condense.run import prepare_output
from condense.sets.hdf5 import write


def condense(
    request: Request,
    *,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Make a condensed set and write it.

    Args:
        request: the recipe and what is laid over it.
        out: the .h5 file; named after data, method and ipc when None.
        run_folder: for checkpoints and metrics; below runs/ when None.
        resume: whether to go on from a checkpoint in the run folder.
        force: whether existing output is replaced, and without `resume` an earlier run too.
        progress: whether bars are drawn on stderr.

    Returns:
        path, ipc, classes (their number), sha256 and cost.

    Raises:
        UserError: something asked for cannot be used, or output exists without `force`.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    plan = make_plan(request)
    name = f"{derived_name(plan)}-ipc{plan.recipe.ipc}"
    out, run_folder = out or Path(f"{name}.h5"), run_folder or RUNS / run_name(plan, f"ipc{plan.recipe.ipc}")
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UserError(f"A condensed set is HDF5; give --out a name that ends in .h5, not {str(out)!r}.")
    check_repair(plan)
    _check_method(plan)
    check_run(run_folder, plan, resume=resume, force=force)
    prepare_output(out, force=force)
    with open_run(run_folder, plan, resume=resume, force=force, progress=progress) as run:
        made = make_set(plan, run)
        write(out, made, force=force)
    return {
        "path": str(out),
        "ipc": made.ipc,
        "classes": made.num_classes,
        "sha256": made.sha256(),
        "cost": asdict(made.provenance.cost),
    }


def dry_run(request: Request) -> dict[str, Any]:
    """What `condense` would do and cost, see `cost.describe`; nothing is written."""
    plan = make_plan(request)
    check_repair(plan)
    _check_method(plan)
    return cost.describe(plan, draws=True)


def _check_method(plan: Plan) -> None:
    """What the method itself can tell beforehand of labels that stay as they are; raises as it."""
    check = getattr(plan.method, "check", None)
    if check is not None and plan.recipe.clean_first == "none":
        check(plan.train, plan.recipe.ipc, plan.options)

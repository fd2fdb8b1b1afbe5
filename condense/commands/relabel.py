"""`dmis relabel`: a data set's labels repaired by a generator, as a table that every other command reads."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from condense.evaluate.relabel_report import write_relabel_report
from condense.pipeline import cost
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.relabel_report import suspects_report
from condense.pipeline.relabelling import BELIEFS, REPORT, TABLE, Relabelling, relabel_plan, relabelling_options
from condense.pipeline.run_folder import RUNS, open_run, run_name
from condense.pipeline.stages import relabelling, stages
from condense.pipeline.timing import foretold
from condense.run import Run, prepare_folder, prepare_output
from condense.watch import expected


def relabel_data(
    request: Request,
    *,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    log: str | None = None,
) -> Relabelling:
    """Train a DMIS generator on a data set, or take a trained one, and write what it makes of the labels.

    Beside what `Relabelling.save` writes there is a page of the most suspicious images, `suspects.html`.

    Args:
        request: the recipe and what is laid over it; its option `generator` names a trained one.
        out: folder for the table, the posteriors and the page of suspects; named after the data when None.
        run_folder: for the generator; below runs/ when None.
        resume: whether to go on from a checkpoint in the run folder.
        force: whether what is in `out`, and without `resume` an earlier run, is replaced.
        progress: whether bars are drawn on stderr.
        log: of `condense.watch.LOGS`, where metrics go beside metrics.jsonl; its files are kept in the run folder.

    Raises:
        UserError: something asked for cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    options = relabelling_options(plan)
    out = out or Path(f"{plan.source.train.name}-relabelled")
    prepare_folder(out, force=force)
    for name in (TABLE, BELIEFS, REPORT) if out.is_dir() else ():
        prepare_output(out / name, force=True)
    with ExitStack() as held:
        held.enter_context(expected(stages(plan, relabelling(plan, options)) if progress else []))
        if options.generator is None:
            folder = run_folder or RUNS / run_name(plan, "relabel")
            run = held.enter_context(open_run(folder, plan, resume=resume, force=force, progress=progress, log=log))
        else:
            run = Run(None, progress=progress)
        found = relabel_plan(plan, run).save(out)
    found = dataclasses.replace(found, seconds=time.perf_counter() - started)
    write_relabel_report(out / REPORT, suspects_report(plan, found))
    return found


def dry_run(request: Request) -> dict[str, Any]:
    """What `relabel_data` would do and cost, see `cost.describe` and `foretold`; nothing is written."""
    plan = make_plan(request)
    options = relabelling_options(plan)
    return {**cost.describe_relabelling(plan, options), **foretold(plan, relabelling(plan, options))}

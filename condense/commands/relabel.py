"""`dmis relabel`: repairs a data set's labels and writes them as a table that every other command reads."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from condense.data import labels_csv
from condense.errors import UserError
from condense.evaluate.review_page import write_review_page
from condense.methods._generate import GeneratorOptions
from condense.pipeline import cost
from condense.pipeline.decisions import applied, counted, read_decisions, write_labels
from condense.pipeline.fast_labels import read_features
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.probabilities import read_probabilities
from condense.pipeline.relabelling import (
    BELIEFS,
    REPORT,
    TABLE,
    Relabelling,
    relabel_by,
    relabel_by_features,
    relabel_fast,
    relabel_plan,
    relabelling_options,
)
from condense.pipeline.review import review_page
from condense.pipeline.run_folder import RUNS, open_run, run_name
from condense.pipeline.stages import relabelling, stages
from condense.pipeline.timing import foretold
from condense.run import Run, prepare_folder, prepare_output
from condense.watch import expected


def relabel_data(
    request: Request,
    *,
    fast: bool = False,
    pred_probs: str | None = None,
    features: str | None = None,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    log: str | None = None,
) -> Relabelling:
    """Examine the labels of a data set and write the findings.

    Besides the files of `Relabelling.save` it writes `review.html`, a page on which a person decides.

    Args:
        request: the recipe and its overrides; its option `generator` names a trained one.
        fast: whether a simple classifier, trained in seconds, takes the place of a generator.
        pred_probs: FILE or FILE::NAME of out-of-sample probabilities that take its place.
        features: FILE or FILE::NAME of features of the images, which show near-duplicates and outliers; without a
            generator or `pred_probs`, the classifier of `fast` learns from them.
        out: folder for the table, the posteriors and the page; named after the data when None.
        run_folder: for the generator; below runs/ when None.
        resume: whether to continue from a checkpoint in the run folder.
        force: whether the content of `out`, and without `resume` an earlier run, is replaced.
        progress: whether bars are drawn on stderr.
        log: one of `condense.watch.LOGS`, a tracker that also receives the metrics; its files are in the run folder.

    Raises:
        UserError: something asked for cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    options = relabelling_options(plan)
    check_ways(plan, fast=fast, pred_probs=pred_probs)
    given = None if pred_probs is None else read_probabilities(pred_probs, plan.source)
    seen = None if features is None else read_features(features, plan.source)
    out = out or Path(f"{plan.source.train.name}-relabelled")
    _refuse_within_data(plan, out)
    _refuse_given_labels(plan, out / TABLE)
    prepare_folder(out, force=force)
    for name in (TABLE, BELIEFS, REPORT) if out.is_dir() else ():
        prepare_output(out / name, force=True)
    by_generator = not quickly(options, fast, pred_probs, features)
    with ExitStack() as held:
        held.enter_context(expected(stages(plan, relabelling(plan, options)) if progress and by_generator else []))
        if given is not None:
            found = relabel_by(given, plan, f"probabilities of {pred_probs}")
        elif not by_generator:
            found = relabel_fast(plan) if seen is None else relabel_by_features(seen, plan, f"features of {features}")
        elif options.generator is None:
            folder = run_folder or RUNS / run_name(plan, "relabel")
            run = held.enter_context(open_run(folder, plan, resume=resume, force=force, progress=progress, log=log))
            found = relabel_plan(plan, run)
        else:
            found = relabel_plan(plan, Run(None, progress=progress))
        found = found.save(out)
    found = dataclasses.replace(found, seconds=time.perf_counter() - started)
    write_review_page(out / REPORT, review_page(plan, found, out, seen))
    return dataclasses.replace(found, seconds=time.perf_counter() - started)


def check_ways(plan: Plan, *, fast: bool, pred_probs: str | None) -> None:
    """Raise `UserError` if more than one source of beliefs about the labels is given."""
    asked = {
        "--fast": fast,
        "--pred-probs": pred_probs is not None,
        "a trained generator": relabelling_options(plan).generator is not None,
    }
    ways = [name for name, given in asked.items() if given]
    if len(ways) > 1:
        raise UserError(f"{ways[0]} and {ways[1]} both judge the labels; give one.")


def quickly(options: GeneratorOptions, fast: bool, pred_probs: str | None, features: str | None) -> bool:
    """Whether no generator is needed."""
    return fast or pred_probs is not None or (features is not None and options.generator is None)


def apply_decisions(
    request: Request, decisions: Path, *, out: Path | None = None, force: bool = False
) -> dict[str, Any]:
    """Write the labels of a data set, corrected by the decisions made on its review page.

    Args:
        request: the data, with the options that the page was made with.
        decisions: the file saved by the page.
        out: the table; NAME-reviewed.csv when None. Never the file of the given labels.
        force: whether an existing table is replaced.

    Returns:
        labels (path), images, accepted, changed and rejected (numbers of decisions).

    Raises:
        UserError: the data or the decisions cannot be used, or the table exists; nothing is written then.
    """
    plan = make_plan(request)
    found = read_decisions(decisions, plan.source)
    out = out or Path(f"{plan.source.train.name}-reviewed.csv")
    if out.suffix.lower() != ".csv":
        raise UserError(f"The labels are written as a table; give --out a name that ends in .csv, not {out.name!r}.")
    _refuse_given_labels(plan, out)
    prepare_output(out, force=force)
    write_labels(out, plan.source, applied(found, plan.source.supervision))
    return {"labels": str(out), "images": len(plan.source.train), **counted(found)}


def _refuse_within_data(plan: Plan, out: Path) -> None:
    """Raise `UserError` if a table in `out` would next time be read as part of the data."""
    data = Path(plan.recipe.data.name).resolve()
    if data.is_dir() and out.resolve().is_relative_to(data):
        raise UserError(f"{out} lies in the data folder, so the table would be read as its labels; choose another.")


def _refuse_given_labels(plan: Plan, out: Path) -> None:
    """Raise `UserError` if the given labels would be lost, whatever `force` says."""
    data = Path(plan.recipe.data.name.partition("::")[0])
    places = [data, *(data / name for name in labels_csv.NAMES)]
    if plan.recipe.data.labels is not None:
        places.append(Path(plan.recipe.data.labels.partition("::")[0]))
    if any(place.exists() and out.exists() and out.samefile(place) for place in places):
        raise UserError(f"{out} holds the given labels, which are never overwritten; choose another name.")


def dry_run(
    request: Request, *, fast: bool = False, pred_probs: str | None = None, features: str | None = None
) -> dict[str, Any]:
    """What `relabel_data` would do and cost, see `cost.describe` and `foretold`; nothing is written."""
    plan = make_plan(request)
    options = relabelling_options(plan)
    check_ways(plan, fast=fast, pred_probs=pred_probs)
    if pred_probs is not None:
        read_probabilities(pred_probs, plan.source)
    if features is not None:
        read_features(features, plan.source)
    if quickly(options, fast, pred_probs, features):
        return cost.describe_without_networks(plan)
    return {**cost.describe_relabelling(plan, options), **foretold(plan, relabelling(plan, options))}

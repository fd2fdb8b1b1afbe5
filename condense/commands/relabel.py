"""`dmis relabel`: repairs a data set's labels and writes them as a table that every other command can read."""

from __future__ import annotations

import dataclasses
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from condense.data import labels_csv
from condense.errors import UserError
from condense.evaluate.review_page import write_review_page
from condense.json_values import JSON
from condense.pipeline import cost
from condense.pipeline.decisions import applied, counted, read_decisions, write_labels
from condense.pipeline.fast_labels import NETWORK, features_of, read_features
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


@dataclass(frozen=True)
class Evidence:
    """Alternatives to a generator for judging labels.

    Attributes:
        fast: whether a classifier trained in seconds is used instead of a generator.
        pred_probs: FILE or FILE::NAME of out-of-sample probabilities to use instead of a generator.
        features: FILE or FILE::NAME of features of the images, or efflite0 to compute some; they determine
            near-duplicates and outliers; without a given generator, a labeller or `pred_probs`, the classifier of
            `fast` is trained on them.
    """

    fast: bool = False
    pred_probs: str | None = None
    features: str | None = None

    def check(self, plan: Plan) -> None:
        """Raise `UserError` if there is more than one source of beliefs about the labels."""
        asked = {
            "--fast": self.fast,
            "--pred-probs": self.pred_probs is not None,
            "--labeller": plan.labeller is not None,
            "a trained generator": relabelling_options(plan).generator is not None,
        }
        ways = [name for name, given in asked.items() if given]
        if len(ways) > 1:
            raise UserError(f"{ways[0]} and {ways[1]} exclude each other, since each judges the labels; give one.")

    def suffices(self, plan: Plan) -> bool:
        """Whether neither a generator nor a labeller is needed."""
        asked = relabelling_options(plan).generator is not None or plan.labeller is not None
        without = self.features is not None and not asked
        return self.fast or self.pred_probs is not None or without


def relabel_data(
    request: Request,
    evidence: Evidence,
    *,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
    log: str | None = None,
) -> Relabelling:
    """Examine the labels of a data set and write the findings.

    In addition to the files of `Relabelling.save` it writes `review.html`, a page on which a person decides.

    Args:
        request: the recipe and its overrides; its option `generator` names a trained one.
        evidence: alternatives to a generator, if any.
        out: folder for the table, the posteriors and the page; named after the data when None.
        run_folder: run folder for the generator; below runs/ when None.
        resume: whether to continue from a checkpoint in the run folder.
        force: whether the contents of `out`, and without `resume` an earlier run, are replaced.
        progress: whether bars are drawn on stderr.
        log: one of `condense.watch.LOGS`, a tracker that also receives the metrics; its files are in the run folder.

    Raises:
        UserError: a part of the request cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    started = time.perf_counter()
    plan = make_plan(request)
    options = relabelling_options(plan)
    evidence.check(plan)
    given = None if evidence.pred_probs is None else read_probabilities(evidence.pred_probs, plan.source)
    out = out or Path(f"{plan.source.train.name}-relabelled")
    _prepare(plan, out, force=force)
    in_memory = Run(None, progress=progress)
    seen = None if evidence.features is None else features_of(evidence.features, plan.source, in_memory)
    by_generator = not evidence.suffices(plan)
    with ExitStack() as held:
        held.enter_context(expected(stages(plan, relabelling(plan, options)) if progress and by_generator else []))
        if given is not None:
            found = relabel_by(given, plan, f"probabilities of {evidence.pred_probs}")
        elif not by_generator:
            told = f"features of {evidence.features}"
            found = relabel_fast(plan) if seen is None else relabel_by_features(seen, plan, told)
        elif options.generator is None:
            folder = run_folder or RUNS / run_name(plan, "relabel")
            run = held.enter_context(open_run(folder, plan, resume=resume, force=force, progress=progress, log=log))
            found = relabel_plan(plan, run)
        else:
            found = relabel_plan(plan, in_memory)
        found = found.save(out)
    found = dataclasses.replace(found, seconds=time.perf_counter() - started)
    write_review_page(out / REPORT, review_page(plan, found, out, seen))
    return dataclasses.replace(found, seconds=time.perf_counter() - started)


def _prepare(plan: Plan, out: Path, *, force: bool) -> None:
    """Check that `out` may be written. Raises `UserError` if not."""
    _refuse_within_data(plan, out)
    _refuse_given_labels(plan, out / TABLE)
    prepare_folder(out, force=force)
    for name in (TABLE, BELIEFS, REPORT) if out.is_dir() else ():
        prepare_output(out / name, force=True)


def apply_decisions(
    request: Request, decisions: Path, *, out: Path | None = None, force: bool = False
) -> dict[str, JSON]:
    """Write the labels of a data set, corrected by the decisions made on its review page.

    Args:
        request: the data, with the same options as for the page.
        decisions: the file saved by the page.
        out: the table; NAME-reviewed.csv when None. Never the file of the given labels.
        force: whether an existing table is replaced.

    Returns:
        labels (path), images, accepted, changed and rejected (numbers of decisions).

    Raises:
        UserError: the data or the decisions cannot be used, or the table exists; then nothing is written.
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
    """Raise `UserError` if a table in `out` would be read as part of the data the next time."""
    data = Path(plan.recipe.data.name).resolve()
    if data.is_dir() and out.resolve().is_relative_to(data):
        raise UserError(f"{out} lies in the data folder, so the table would be read as its labels; choose another.")


def _refuse_given_labels(plan: Plan, out: Path) -> None:
    """Raise `UserError` if the given labels would be overwritten, even with `force`."""
    data = Path(plan.recipe.data.name.partition("::")[0])
    places = [data, *(data / name for name in labels_csv.NAMES)]
    if plan.recipe.data.labels is not None:
        places.append(Path(plan.recipe.data.labels.partition("::")[0]))
    if any(place.exists() and out.exists() and out.samefile(place) for place in places):
        raise UserError(f"{out} holds the given labels, which are never overwritten; choose another name.")


def dry_run(request: Request, evidence: Evidence) -> dict[str, JSON]:
    """The plan and cost of `relabel_data`, see `cost.describe` and `foretold`; nothing is written."""
    plan = make_plan(request)
    options = relabelling_options(plan)
    evidence.check(plan)
    if evidence.pred_probs is not None:
        read_probabilities(evidence.pred_probs, plan.source)
    if evidence.features not in (None, NETWORK):
        read_features(evidence.features, plan.source)
    if evidence.suffices(plan):
        return cost.describe_without_networks(plan)
    return {**cost.describe_relabelling(plan, options), **foretold(plan, relabelling(plan, options))}

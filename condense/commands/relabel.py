"""`dmis relabel`: a data set's labels repaired by a generator, as a table that every other command reads."""

from __future__ import annotations

import csv
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from condense.data.corrupt import imprecise_share
from condense.data.label_cells import write_candidates
from condense.data.types import Labels, Mask, Supervision, Truth
from condense.errors import UserError
from condense.evaluate.relabel_report import write_relabel_report
from condense.generator.labels.suggestions import Suggestions, suggest
from condense.generator.model import Generator
from condense.generator.training.two_stage import train_stages
from condense.machine import best_device
from condense.methods._generate import GeneratorOptions
from condense.pipeline import cost
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.relabel_report import suspects_report
from condense.pipeline.run_folder import RUNS, open_run, run_name
from condense.run import Run, atomic_path, prepare_folder, prepare_output
from condense.text import to_cell

TABLE, BELIEFS, REPORT = "labels.csv", "posteriors.npz", "suspects.html"
COLUMNS = ("file", "given", "suggested", "confidence", "likely_wrong")


def relabel_data(
    request: Request,
    *,
    out: Path | None = None,
    run_folder: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a DMIS generator on a data set, or take a trained one, and write what it makes of the labels.

    `labels.csv` has a row for each training image: its file (or number, from 0), the labels given (a|b: candidates;
    empty: none), the class suggested, argmax p(y | image, given), its probability, and whether the given label is
    likely wrong: yes for as many as are expected to be, the most doubtful first. `posteriors.npz` holds
    p(y | image, given) as `posterior`, p(y | image) as `image_posterior`, the estimated `transition` matrix,
    `class_names` and `files`.

    Args:
        request: the recipe and what is laid over it; its option `generator` names a trained one.
        out: folder for the table, the posteriors and the page of suspects; named after the data when None.
        run_folder: for the generator; below runs/ when None.
        resume: whether to go on from a checkpoint in the run folder.
        force: whether what is in `out`, and without `resume` an earlier run, is replaced.
        progress: whether bars are drawn on stderr.

    Returns:
        labels, posteriors, report (paths); images, would_change, likely_wrong (numbers); classes and transition; asked
        (the weight of the generator, and of the classifier learned before it where there is one, see `opinion`); found
        (see `judged`), None where the truth is not known; network_evaluations, images passed through the network (0 for
        the training of a generator that was given); seconds.

    Raises:
        UserError: something asked for cannot be used.
        RunFailed: the training or the disk failed.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    started = time.perf_counter()
    plan, options = _plan(request)
    out = out or Path(f"{plan.source.train.name}-relabelled")
    prepare_folder(out, force=force)
    for name in (TABLE, BELIEFS, REPORT) if out.is_dir() else ():
        prepare_output(out / name, force=True)
    with ExitStack() as held:
        generator, run = _generator(plan, options, run_folder, held, resume=resume, force=force, progress=progress)
        spent = 0 if options.generator is not None else cast(int, generator.meta["evaluations"])
        before = generator.evaluations
        found = suggest(generator, plan.train, plan.recipe.seed, run)
    out.mkdir(exist_ok=True)
    files = plan.source.files or tuple(map(str, range(len(plan.train))))
    _write_table(out / TABLE, found, files, generator.classes)
    _write_beliefs(out / BELIEFS, found, files, generator.classes)
    result: dict[str, Any] = {
        "labels": str(out / TABLE),
        "posteriors": str(out / BELIEFS),
        "report": str(out / REPORT),
        "images": len(plan.train),
        "would_change": int(found.changed.sum()),
        "likely_wrong": int(found.likely_wrong.sum()),
        "classes": list(generator.classes),
        "transition": found.transition.astype(float).tolist(),
        "asked": _asked(generator),
        "found": None if plan.source.truth is None else judged(found, plan.source.truth),
        "network_evaluations": spent + generator.evaluations - before,
    }
    result["seconds"] = time.perf_counter() - started
    write_relabel_report(out / REPORT, suspects_report(plan, found, files, result))
    return result


def dry_run(request: Request) -> dict[str, Any]:
    """What `relabel_data` would do and cost, see `cost.describe`; nothing is written."""
    plan, options = _plan(request)
    return cost.describe_relabelling(plan, options)


def judged(found: Suggestions, truth: Truth) -> dict[str, float | None]:
    """How well wrong labels were found, where the truth is known; see `label_scores`."""
    return label_scores(found.supervision, truth, found.suggested, found.likely_wrong, found.suspicion)


def label_scores(
    given: Supervision, truth: Truth, suggested: Labels, marked: Mask, suspicion: npt.NDArray[np.floating]
) -> dict[str, float | None]:
    """How well wrong labels were found and mended; shares in [0, 1], None where there are none.

    Args:
        given: the labels as given.
        truth: the true classes.
        suggested: the class suggested for every image, int64 [n].
        marked: which labels are called wrong, bool [n].
        suspicion: how doubtful each label is, larger for more doubt, [n].

    Returns:
        wrong (share of images whose given labels miss the truth), precision and recall of the marked ones, auroc of
        the suspicion among labels that may be wrong; right_before and right_after, shares of images whose one given,
        and whose suggested, label is right.
    """
    from sklearn.metrics import roc_auc_score

    doubtful = given.doubtful
    wrong = ~given.candidates[np.arange(len(truth)), truth.labels]
    hit = marked & wrong
    mixed = doubtful.any() and 0 < wrong[doubtful].sum() < doubtful.sum()
    return {
        "wrong": float(wrong.mean()),
        "precision": float(hit.sum() / marked.sum()) if marked.any() else None,
        "recall": float(hit.sum() / wrong.sum()) if wrong.any() else None,
        "auroc": float(roc_auc_score(wrong[doubtful], suspicion[doubtful])) if mixed else None,
        "right_before": 1 - imprecise_share(given, truth),
        "right_after": float((suggested == truth.labels).mean()),
    }


def _plan(request: Request) -> tuple[Plan, GeneratorOptions]:
    plan = make_plan(request)
    if not isinstance(plan.options, GeneratorOptions) or plan.recipe.method != "dmis":
        raise UserError(f"Labels are repaired by the method dmis, not {plan.recipe.method!r}; leave the method out.")
    return plan, plan.options


def _generator(
    plan: Plan,
    options: GeneratorOptions,
    run_folder: Path | None,
    held: ExitStack,
    *,
    resume: bool,
    force: bool,
    progress: bool,
) -> tuple[Generator, Run]:
    """The generator and where its answers are kept; `held` lets go of the folder."""
    if options.generator is not None:
        generator = Generator.load(Run(options.generator), best_device())
        generator.check_data(plan.train.images)
        if not options.train.second_opinion:
            generator.opinion = None
        return generator, Run(None, progress=progress)
    folder = run_folder or RUNS / run_name(plan, "relabel")
    run = held.enter_context(open_run(folder, plan, resume=resume, force=force, progress=progress))
    return train_stages(plan.train, options.network, options.train, None, plan.recipe.seed, run), run


def _asked(generator: Generator) -> dict[str, float]:
    if generator.opinion is None:
        return {"generator": 1.0}
    return dict(zip(("generator", "classifier"), generator.opinion.exponents, strict=True))


def _write_table(path: Path, found: Suggestions, files: tuple[str, ...], classes: tuple[str, ...]) -> None:
    unlabelled = found.supervision.unlabelled
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        for row, file in enumerate(files):
            given = [] if unlabelled[row] else np.flatnonzero(found.supervision.candidates[row]).tolist()
            table.writerow(
                (
                    to_cell(file),
                    to_cell(write_candidates(classes[y] for y in given)),
                    to_cell(write_candidates([classes[found.suggested[row]]])),
                    f"{found.confidence[row]:.4f}",
                    "yes" if found.likely_wrong[row] else "no",
                )
            )


def _write_beliefs(path: Path, found: Suggestions, files: tuple[str, ...], classes: tuple[str, ...]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            posterior=found.posterior,
            image_posterior=found.from_image,
            transition=found.transition,
            class_names=np.array(classes),
            files=np.array(files),
        )

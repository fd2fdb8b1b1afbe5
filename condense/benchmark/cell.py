"""One cell of a benchmark in its folder: make the set, score it, or resume where an earlier attempt stopped.

    cells/NAME/  recipe.json  condensed.h5  score.json  log.txt  run/  (error.json if it failed)
    shared/NAME/ the generator or teacher of all sizes of a method, or a setting's labeller; labels.json

A set's cell is done when score.json belongs to an undamaged condensed.h5. For cells of samples and classifiers see
`samples_cell` and `classifier_cell`. Every file is written atomically.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from condense.benchmark.classifier_cell import read_classifier_cell, run_classifier_cell
from condense.benchmark.grid import CELLS, SHARED, WHOLE, Cell, Trained
from condense.benchmark.samples_cell import read_samples_cell, run_samples_cell
from condense.benchmark.shared import (
    RECIPE,
    check_shared,
    drop_damaged,
    has_trained,
    is_first,
    now,
    read_json,
    read_score,
    take_first,
    write_json,
)
from condense.benchmark.whole_cell import read_whole_cell, run_whole_cell
from condense.classifiers.beside import read_beside
from condense.errors import DmisError, Interrupted, UserError
from condense.evaluate.coverage import pixel_coverage
from condense.evaluate.ddranking import training_bytes
from condense.evaluate.kept import Kept
from condense.evaluate.protocols import protocol
from condense.evaluate.results import Result
from condense.evaluate.score import FreshNetworks
from condense.files import atomic_write_text
from condense.generator.model import Generator
from condense.machine import best_device, machine
from condense.pipeline.clean_first import repair
from condense.pipeline.label_scores import LabelScores, score_generator, score_labels, test_accuracy
from condense.pipeline.make import make_set, with_teacher
from condense.pipeline.plan import Plan, Request, make_plan
from condense.pipeline.score import score_set
from condense.recipe import merge
from condense.run import JSON, Run
from condense.sets.condensed_set import CondensedSet
from condense.sets.hdf5 import read, write

SET, SCORE, ERROR, LOG, LABELS = (
    "condensed.h5",
    "score.json",
    "error.json",
    "log.txt",
    "labels.json",
)
_IDENTITY = ("method", "ipc", "seed", "clean_first")


def run_cell(out: Path, cell: Cell) -> None:
    """Do the missing work of a cell; a failure is recorded in its folder, not raised.

    Raises:
        Interrupted: stopped by Ctrl-C; the next call resumes from the saved state.
    """
    folder = cell.folder(out)
    with _recorded(folder):
        atomic_write_text(folder / RECIPE, json.dumps(cell.recipe, indent=2) + "\n")
        match cell.task:
            case "condensation":
                _run_set_cell(out, cell)
            case "generation":
                run_samples_cell(out, cell)
            case "weak-supervision":
                run_classifier_cell(out, cell)
        print(f"{now()} done")


def _run_set_cell(out: Path, cell: Cell) -> None:
    if WHOLE in cell.recipe:
        plan, run = _planned(out, cell)
        run_whole_cell(plan, cell, cell.folder(out), Run(out / SHARED / cell.labeller) if cell.labeller else run)
        return
    condensed = whole_set(out, cell)
    if cell.set_of is not None:
        if condensed is None:
            raise UserError(f"The set of {cell.set_of} is missing or damaged, so it cannot be scored in another way.")
        _score(make_plan(Request(named=cell.planned)), condensed, cell, out)
        return
    plan, run = _planned(out, cell)
    if condensed is None:
        print(f"{now()} making the set")
        made = make_set(plan, run, None if cell.labeller is None else Run(out / SHARED / cell.labeller))
        condensed = with_teacher(made, plan, run, cell.folder(out) / SET)
        write(cell.folder(out) / SET, condensed, force=True)
    learner = learner_folder(out, cell)
    if learner is not None and read_labels(learner) is None and has_trained(learner, "generator"):
        _write_labels(learner, score_generator(plan, Generator.load(Run(learner), best_device())))
    print(f"{now()} scoring the set")
    _score(plan, condensed, cell, out)


def run_labeller(out: Path, cell: Cell) -> None:
    """Train the labeller that repairs the labels of a cell's setting; failures as in `run_cell`."""
    assert cell.labeller is not None
    folder = out / SHARED / cell.labeller
    with _recorded(folder):
        drop_damaged(folder)
        write_json(folder / RECIPE, cell.repaired_by)
        plan = make_plan(Request(named=cell.planned))
        print(f"{now()} repairing the labels")
        found = repair(plan, Run(folder)).train.supervision.observed
        truth = plan.source.truth
        told = score_labels(plan.train, found, None if truth is None else truth.labels)
        if has_trained(folder, "generator"):
            accuracy = test_accuracy(Generator.load(Run(folder), best_device()), plan)
            told = dataclasses.replace(told, classifier_accuracy=accuracy)
        _write_labels(folder, told)
        print(f"{now()} done")


def read_result(out: Path, cell: Cell) -> Result:
    """The result of a cell with its status: done, failed or missing; a damaged cell counts as missing.

    Raises:
        UserError: its folder, or one that it shares, was made by another recipe.
    """
    folder = cell.folder(out)
    asked = read_json(folder / RECIPE)
    if asked is not None and not cell.is_of(asked):
        raise UserError(
            f"{folder} was made by another recipe; choose another --out, or remove that folder to make the cell again."
        )
    check_shared(out, cell)
    if asked is None:
        return cell.result()
    if (error := read_error(folder)) is not None:
        return dataclasses.replace(cell.result(), status="failed", error=error)
    match cell.task:
        case "condensation":
            return _read_set_cell(out, cell)
        case "generation":
            return read_samples_cell(folder, cell.result())
        case "weak-supervision":
            return read_classifier_cell(folder, cell.result())


def _read_set_cell(out: Path, cell: Cell) -> Result:
    folder = cell.folder(out)
    if WHOLE in cell.recipe:
        return read_whole_cell(folder, cell.result())
    scored, condensed = read_score(folder / SCORE, cell.result()), whole_set(out, cell)
    if scored is None or condensed is None or scored.sha256 != condensed.sha256():
        return cell.result()
    cost = condensed.provenance.cost
    learner = learner_folder(out, cell)
    learnt = None if learner is None else read_labels(learner)
    return dataclasses.replace(
        scored,
        seconds=cost.seconds,
        peak_memory_bytes=cost.peak_memory_bytes or None,
        bytes=set_file(out, cell).stat().st_size,
        packing=condensed.packing,
        labels_recovered=None if learnt is None else learnt.labels_recovered,
        classifier_accuracy=None if learnt is None else learnt.classifier_accuracy,
    )


def kept_of(out: Path, cell: Cell, result: Result) -> Kept:
    """The result of a finished cell, with its recipe and the machine and version it was made with."""
    told = read_json(cell.folder(out) / SCORE) or {}
    origin: dict[str, JSON] = {"machine": told.get("machine"), "protocol": told.get("protocol")}
    condensed = whole_set(out, cell) if cell.task == "condensation" and WHOLE not in cell.recipe else None
    if condensed is not None:
        made = condensed.provenance
        origin |= {"created": made.created, "package_version": made.package_version, "git_revision": made.git_revision}
    recipe = {**cell.recipe, "data": {k: v for k, v in cell.recipe["data"].items() if k not in ("root", "download")}}
    return Kept(result, json.loads(json.dumps(recipe)), origin)


def set_file(out: Path, cell: Cell) -> Path:
    """Path of the set that a cell scores: its own, or another cell's."""
    return (cell.folder(out) if cell.set_of is None else out / CELLS / cell.set_of) / SET


def whole_set(out: Path, cell: Cell) -> CondensedSet | None:
    """The cell's condensed set; None if it is missing, damaged or another cell's."""
    try:
        condensed = read(set_file(out, cell))
    except UserError:
        return None
    made = condensed.provenance.recipe
    same = isinstance(made, Mapping) and all(made.get(key) == cell.recipe[key] for key in _IDENTITY)
    return condensed if same else None


def is_repaired(folder: Path, cell: Cell) -> bool:
    """Whether the labels of a cell's setting were repaired and the labeller can be used again."""
    return read_labels(folder) is not None and (
        cell.recipe["clean_first"] != "dmis" or has_trained(folder, "generator")
    )


def read_error(folder: Path) -> str | None:
    """Why the last attempt failed; None if it did not."""
    found = read_json(folder / ERROR)
    return None if found is None else str(found.get("error"))


def record_error(folder: Path, sentence: str) -> None:
    """Mark a cell or a labeller as failed."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / ERROR, json.dumps({"error": sentence}, indent=2) + "\n")


def learner_folder(out: Path, cell: Cell) -> Path | None:
    """Folder of the generator that learned a set's labels: the set's own, or the labeller's; None without one."""
    if cell.labeller is not None:
        return out / SHARED / cell.labeller
    if cell.shared is not None and cell.trains == "generator" and cell.recipe["clean_first"] == "none":
        return out / SHARED / cell.shared
    return None


def read_labels(folder: Path) -> LabelScores | None:
    """Scores of the learned labels; None if they are missing or damaged."""
    found = read_json(folder / LABELS)
    try:
        return None if found is None else LabelScores.of(found)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


@contextlib.contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """Redirect output to the folder's log and record an exception as its error, in place of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8", buffering=1) as log:  # a line at a time
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                (folder / ERROR).unlink(missing_ok=True)
                yield
            except Interrupted as stop:
                print(f"{now()} {stop}")
                raise
            except Exception as error:
                traceback.print_exc(file=sys.stdout)
                sentence = str(error) if isinstance(error, DmisError) else f"{type(error).__name__}: {error}"
                record_error(folder, sentence)


def _planned(out: Path, cell: Cell) -> tuple[Plan, Run]:
    """The cell's plan, with shared generators and teachers filled in, and the run that keeps its training.

    The first cell of a method, setting and seed trains in the shared folder; the others use its generator or teacher.
    """
    recipe, run_folder = dict(cell.recipe), cell.folder(out) / "run"
    if cell.labeller is not None and has_trained(out / SHARED / cell.labeller, "generator"):
        recipe = merge(recipe, {"labeller": {"generator": str(out / SHARED / cell.labeller)}})
    if cell.shared is not None and cell.trains is not None:
        shared = out / SHARED / cell.shared
        if has_trained(shared, cell.trains) and not is_first(shared, cell):
            given: dict[Trained, dict[str, JSON]] = {
                "generator": {"generator": str(shared)},
                "teacher": {"teacher": {"folder": str(shared)}},
            }
            recipe = merge(recipe, given[cell.trains])
        else:
            run_folder = shared
            take_first(shared, cell)
    drop_damaged(run_folder)
    plan = make_plan(Request(named={key: value for key, value in recipe.items() if key != WHOLE}))
    if plan.source.test is None or plan.source.test_truth is None:
        raise UserError(f"{plan.source.train.name} has no test images, so sets made from it cannot be scored.")
    return plan, Run(run_folder)


def _score(plan: Plan, condensed: CondensedSet, cell: Cell, out: Path) -> None:
    wanted, source = plan.recipe.evaluate, plan.source
    rules = protocol(wanted.protocol)
    assert source.test is not None and source.test_truth is not None
    score = score_set(
        condensed,
        source.test,
        source.test_truth,
        rules,
        FreshNetworks(wanted.network, wanted.repeats, plan.recipe.seed),
        Run(None),
        teacher=None if rules.labels != "teacher" else read_beside(set_file(out, cell), condensed.teacher_sha256),
    )
    told = {
        **score.to_json(),
        "sha256": condensed.sha256(),
        "coverage": pixel_coverage(condensed, source.test, source.test_truth),
        "training_bytes": training_bytes(condensed, score.labels),
        "machine": machine(),
    }
    write_json(cell.folder(out) / SCORE, told)


def _write_labels(folder: Path, told: LabelScores) -> None:
    atomic_write_text(folder / LABELS, json.dumps(told.to_json()) + "\n")

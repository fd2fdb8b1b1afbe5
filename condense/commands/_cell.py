"""One cell of a benchmark in its folder: make the set, score it, or go on where an earlier try stopped.

    cells/NAME/  recipe.json  condensed.h5  score.json  log.txt  run/  (error.json where it failed)
    shared/NAME/ the generator that all sizes of a method use, or that repairs the labels of a setting

A cell is done when score.json belongs to an undamaged condensed.h5. Every file is written in one step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from condense.commands._grid import SHARED, Cell
from condense.commands._labels import learnt_labels
from condense.commands._plan import Plan, Request, make_plan
from condense.commands._repair import labeller_seed
from condense.commands.condense import make_set
from condense.commands.evaluate import score_set
from condense.condensed import read, write
from condense.condensed_set import CondensedSet
from condense.errors import DmisError, Interrupted, UserError
from condense.evaluate.protocols import protocol
from condense.evaluate.results import Result
from condense.files import atomic_write_text
from condense.generator.model import FILE as GENERATOR
from condense.generator.model import Generator
from condense.generator.session import train_generator
from condense.machine import best_device
from condense.recipe import merge
from condense.run import Run

RECIPE, SET, SCORE, ERROR, LOG, LABELS = (
    "recipe.json",
    "condensed.h5",
    "score.json",
    "error.json",
    "log.txt",
    "labels.json",
)


def run_cell(out: Path, cell: Cell) -> None:
    """Do what is missing of a cell; a failure is written into its folder, not raised.

    Raises:
        Interrupted: stopped by Ctrl-C; what was saved is gone on from the next time.
    """
    folder = cell.folder(out)
    with _recorded(folder):
        atomic_write_text(folder / RECIPE, json.dumps(cell.recipe, indent=2) + "\n")
        plan, run = _planned(out, cell)
        condensed = whole_set(folder)
        if condensed is None:
            print(f"{_now()} making the set")
            condensed = make_set(plan, run)
            write(folder / SET, condensed, force=True)
        if (learner := learner_folder(out, cell)) is not None:
            _tell_labels(plan, learner)
        print(f"{_now()} scoring the set")
        _score(plan, condensed, folder)
        print(f"{_now()} done")


def run_labeller(out: Path, cell: Cell) -> None:
    """Train the generator that repairs the labels of a cell's setting, as `run_cell` does for a cell."""
    assert cell.labeller is not None
    folder = out / SHARED / cell.labeller
    with _recorded(folder):
        plan = make_plan(Request(named=cell.recipe))
        assert plan.labeller is not None
        print(f"{_now()} training")
        options = plan.labeller
        train_generator(plan.train, options.network, options.train, labeller_seed(plan.recipe.seed), Run(folder))
        _tell_labels(plan, folder)


def read_result(out: Path, cell: Cell) -> Result:
    """How far a cell is: done, failed or missing; a damaged one is missing.

    Raises:
        UserError: the folder was made by another recipe.
    """
    folder = cell.folder(out)
    asked = _read_json(folder / RECIPE)
    if asked is None:
        return cell.result()
    if asked != json.loads(json.dumps(cell.recipe)):
        raise UserError(
            f"{folder} was made by another recipe; choose another --out, or remove that folder to make the cell anew."
        )
    if (error := read_error(folder)) is not None:
        return dataclasses.replace(cell.result(), status="failed", error=error)
    score, condensed = _read_json(folder / SCORE), whole_set(folder)
    if score is None or condensed is None or score.get("sha256") != condensed.sha256():
        return cell.result()
    cost = condensed.provenance.cost
    learner = learner_folder(out, cell)
    learnt = {} if learner is None else read_labels(learner) or {}
    return dataclasses.replace(
        cell.result(),
        status="done",
        accuracies=tuple(score["accuracies"]),
        mean=score["mean"],
        std=score["std"],
        ci95=score["ci95"],
        seconds=cost.seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
        bytes=(folder / SET).stat().st_size,
        labels_recovered=learnt.get("labels_recovered"),
        classifier_accuracy=learnt.get("classifier_accuracy"),
    )


def whole_set(folder: Path) -> CondensedSet | None:
    """The folder's condensed set; None where it is missing or damaged."""
    try:
        return read(folder / SET)
    except UserError:
        return None


def has_generator(folder: Path) -> bool:
    """Whether an undamaged generator lies in a folder."""
    try:
        return Run(folder).load(GENERATOR) is not None if folder.is_dir() else False
    except UserError:
        return False


def read_error(folder: Path) -> str | None:
    """Why the last try failed; None where it did not."""
    found = _read_json(folder / ERROR)
    return None if found is None else str(found.get("error"))


def record_error(folder: Path, sentence: str) -> None:
    """Mark a cell or a labeller as failed."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / ERROR, json.dumps({"error": sentence}, indent=2) + "\n")


def learner_folder(out: Path, cell: Cell) -> Path | None:
    """Where the generator lies that learnt a cell's labels as given: its own, or the one that repaired them."""
    if cell.labeller is not None:
        return out / SHARED / cell.labeller
    if cell.shared is not None and cell.recipe["clean_first"] == "none":
        return out / SHARED / cell.shared
    return None


def read_labels(folder: Path) -> dict[str, Any] | None:
    """What `learnt_labels` found of the generator in a folder."""
    return _read_json(folder / LABELS)


@contextlib.contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """Output goes to the folder's log; an exception becomes its error, an earlier one is forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                (folder / ERROR).unlink(missing_ok=True)
                yield
            except Interrupted as stop:
                print(f"{_now()} {stop}")
                raise
            except Exception as error:
                traceback.print_exc(file=sys.stdout)
                sentence = str(error) if isinstance(error, DmisError) else f"{type(error).__name__}: {error}"
                record_error(folder, sentence)


def _planned(out: Path, cell: Cell) -> tuple[Plan, Run]:
    """The cell's plan, with what is shared filled in; and where its training is kept.

    The first cell of a method, setting and seed trains the generator into the shared folder, the others use it.
    """
    recipe, run_folder = dict(cell.recipe), cell.folder(out) / "run"
    if cell.labeller is not None:
        recipe = merge(recipe, {"labeller": {"generator": str(out / SHARED / cell.labeller)}})
    if cell.shared is not None:
        shared = out / SHARED / cell.shared
        if has_generator(shared):
            recipe["generator"] = str(shared)
        else:
            (shared / f"{GENERATOR}.safetensors").unlink(missing_ok=True)
            run_folder = shared
    plan = make_plan(Request(named=recipe))
    if plan.source.test is None or plan.source.test_truth is None:
        raise UserError(f"{plan.source.train.name} has no test images, so no set made from it can be scored.")
    return plan, Run(run_folder)


def _score(plan: Plan, condensed: CondensedSet, folder: Path) -> None:
    wanted, source = plan.recipe.evaluate, plan.source
    assert source.test is not None and source.test_truth is not None
    score = score_set(
        condensed,
        source.test,
        source.test_truth,
        protocol(wanted.protocol),
        wanted.network,
        wanted.repeats,
        plan.recipe.seed,
        Run(None),
    )
    told = {**score.to_json(), "sha256": condensed.sha256()}
    atomic_write_text(folder / SCORE, json.dumps(told, indent=2) + "\n")


def _tell_labels(plan: Plan, folder: Path) -> None:
    """Write what the generator in `folder` learnt of the labels, once, where the truth is known."""
    if plan.source.truth is None or read_labels(folder) is not None:
        return
    generator = Generator.load(Run(folder), best_device())
    atomic_write_text(folder / LABELS, json.dumps(learnt_labels(generator, plan)) + "\n")


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")

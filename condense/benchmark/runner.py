"""`dmis benchmark`: a grid of independent cells, run until none is missing; and `dmis report`, its report anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from condense.benchmark.cell import (
    is_repaired,
    read_error,
    read_result,
    record_error,
    run_cell,
    run_labeller,
    whole_set,
)
from condense.benchmark.executors import Executor, Job, LocalExecutor
from condense.benchmark.grid import (
    SHARED,
    BenchmarkRecipe,
    Cell,
    expand,
    known_options,
    layers_of,
    own_options,
    read_benchmark,
    shipped_options,
)
from condense.benchmark.report import gather
from condense.benchmark.schedule import Task, run_tasks
from condense.benchmark.shared import has_trained
from condense.errors import Interrupted, RunFailed, UserError
from condense.evaluate.benchmark_report import HTML, write_benchmark_report
from condense.evaluate.published_table import write_published
from condense.evaluate.results import Result, comparisons, write_comparisons, write_csv
from condense.files import atomic_write_text, prepare_folder, sweep
from condense.pipeline.feature_space import fixed_space
from condense.recipe import merge, parse_overrides

RECIPE, RESULTS, COMPARISONS, LOCK = "benchmark.json", "results.csv", "comparisons.csv", ".lock"
PUBLISHED = "published.csv"

Tell = Callable[[str], None]


def benchmark(
    config: str,
    out: Path,
    *,
    settings: Sequence[str] = (),
    executor: Executor | None = None,
    hours: float | None = None,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Run every cell that is not done yet, then write results.csv, comparisons.csv, published.csv and the report.

    Args:
        config: a recipe file, or the name of a recipe that ships with the package.
        out: folder of the benchmark.
        settings: `a.b=c` each, laid over the recipe.
        executor: where cells run; processes on this machine when None.
        hours: after which no more cells are started.
        tell: hears one line about each cell that ends.

    Returns:
        out, report, results, how many cells there are, done, failed and missing, and the comparisons of every two
        methods over their seeds.

    Raises:
        UserError: the recipe cannot be used, cells in `out` were made by another one, or another process is at them.
        RunFailed: a cell failed; the others were run and the report is written.
        Interrupted: stopped by Ctrl-C; run the same again to go on.
    """
    recipe, cells, before = _looked_at(config, out, settings)
    _check_space(recipe, before)
    prepare_folder(out, force=True)
    out.mkdir(exist_ok=True)
    with _alone(out):
        for folder in (out, *out.glob("cells/*"), *out.glob("cells/*/run"), *out.glob("shared/*")):
            sweep(folder, alone=True)
        atomic_write_text(out / RECIPE, json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n")
        book = _Book(out, before, tell)
        stopped = run_tasks(
            _tasks(out, [cell for cell, result in zip(cells, before, strict=True) if result.status != "done"]),
            executor or LocalExecutor(),
            out,
            may_start=book.may_start,
            ended=book.ended,
            seconds=None if hours is None else 3600 * hours,
        )
        if not stopped:
            _write(out, recipe, cells, book.results())
    told = _counts(out, book.results())
    if stopped:
        raise Interrupted(f"Stopped with {told['done']} of {told['cells']} cells done; run the same again to go on.")
    if told["failed"]:
        raise RunFailed(
            f"{told['failed']} of {told['cells']} cells failed, see {out / HTML}; run the same again to try them again."
        )
    return {**told, "comparisons": comparisons(book.results())}


def dry_run(config: str, out: Path, settings: Sequence[str] = ()) -> list[dict[str, str]]:
    """Name and status of every cell; nothing is written. Raises `UserError` as `benchmark`."""
    return [{"cell": result.cell, "status": result.status} for result in _looked_at(config, out, settings)[2]]


def report(out: Path) -> dict[str, Any]:
    """Write results.csv, comparisons.csv, published.csv and the report of a benchmark's folder anew.

    No module that its recipe names is imported.

    Returns:
        As `benchmark`.

    Raises:
        UserError: `out` is no benchmark's folder.
    """
    try:
        layers = json.loads((out / RECIPE).read_text(encoding="utf-8"))
        if not isinstance(layers, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{out} is no folder of a benchmark: {RECIPE} is missing or damaged.") from error
    recipe = read_benchmark(layers, known_options)
    cells = expand(recipe, known_options)
    results = [read_result(out, cell) for cell in cells]
    _write(out, recipe, cells, results)
    return {**_counts(out, results), "comparisons": comparisons(results)}


def _looked_at(config: str, out: Path, settings: Sequence[str]) -> tuple[BenchmarkRecipe, list[Cell], list[Result]]:
    asked = parse_overrides(settings)
    options_of = own_options if "methods" in asked else shipped_options
    recipe = read_benchmark(merge(layers_of(config), asked), options_of)
    cells = expand(recipe, options_of)
    return recipe, cells, [read_result(out, cell) for cell in cells]


def _check_space(recipe: BenchmarkRecipe, before: Sequence[Result]) -> None:
    """Whether packages and weights are there, before days are spent on training. Raises `UserError` where not."""
    asked = recipe.generation
    if asked is not None and any(result.task == "generation" and result.status != "done" for result in before):
        fixed_space(asked.space, asked.weights)


def _write(out: Path, recipe: BenchmarkRecipe, cells: Sequence[Cell], results: Sequence[Result]) -> None:
    write_csv(out / RESULTS, results)
    write_comparisons(out / COMPARISONS, results)
    write_published(out / PUBLISHED, results)
    write_benchmark_report(out, gather(out, recipe, cells, results))


def _counts(out: Path, results: Sequence[Result]) -> dict[str, Any]:
    counted = {status: sum(result.status == status for result in results) for status in ("done", "failed", "missing")}
    return {"out": str(out), "report": str(out / HTML), "results": str(out / RESULTS), "cells": len(results), **counted}


def _alone(out: Path) -> AbstractContextManager[object]:
    """Holds the folder, so that no second benchmark works at the same cells. Raises `UserError` where one does."""
    try:
        return FileLock(out / LOCK, timeout=0).acquire()
    except Timeout:
        raise UserError(f"Another benchmark is at work in {out}; wait for it, or choose another --out.") from None


def _tasks(out: Path, missing: Sequence[Cell]) -> list[Task]:
    """What to do: who repairs labels before the cells that need them, the first cell that trains before its others."""
    tasks: dict[str, Task] = {}
    leaders: dict[str, str] = {}
    for cell in missing:
        needs = []
        if cell.labeller is not None and not is_repaired(out / SHARED / cell.labeller, cell):
            tasks.setdefault(cell.labeller, Task(cell.labeller, run_labeller, cell))
            needs.append(cell.labeller)
        makes = cell.task != "condensation" or whole_set(out, cell) is None
        if makes and _is_to_be_trained(out, cell):
            leader = leaders.setdefault(str(cell.shared), cell.name)
            needs += [leader] if leader != cell.name else []
        tasks[cell.name] = Task(cell.name, run_cell, cell, tuple(needs))
    return list(tasks.values())


def _is_to_be_trained(out: Path, cell: Cell) -> bool:
    """Whether the cell shares something with other sizes that is not there yet."""
    return (
        cell.shared is not None and cell.trains is not None and not has_trained(out / SHARED / cell.shared, cell.trains)
    )


class _Book:
    """Keeps the results, on disk too, while cells end."""

    def __init__(self, out: Path, before: Sequence[Result], tell: Tell) -> None:
        self._out = out
        self._tell = tell
        self._results = {result.cell: result for result in before}
        self._write()

    def results(self) -> list[Result]:
        """All cells, in the order of the recipe."""
        return list(self._results.values())

    def may_start(self, task: Task) -> bool:
        """Whether what the task shares with others that ended is there; if not, it has failed for that reason."""
        reason = self._lacks(task)
        if reason is None:
            return True
        record_error(task.cell.folder(self._out), reason)
        self._keep(task.cell, dataclasses.replace(task.cell.result(), status="failed", error=reason))
        return False

    def ended(self, task: Task, job: Job) -> None:
        """Take down how a task ended; a process that left no result has failed."""
        if task.work is run_labeller:
            folder = self._out / SHARED / task.name
            if not is_repaired(folder, task.cell) and read_error(folder) is None:
                record_error(folder, job.how_it_ended())
            self._tell(f"{task.name}: {read_error(folder) or 'done'}")
            return
        result = read_result(self._out, task.cell)
        if result.status == "missing":
            record_error(task.cell.folder(self._out), job.how_it_ended())
            result = read_result(self._out, task.cell)
        self._keep(task.cell, result)

    def _lacks(self, task: Task) -> str | None:
        """Why a task cannot be done for want of what another one had to leave; None where nothing is lacking."""
        cell = task.cell
        for need in task.needs:
            if need == cell.labeller:
                folder = self._out / SHARED / need
                if not is_repaired(folder, cell):
                    return f"The labels could not be repaired: {read_error(folder)}"
            elif _is_to_be_trained(self._out, cell):
                return f"The {cell.trains} it shares with {need} could not be trained: {self._results[need].error}"
        return None

    def _keep(self, cell: Cell, result: Result) -> None:
        self._results[cell.name] = result
        self._write()
        over = sum(result.status != "missing" for result in self._results.values())
        self._tell(f"[{over}/{len(self._results)}] {cell.name}: {_said(result)}")

    def _write(self) -> None:
        write_csv(self._out / RESULTS, self.results())


def _said(result: Result) -> str:
    """A cell's outcome in a few words."""
    if result.status == "failed":
        return f"failed: {result.error}"
    if result.mean is not None:
        return f"{result.mean:.1f} %"
    return ", ".join(f"{found.name} {found.value:.4g}" for found in result.measured[:1] if found.value is not None)

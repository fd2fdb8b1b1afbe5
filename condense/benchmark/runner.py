"""`dmis benchmark` runs a grid of independent cells until none is missing; `dmis report` rewrites its report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from condense import methods
from condense.benchmark.cell import (
    is_repaired,
    kept_of,
    read_error,
    read_result,
    record_error,
    run_cell,
    run_labeller,
    whole_set,
)
from condense.benchmark.executors import Executor, Job, LocalExecutor
from condense.benchmark.grid import SHARED, Cell, expand, told_apart
from condense.benchmark.grid_recipe import BenchmarkRecipe, layers_of, overridden, read_benchmark
from condense.benchmark.outcome import RESULTS, Outcome
from condense.benchmark.report import gather
from condense.benchmark.schedule import Task, run_tasks
from condense.benchmark.shard import Shard
from condense.benchmark.shared import has_trained
from condense.errors import Interrupted, RunFailed, UserError
from condense.evaluate.benchmark_report import HTML, write_benchmark_report, write_tables
from condense.evaluate.kept import Kept, read_kept, write_kept
from condense.evaluate.leaderboard import LEADERBOARD, render_leaderboard
from condense.evaluate.published_table import write_published
from condense.evaluate.results import Result, write_comparisons, write_csv
from condense.files import atomic_write_text, prepare_folder, sweep
from condense.pipeline import classify
from condense.pipeline.feature_space import fixed_space
from condense.recipe import parse_overrides

RECIPE, COMPARISONS, LOCK = "benchmark.json", "comparisons.csv", ".lock"
PUBLISHED = "published.csv"

Tell = Callable[[str], None]


def benchmark(
    config: str | Mapping[str, Any],
    out: Path,
    *,
    settings: Sequence[str] = (),
    executor: Executor | None = None,
    hours: float | None = None,
    tell: Tell = lambda line: None,
    shard: Shard | None = None,
) -> Outcome:
    """Run every cell that is not done yet, then write results.csv, comparisons.csv, published.csv and the report.

    Args:
        config: a recipe file, the name of a recipe that ships with the package, or what such a file holds; in the last,
            methods may be modules of the user's.
        out: folder of the benchmark.
        settings: overrides of the recipe, `a.b=c` each.
        executor: runs the cells; processes on this machine when None.
        hours: time after which no more cells are started; no limit when None.
        tell: called with one line about each cell that ends.
        shard: the part of the cells to run here; all when None. Other parts may run in the same folder.

    Raises:
        UserError: the recipe cannot be used, cells in `out` were made by another one, or another process runs them.
        RunFailed: a cell failed; the others were run and the report is written.
        Interrupted: stopped by Ctrl-C; the same call resumes.
    """
    recipe, cells, before = _looked_at(config, out, settings)
    _check_space(recipe, before)
    prepare_folder(out, force=True)
    out.mkdir(exist_ok=True)
    mine = {cell.name for cell in cells} if shard is None else shard.of(cells)
    with _alone(out, shard):
        for cell in (cell for cell in cells if cell.name in mine):
            for folder in (cell.folder(out), cell.folder(out) / "run"):
                sweep(folder, alone=True)
        atomic_write_text(out / RECIPE, json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n")
        book = _Book(out, before, tell)
        stopped = run_tasks(
            _tasks(out, [c for c, r in zip(cells, before, strict=True) if r.status != "done" and c.name in mine]),
            executor or LocalExecutor(),
            out,
            may_start=book.may_start,
            ended=book.ended,
            seconds=None if hours is None else 3600 * hours,
        )
        results = book.results() if shard is None else [read_result(out, cell) for cell in cells]
        if not stopped:
            _write(out, recipe, cells, results)
    found = Outcome(out, out / HTML, tuple(results))
    if stopped:
        raise Interrupted(f"Stopped with {found.done} of {len(results)} cells done; run the same again to go on.")
    if found.failed:
        raise RunFailed(
            f"{found.failed} of {len(results)} cells failed, see {out / HTML}; run the same again to try them again."
        )
    return found


def dry_run(config: str | Mapping[str, Any], out: Path, settings: Sequence[str] = ()) -> list[dict[str, str]]:
    """Name and status of every cell; nothing is written. Raises `UserError` as `benchmark`."""
    return [{"cell": result.cell, "status": result.status} for result in _looked_at(config, out, settings)[2]]


def report(out: Path, keep: Path | None = None) -> Outcome:
    """Rewrite results.csv, comparisons.csv, published.csv and the report of a benchmark's folder.

    Of the modules that its recipe names, only those of this and of installed packages are imported.

    Args:
        out: the folder.
        keep: folder for one small file per finished cell, from which `report_kept` can rebuild the tables.

    Raises:
        UserError: `out` is not a benchmark's folder, or `keep` has other results for a cell.
    """
    try:
        layers = json.loads((out / RECIPE).read_text(encoding="utf-8"))
        if not isinstance(layers, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{out} is not a benchmark's folder: {RECIPE} is missing or damaged.") from error
    recipe = read_benchmark(layers)
    cells = expand(recipe)
    results = [read_result(out, cell) for cell in cells]
    _write(out, recipe, cells, results)
    kept = None if keep is None else len(write_kept(keep, _kept(out, cells, results)))
    return Outcome(out, out / HTML, tuple(results), kept)


def report_kept(folders: Sequence[Path], out: Path) -> Outcome:
    """Write results.csv, comparisons.csv, report.md, table.tex and leaderboard.html from kept results alone.

    Args:
        folders: folders that `report` wrote as `keep`; their results are merged.
        out: folder to write into.

    Raises:
        UserError: a folder has no results, a file is damaged, or two folders disagree about a cell.
    """
    kept: dict[str, Kept] = {}
    for folder in folders:
        found = read_kept(folder)
        if not found:
            raise UserError(f"{folder} is neither a benchmark's folder nor a folder of kept results (--keep).")
        for one in found:
            other = kept.setdefault(one.result.cell, one)
            if other.result != one.result:
                raise UserError(f"{folder} has a different result for {one.result.cell} than an earlier folder.")
    out.mkdir(parents=True, exist_ok=True)
    places = [one.recipe.get("data") for one in kept.values()]
    named = [place if isinstance(place, Mapping) else {} for place in places]
    names = told_apart([(one.result.setting, data) for one, data in zip(kept.values(), named, strict=True)])
    results = [dataclasses.replace(one.result, setting=name) for one, name in zip(kept.values(), names, strict=True)]
    told = [dataclasses.replace(one, result=result) for one, result in zip(kept.values(), results, strict=True)]
    write_csv(out / RESULTS, results)
    write_comparisons(out / COMPARISONS, results)
    write_tables(out, "Kept results", results)
    atomic_write_text(out / LEADERBOARD, render_leaderboard("Kept results", told))
    return Outcome(out, out / LEADERBOARD, tuple(results))


def _kept(out: Path, cells: Sequence[Cell], results: Sequence[Result]) -> list[Kept]:
    return [kept_of(out, cell, result) for cell, result in zip(cells, results, strict=True) if result.status == "done"]


def _looked_at(
    config: str | Mapping[str, Any], out: Path, settings: Sequence[str]
) -> tuple[BenchmarkRecipe, list[Cell], list[Result]]:
    asked = parse_overrides(settings)
    methods.trust(_methods_in(asked if isinstance(config, str) else overridden(config, asked)))
    recipe = read_benchmark(overridden(layers_of(config), asked))
    for name in (*recipe.methods, *(row.method for row in recipe.rows.values())):
        methods.load(name)  # refuses code named only in a file
    for name in () if recipe.classifiers == "all" else recipe.classifiers:
        classify.check_name(name)
    cells = expand(recipe)
    return recipe, cells, [read_result(out, cell) for cell in cells]


def _methods_in(layers: Mapping[str, Any]) -> Iterator[object]:
    """What stands where a recipe names methods, whatever it is."""
    listed, rows = layers.get("methods"), layers.get("rows")
    yield from listed if isinstance(listed, list) else ()
    yield from (
        (row.get("method") for row in rows.values() if isinstance(row, Mapping)) if isinstance(rows, Mapping) else ()
    )


def _check_space(recipe: BenchmarkRecipe, before: Sequence[Result]) -> None:
    """Raise `UserError` before any training if packages or weights of the feature space are missing."""
    asked = recipe.generation
    if asked is not None and any(result.task == "generation" and result.status != "done" for result in before):
        fixed_space(asked.space, asked.weights)


def _write(out: Path, recipe: BenchmarkRecipe, cells: Sequence[Cell], results: Sequence[Result]) -> None:
    write_csv(out / RESULTS, results)
    write_comparisons(out / COMPARISONS, results)
    write_published(out / PUBLISHED, results)
    kept = _kept(out, cells, results)
    if any(one.result.task == "condensation" for one in kept):
        atomic_write_text(out / LEADERBOARD, render_leaderboard(recipe.title or "Benchmark", kept))
    write_benchmark_report(out, gather(out, recipe, cells, results))


def _alone(out: Path, shard: Shard | None = None) -> AbstractContextManager[object]:
    """Lock the folder, or a part of its cells, against a second benchmark.

    Raises `UserError` if another process holds the lock.
    """
    name = LOCK if shard is None else f"{LOCK}-{shard.index}-of-{shard.count}"
    try:
        return FileLock(out / name, timeout=0).acquire()
    except Timeout:
        raise UserError(f"Another benchmark is running in {out}; wait for it, or choose another --out.") from None


def _tasks(out: Path, missing: Sequence[Cell]) -> list[Task]:
    """Tasks in order: labellers before the cells that need them, and the cell that trains before those that share."""
    tasks: dict[str, Task] = {}
    leaders: dict[str, str] = {}
    for cell in missing:
        needs = []
        if cell.labeller is not None and not is_repaired(out / SHARED / cell.labeller, cell):
            tasks.setdefault(cell.labeller, Task(cell.labeller, run_labeller, cell))
            needs.append(cell.labeller)
        if cell.set_of is not None and whole_set(out, cell) is None:
            needs.append(cell.set_of)
        makes = cell.task != "condensation" or whole_set(out, cell) is None
        if makes and _is_to_be_trained(out, cell):
            leader = leaders.setdefault(str(cell.shared), cell.name)
            needs += [leader] if leader != cell.name else []
        tasks[cell.name] = Task(cell.name, run_cell, cell, tuple(needs))
    return list(tasks.values())


def _is_to_be_trained(out: Path, cell: Cell) -> bool:
    """Whether the generator or teacher that the cell shares with other sizes is still to be trained."""
    return (
        cell.shared is not None and cell.trains is not None and not has_trained(out / SHARED / cell.shared, cell.trains)
    )


class _Book:
    """The results, kept up to date on disk as cells end."""

    def __init__(self, out: Path, before: Sequence[Result], tell: Tell) -> None:
        self._out = out
        self._tell = tell
        self._results = {result.cell: result for result in before}
        self._write()

    def results(self) -> list[Result]:
        """The results of all cells, in the order of the recipe."""
        return list(self._results.values())

    def may_start(self, task: Task) -> bool:
        """Whether the tasks this one needs left what it requires; if not, it is recorded as failed."""
        reason = self._lacks(task)
        if reason is None:
            return True
        record_error(task.cell.folder(self._out), reason)
        self._keep(task.cell, dataclasses.replace(task.cell.result(), status="failed", error=reason))
        return False

    def ended(self, task: Task, job: Job) -> None:
        """Record how a task ended; a process that left no result has failed."""
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
        """Why a task cannot run because another one failed; None if nothing is missing."""
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
    """A cell's outcome in a few words, for the progress line."""
    if result.status == "failed":
        return f"failed: {result.error}"
    if result.mean is not None:
        return f"{result.mean:.1f} %"
    return ", ".join(f"{found.name} {found.value:.4g}" for found in result.measured[:1] if found.value is not None)

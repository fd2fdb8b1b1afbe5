"""Runs tasks with dependencies, a few at a time, until none is left, time is up or Ctrl-C is pressed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from condense.benchmark.executors import Executor, Job, Work
from condense.benchmark.grid import Cell
from condense.run import interrupt_guard

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Task:
    """A unit of work that runs in its own process.

    Attributes:
        name: name, unique among the tasks.
        work: function called with the benchmark's folder and `cell`.
        cell: the cell, or one of those that need the outcome.
        needs: names of tasks that must have ended before, successfully or not.
    """

    name: str
    work: Work
    cell: Cell
    needs: tuple[str, ...] = ()


def run_tasks(
    tasks: Sequence[Task],
    executor: Executor,
    out: Path,
    *,
    may_start: Callable[[Task], bool],
    ended: Callable[[Task, Job], None],
    seconds: float | None = None,
) -> bool:
    """Run tasks in order, as soon as the tasks they need have ended and the executor has a free slot.

    Args:
        tasks: the tasks.
        executor: runs them.
        out: the benchmark's folder.
        may_start: called right before a task would start; if it returns False, the task is dropped.
        ended: called for each task that ended by itself.
        seconds: time after which no task is started; no limit when None.

    Returns:
        Whether Ctrl-C (or SIGTERM) came. Running tasks are then asked to save and stop, and are waited for; a second
        one ends them immediately with `KeyboardInterrupt`.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    waiting = list(tasks)
    running: dict[str, tuple[Task, Job]] = {}
    asked_to_stop = False
    with interrupt_guard() as guard:
        try:
            while waiting or running:
                if guard.requested or (deadline is not None and time.monotonic() >= deadline):
                    waiting = []
                if guard.requested and not asked_to_stop:
                    asked_to_stop = True
                    for _, job in running.values():
                        job.stop()
                _start(waiting, running, executor, out, may_start)
                for task, job in [both for both in running.values() if both[1].done()]:
                    del running[task.name]
                    if not asked_to_stop:
                        ended(task, job)
                time.sleep(POLL_SECONDS)
        finally:
            for _, job in running.values():
                job.kill()
    return asked_to_stop


def _start(
    waiting: list[Task],
    running: dict[str, tuple[Task, Job]],
    executor: Executor,
    out: Path,
    may_start: Callable[[Task], bool],
) -> None:
    """Start what can be started now and take it off the waiting list."""
    unfinished = {task.name for task in waiting} | running.keys()
    for task in list(waiting):
        if len(running) >= executor.slots:
            return
        if unfinished.isdisjoint(task.needs):
            waiting.remove(task)
            if may_start(task):
                running[task.name] = (task, executor.start(task.work, out, task.cell))

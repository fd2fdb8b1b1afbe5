"""The loop behind everything that trains in steps: stopped after any step, it resumes there, bit for bit.

A `Loop` shows progress, writes metrics.jsonl, saves the state in the run folder, stops after Ctrl-C and resumes from
a saved state. It does not know what a step does: `finish` takes an iterator that performs one step at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from condense.json_values import number
from condense.machine import is_worker
from condense.run import JSON, Run, as_described, check_same_run, interrupt_guard

if TYPE_CHECKING:
    from torch import Tensor

State: TypeAlias = "tuple[dict[str, Tensor], dict[str, JSON]]"


class Resumable(Protocol):
    """Training that can be saved between two steps and resumed."""

    def state(self) -> State:
        """Tensors and JSON from which `restore` continues bit for bit."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state()`; returns the number of steps finished then."""
        ...


@dataclass(frozen=True)
class Step:
    """The report after a step.

    Attributes:
        done: steps finished, in all sessions.
        shown: numbers beside the progress bar.
        metrics: a line for metrics.jsonl; empty for none.
    """

    done: int
    shown: Mapping[str, float]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LoopPlan:
    """How long a loop is, and how often it writes.

    Attributes:
        title: of the progress bar.
        total: steps in all sessions.
        save_every: steps between two saves of the state; the last step always saves.
        record_every: steps between two lines of metrics.jsonl; the last step always writes one.
        counter: key of the step in a line, by which a resumed run drops lines it will repeat; None: drop nothing.
        place: describes where the loop stopped, given the finished steps; "at step 3 of 10" when None.
        kept: what the folder holds after a stop, with its verb.
        by_one: whether a single process runs the loop, see `condense.processes.shared`; then it saves the state itself.
    """

    title: str
    total: int
    save_every: int = 1
    record_every: int = 1
    counter: str | None = "step"
    place: Callable[[int], str] | None = None
    kept: str = "the state is"
    by_one: bool = False

    def where(self, done: int) -> str:
        """Where the loop stands after `done` steps."""
        return f"at step {done} of {self.total}" if self.place is None else self.place(done)


class Loop:
    """One session of a resumable loop. Under torchrun all processes run it, unless it is `by_one`; the main one writes.

    Attributes:
        done: steps finished in all sessions.
        saved: the state as last written, empty before.
    """

    def __init__(self, run: Run, plan: LoopPlan) -> None:
        self.run, self.plan, self.done = run, plan, 0
        self.saved: State = {}, {}
        self._before = 0.0
        self._started: float | None = None
        self._kept: Resumable | None = None
        self._name = ""
        self._identity: Mapping[str, JSON] = {}

    @property
    def seconds(self) -> float:
        """Training time since the first step, without the time between sessions."""
        return self._before + (0.0 if self._started is None else time.perf_counter() - self._started)

    def resume(
        self, name: str, kept: Resumable, identity: Mapping[str, JSON] | None = None, what: str = "checkpoint"
    ) -> bool:
        """Save the state of `kept` in the run folder's file `name` from now on, and resume from it; False if it is new.

        Args:
            name: of the file.
            kept: what is trained.
            identity: what all sessions must have in common; it is written into the file.
            what: the file in words.

        Raises:
            UserError: the file is damaged, or of a run with another `identity`.
        """
        self._name, self._kept, self._identity = name, kept, identity or {}
        found = self.run.load(name)
        if found is not None:
            check_same_run(found[1], self._identity, what)
            with as_described(self.run.file(name)):
                self.done, self._before = kept.restore(*found), number(found[1], "seconds")
        return found is not None

    def save(self) -> None:
        """Save the current state, if `resume` named a file."""
        if self._kept is not None:
            tensors, meta = self._kept.state()
            self.saved = tensors, {**meta, **self._identity, "seconds": self.seconds}
            if self.plan.by_one or not is_worker():
                self.run.save(self._name, *self.saved)

    def finish(self, steps: Iterable[Step], agree: Callable[[bool], bool] = bool) -> None:
        """Run the remaining steps; each is shown, recorded and saved before the next begins.

        Args:
            steps: an iterator that performs one step per item.
            agree: maps "this process was asked to stop" to "all stop", for processes that must stop together.

        Raises:
            Interrupted: stopped by Ctrl-C after saving; the same call resumes.
        """
        plan, main, self._started = self.plan, not is_worker(), time.perf_counter()
        if main and plan.counter is not None:
            self.run.rewind(self.done, plan.counter)
        with interrupt_guard() as guard, self.run.track(plan.total, plan.title, initial=self.done) as tracker:
            for step in steps:
                self.done, last = step.done, step.done == plan.total
                tracker.update(step.done, **step.shown)
                if main and step.metrics and (last or step.done % plan.record_every == 0):
                    self.run.metric(**step.metrics)
                stop = agree(guard.requested)
                if stop or last or step.done % plan.save_every == 0:
                    self.save()
                if stop:
                    raise self.run.stopped(plan.where(step.done), plan.kept)
            if agree(guard.requested):  # while the last state was saved
                raise self.run.stopped(plan.where(self.done), plan.kept)

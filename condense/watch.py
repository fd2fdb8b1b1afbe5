"""Watching long work: bars with the current stage, the stages after it and the time left of all; and trackers.

A command announces its stages beforehand (`expected`); the loops below it report only their own steps and need not
know each other. A terminal shows a bar; a file or a pipe receives a line now and then.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from condense.errors import UserError, in_short

LOGS = ("tensorboard", "wandb")
LINE_EVERY = 60.0
"""Seconds between two lines where stderr is not a terminal."""


@dataclass(frozen=True)
class Stage:
    """A part of the work with a bar of its own.

    Attributes:
        name: as given to `Run.track`.
        work: its amount, in a unit that all stages of a command share.
    """

    name: str
    work: float


@dataclass(frozen=True)
class Place:
    """Where a stage stands among those expected: the `number`-th of `of`, `then` the names of what follows."""

    number: int
    of: int
    then: tuple[str, ...]


class Stages:
    """The stages a command expects, in order. Skipped stages, e.g. with results in a file, count as done."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self._next = 0
        self._current: Stage | None = None
        self._share = 0.0  # of the current stage
        self._work = 0.0  # done in this session, without the current stage
        self._seconds = 0.0  # that it took

    def begin(self, name: str) -> Place | None:
        """Enter the next stage of this name; None if no such stage was expected."""
        names = [stage.name for stage in self._stages]
        if name not in names[self._next :]:
            return None
        index = names.index(name, self._next)
        self._current, self._next, self._share = self._stages[index], index + 1, 0.0
        return Place(index + 1, len(names), tuple(names[index + 1 :]))

    def seconds_left(self, done: float, since: float, seconds: float) -> float | None:
        """Seconds left of all stages, extrapolated from the pace so far.

        Args:
            done: share of the current stage that is done, in [0, 1].
            since: the share that was done when this session began.
            seconds: what the share between them took.
        """
        if self._current is None:
            return None
        self._share = done - since
        work, spent = self._work + self._share * self._current.work, self._seconds + seconds
        if work <= 0 or spent <= 0:
            return None
        ahead = (1 - done) * self._current.work + sum(stage.work for stage in self._stages[self._next :])
        return ahead * spent / work

    def end(self, seconds: float) -> None:
        """Leave the current stage, which took so many seconds."""
        if self._current is not None:
            self._work += self._share * self._current.work
            self._seconds += seconds
        self._current = None


_EXPECTED: ContextVar[Stages | None] = ContextVar("expected", default=None)
_LOG: ContextVar[_Log | None] = ContextVar("log", default=None)
_STAGE: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def expected(stages: Sequence[Stage]) -> Iterator[None]:
    """Within the block, bars show which of `stages` they belong to and when all of these will be finished."""
    token = _EXPECTED.set(Stages(stages))
    try:
        yield
    finally:
        _EXPECTED.reset(token)


class Tracker:
    """A loop's handle on its progress bar; without a bar it does nothing."""

    def __init__(self, bar: _Bar | None = None) -> None:
        self._bar = bar

    def update(self, done: int, **shown: float) -> None:
        """Show that `done` steps of the total are finished, with numbers, e.g. `update(40, loss=0.31)`."""
        if self._bar is not None:
            with suppress(OSError):  # a terminal that is closed must not end the work
                self._bar.show(done, "  ".join(f"{name} {value:.4g}" for name, value in shown.items()))


@contextmanager
def track(total: int, description: str, initial: int = 0, *, shown: bool = True) -> Iterator[Tracker]:
    """A stage's bar on stderr from `initial` to `total`; without `shown` only the log records the stage."""
    token = _STAGE.set(description)
    stages = _EXPECTED.get()
    place = None if stages is None else stages.begin(description)
    clock = _Clock(stages if place is not None else None, total, initial)
    try:
        with ExitStack() as held:
            if not shown:
                yield Tracker()
                return
            start = _terminal_bar if _is_terminal() else _lines
            yield Tracker(start(*_labels(description, place), clock, held))
    finally:
        clock.end()
        _STAGE.reset(token)


class _Clock:
    """Time spent in a stage, and time left."""

    def __init__(self, stages: Stages | None, total: int, initial: int) -> None:
        self.total, self.initial, self._stages = max(total, 1), initial, stages
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._started

    def left(self, done: int) -> tuple[float | None, float | None]:
        """Seconds left of this stage, and of all that are expected; None if unknown."""
        spent, made = self.spent, done - self.initial
        own = None if made <= 0 else spent / made * (self.total - done)
        if self._stages is None:
            return own, None
        return own, self._stages.seconds_left(done / self.total, self.initial / self.total, spent)

    def end(self) -> None:
        if self._stages is not None:
            self._stages.end(self.spent)


class _Bar(Protocol):
    def show(self, done: int, shown: str) -> None: ...


def _labels(description: str, place: Place | None) -> tuple[str, str]:
    """The text before and after the numbers: "stage 2 of 4: dmis" and "then sampling"."""
    if place is None or place.of == 1:
        return description, ""
    return f"stage {place.number} of {place.of}: {description}", f"then {place.then[0]}" if place.then else ""


def _lines(label: str, then: str, clock: _Clock, held: ExitStack) -> _Bar:
    """One line per minute, and one at the end: for a stderr that goes into a file or a pipe."""
    last, at = time.monotonic(), ""

    class Lines:
        def show(self, done: int, shown: str) -> None:
            nonlocal last, at
            at = ", ".join(part for part in (f"{label} {done}/{clock.total}", shown) if part)
            if time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                _print(at, _left(*clock.left(done)), then)

    def end() -> None:
        _print(at, f"in {clock_time(clock.spent)}")

    held.callback(end)
    return Lines()


def _print(*parts: str) -> None:
    if parts[0]:
        with suppress(OSError, ValueError):
            print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


def _left(own: float | None, whole: float | None) -> str:
    """E.g. "0:02 left", "0:02 left, 0:10 of all"."""
    told = [] if own is None else [f"{clock_time(own)} left"]
    return ", ".join([*told, *([] if whole is None else [f"{clock_time(whole)} of all"])])


def clock_time(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    hours, rest = divmod(math.ceil(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _is_terminal() -> bool:
    with suppress(ValueError):
        return sys.stderr.isatty()
    return False


def _terminal_bar(label: str, then: str, clock: _Clock, held: ExitStack) -> _Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    class Bar:
        def show(self, done: int, shown: str) -> None:
            own, whole = clock.left(done)
            left = ", ".join(part for part in (_left(own, whole), then) if part)
            progress.update(task, completed=done, shown=shown, left=left)

    texts = ("{task.fields[shown]}", "{task.fields[left]}")
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        *(TextColumn(text, markup=False) for text in texts),
        console=Console(stderr=True),
    )
    task = progress.add_task(label, total=clock.total, completed=clock.initial, shown="", left=then)
    with suppress(OSError):  # as in Tracker
        progress.start()
    held.callback(_stop, progress)
    return Bar()


def _stop(progress: Any) -> None:
    with suppress(OSError):
        progress.stop()


class _Log:
    """One of accelerate's trackers, started with the first number logged."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._tracker: Any = None

    def log(self, stage: str, step: int | None, values: Mapping[str, float]) -> None:
        if self._tracker is None:
            self._tracker = self._begun()
        named = {f"{stage}/{name}" if stage else name: value for name, value in values.items()}
        if self._name == "tensorboard":
            self._tracker.log(named, step=step)
        else:  # wandb's single step count must never fall, and every stage counts from 1
            self._tracker.log(named if step is None else {**named, f"{stage}/step": step})

    def _begun(self) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        tracker = LOGGER_TYPE_TO_CLASS[self._name]
        place = {"logging_dir": str(self._folder)} if tracker.requires_logging_directory else {"dir": str(self._folder)}
        try:
            begun = tracker(self._name if tracker.requires_logging_directory else "dmis", **place)
            if hasattr(begun, "start"):
                begun.start()
        except Exception as error:  # whatever an unreachable service raises
            raise UserError(
                f"{self._name} cannot be used: {in_short(error)}; correct that, or leave out --log."
            ) from error
        return begun

    def finish(self) -> None:
        if self._tracker is not None:
            self._tracker.finish()


def check_log(name: str | None) -> None:
    """Raise `UserError` unless `name`, of `LOGS` or None, can be logged to."""
    if name is None:
        return
    if name not in LOGS:
        raise UserError(f"--log is {name!r}; give {' or '.join(LOGS)}.")
    from accelerate.tracking import get_available_trackers

    if name not in {str(getattr(found, "value", found)) for found in get_available_trackers()}:
        raise UserError(f"--log {name} needs the library {name}; run: pip install {name}")


@contextmanager
def logged(name: str | None, folder: Path) -> Iterator[None]:
    """Within the block, `Run.metric` also logs to the tracker `name`, whose files are in `folder`."""
    if name is None:
        yield
        return
    log = _Log(name, folder)
    token = _LOG.set(log)
    try:
        yield
    finally:
        _LOG.reset(token)
        log.finish()


def log(values: Mapping[str, float | int | str | None]) -> None:
    """Log the numbers of a line of metrics to the tracker, if any, at the line's "…step" or "…epoch"."""
    current = _LOG.get()
    if current is None:
        return
    counter = next((name for name in values if name.endswith(("step", "epoch"))), None)
    numbers = {
        name: float(value)
        for name, value in values.items()
        if name != counter and isinstance(value, int | float) and not isinstance(value, bool)
    }
    step = None if counter is None else values[counter]
    if numbers:
        current.log(_STAGE.get(), int(step) if isinstance(step, int | float) else None, numbers)

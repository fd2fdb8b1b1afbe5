"""A run: its folder with metrics and checkpoints, its progress bar, and how it is interrupted.

Everything is written so that a run stopped at any moment can resume from its last checkpoint (see files.py).
Checkpoints are sealed safetensors files (see tensor_file.py): no pickles, so a stranger's file cannot run code.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from condense import tensor_file, watch
from condense.changes import changes
from condense.errors import Interrupted, UserError
from condense.files import AnyPath, atomic_path, atomic_write_text, prepare_folder, prepare_output, sweep, write_error
from condense.json_values import JSON
from condense.machine import git_revision, machine, peak_memory_bytes
from condense.tensor_file import as_described
from condense.watch import Tracker

if TYPE_CHECKING:
    from torch import Tensor

LOCK = ".lock"
STOPPING = b"\nStopping where this can be resumed later; Ctrl-C again stops at once.\n"

__all__ = [
    "JSON",
    "METRIC_EVERY",
    "Run",
    "Tracker",
    "as_described",
    "atomic_path",
    "atomic_write_text",
    "check_same_run",
    "git_revision",
    "interrupt_guard",
    "locked",
    "machine",
    "pack_optimizer",
    "part_of",
    "peak_memory_bytes",
    "prepare_folder",
    "prepare_output",
    "unpack_optimizer",
]


# a terminal or connection that is closed sends SIGHUP; Windows has none
_STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


METRIC_EVERY = 20
"""Steps between two lines of metrics.jsonl."""


def part_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint called NAME.x, under the key x."""
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


class Run:
    """A run folder; with `path=None` nothing is written, for tests and library use.

    Args:
        path: folder for metrics.jsonl and checkpoints, made if missing.
        progress: whether `track` draws a bar on stderr.

    Raises:
        UserError: the folder cannot be made.
    """

    def __init__(self, path: AnyPath | None, *, progress: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.progress = progress
        if self.path is not None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(error, self.path) from error

    def within(self, name: str) -> Run:
        """A run in the subfolder `name`, or without a folder if this one has none; raises as `Run`."""
        return Run(None if self.path is None else self.path / name, progress=self.progress)

    def stopped(self, where: str, kept: str = "the state is") -> Interrupted:
        """What a loop raises after Ctrl-C, e.g. `stopped("at step 3 of 10")`; `kept`: what was saved, with its verb."""
        return Interrupted(f"Stopped {where}; {self.kept(kept)}")

    def kept(self, what: str) -> str:
        """The end of a sentence: where `what` ("the state is") was saved, and how to resume."""
        if self.path is None:
            return "nothing is kept without a run folder."
        return f"{what} saved in {self.path}: continue with --resume."

    def metric(self, **values: float | int | str) -> None:
        """Append one JSON line to metrics.jsonl; NaN and infinity become null (JSON lacks them).

        The tracker of `--log` receives it too.
        """
        finite = {name: None if _not_finite(value) else value for name, value in values.items()}
        watch.log(finite)
        if self.path is None:
            return
        target = self.path / "metrics.jsonl"
        try:
            with target.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise write_error(error, target) from error

    def rewind(self, step: int, counter: str = "step") -> None:
        """Drop the lines of metrics.jsonl that a resumed run will write again: those with "step" > `step`.

        A last line cut short by a crash goes too. Lines without a step stay. A method of several stages gives
        each its own `counter`, e.g. "epoch".
        """
        if self.path is None or not (target := self.path / "metrics.jsonl").exists():
            return
        try:
            lines = target.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise write_error(error, target) from error
        atomic_write_text(target, "".join(f"{line}\n" for line in lines if _is_up_to(line, step, counter)))

    @contextmanager
    def track(self, total: int, description: str, initial: int = 0) -> Iterator[Tracker]:
        """A progress bar on stderr from `initial` to `total`, with numbers and the time left, see watch.py."""
        with watch.track(total, description, initial, shown=self.progress) as tracker:
            yield tracker

    def save(self, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> None:
        """Write `tensors` and `meta` to NAME.safetensors in one step: the old file or the new, never a part.

        Tensors that share memory are written separately. Raises `RunFailed` when the disk is full.
        """
        if self.path is None:
            return
        # not safetensors' save_file: it hides the system's error number and makes the file private to its owner
        content = tensor_file.to_bytes(tensors, meta)
        with atomic_path(self.path / f"{name}.safetensors") as temporary:
            temporary.write_bytes(content)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors (on the CPU) and meta that `save` wrote under `name`; None if there is no such file.

        Raises:
            UserError: the file is cut short, damaged, changed or not ours.
        """
        target = self.file(name)
        return None if target is None or not target.exists() else tensor_file.read(target)

    def file(self, name: str) -> Path | None:
        """Where `save` writes `name`; None in memory."""
        return None if self.path is None else self.path / f"{name}.safetensors"


class interrupt_guard:
    """Context manager: the first Ctrl-C, SIGTERM or SIGHUP sets `requested`, a second raises KeyboardInterrupt.

    A user at a terminal is told so at once, since an epoch may take minutes. A loop checks `requested` after each
    step, saves, and raises `condense.errors.Interrupted`. Outside the main thread Python allows no handlers; there
    the guard does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> interrupt_guard:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has SIGHUP ignored
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if number == signal.SIGINT and os.isatty(2):  # a benchmark's job gets SIGTERM: its parent has said so already
            with suppress(OSError):
                os.write(2, STOPPING)  # not through sys.stderr, which is not reentrant


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Make and lock `folder`, so that no second process works in it; `what` works there, e.g. "run".

    Files left by killed processes are removed. On a file system without locks nothing is locked.

    Raises:
        UserError: another process is at work there, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another {what} is in progress in {folder}; wait for it, or choose another folder (--run, --out)."
        ) from None
    except NotImplementedError:
        pass
    except OSError as error:
        raise write_error(error, folder) from error
    try:
        sweep(folder, alone=True)
        yield
    finally:
        lock.release()


def check_same_run(before: Mapping[str, Any], now: Mapping[str, JSON], what: str) -> None:
    """Raise `UserError` unless the meta of a saved file has all of `now`, e.g. seed, options and fingerprints."""
    changed = changes(before, now)
    if changed:
        raise UserError(f"The {what} belongs to a run with other {', '.join(changed)}; use the same or start afresh.")


def pack_optimizer(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Split a torch optimiser's `state_dict()` into tensors and JSON for `Run.save`.

    Tensors are named "state.INDEX.NAME" and "group.INDEX.NAME"; all else goes into the JSON, named alike.
    """
    from torch import Tensor

    entries = {f"state.{i}.{name}": value for i, of in state_dict["state"].items() for name, value in of.items()}
    for i, group in enumerate(state_dict["param_groups"]):
        entries |= {f"group.{i}.{name}": value for name, value in group.items()}
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in entries.items() if key not in tensors}


def unpack_optimizer(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Any]:
    """The `state_dict` that `pack_optimizer` was given, for `load_state_dict`; other keys are ignored."""
    state: dict[int, dict[str, Any]] = {}
    groups: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **meta}.items():
        kind, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        if kind == "state":
            state.setdefault(int(index), {})[name] = value
        elif kind == "group":  # JSON made lists of tuples such as betas
            is_tuple = isinstance(value, list) and not name.startswith("param")
            groups.setdefault(int(index), {})[name] = tuple(value) if is_tuple else value
    return {"state": state, "param_groups": [groups[i] for i in sorted(groups)]}


def _not_finite(value: float | int | str) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_up_to(line: str, step: int, counter: str) -> bool:
    try:
        return bool(json.loads(line).get(counter, step) <= step)
    except (ValueError, AttributeError):
        return False

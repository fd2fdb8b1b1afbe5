"""Executors that run the cells of a benchmark: in one process each on this machine, or as jobs of a Slurm cluster.

Each task has its own process, so that running out of memory or crashing does not affect the others, and so that its
peak memory can be measured. Results are read from the folders, not from the process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from condense.allocator import keep_freed_memory
from condense.benchmark.grid import Cell
from condense.errors import Interrupted, UserError
from condense.machine import DEVICE, best_device
from condense.recipe import parse_overrides

Work = Callable[[Path, Cell], None]

_MOST_JOBS = 4  # at once by default: each holds the data and torch in memory
_MOST_QUEUED = 100
_IMPORTED_ONCE = ("condense.benchmark.cell", "torch._dynamo", "sklearn.datasets")  # saves seconds in every cell
_DAY_IN_MINUTES = 24 * 60
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Job(Protocol):
    """A task that was started."""

    def done(self) -> bool:
        """Whether it has ended, successfully or not."""
        ...

    def stop(self) -> None:
        """Ask it to save its state and exit."""
        ...

    def kill(self) -> None:
        """End it immediately."""
        ...

    def how_it_ended(self) -> str:
        """How a job without a result ended, in words."""
        ...


class Executor(Protocol):
    """Starts tasks, up to `slots` at once."""

    slots: int

    def start(self, work: Work, out: Path, cell: Cell) -> Job:
        """Start `work(out, cell)` and return its job."""
        ...


def choose_executor(name: str, out: Path, slots: int | None, settings: Sequence[str]) -> Executor:
    """The executor called "local" or "slurm".

    Args:
        name: "local" or "slurm".
        out: the benchmark's folder.
        slots: tasks at once; the executor's default when None.
        settings: parameters of a cluster's jobs, `KEY=VALUE` each.

    Raises:
        UserError: the name is unknown, or the executor cannot be used.
    """
    if name == "local" and not settings:
        return LocalExecutor(slots)
    if name == "slurm":
        parameters = {"name": "dmis", "timeout_min": _DAY_IN_MINUTES, "gpus_per_node": 1, **parse_overrides(settings)}
        return SubmititExecutor(out / "slurm", parameters, slots or _MOST_QUEUED)
    raise UserError(f"The executor {name!r} is unknown or does not accept --slurm; use local, or slurm with --slurm.")


def slots_asked(jobs: str) -> int | None:
    """The number of tasks at once that `--jobs` asks for, None for "auto". Raises `UserError` if it is neither."""
    if jobs == "auto":
        return None
    if jobs.isdecimal() and int(jobs) >= 1:
        return int(jobs)
    raise UserError(f"--jobs is {jobs!r}; give a number of at least 1, or auto.")


class LocalExecutor:
    """One process per task on this machine, each with an equal share of the cores and, where there are any, one GPU.

    Args:
        slots: tasks at once; one per GPU, else one per core up to four, when None.

    Attributes:
        context: how a process is started.
    """

    def __init__(self, slots: int | None = None) -> None:
        import torch

        self._gpus = visible_gpus()
        usual = len(self._gpus) or (1 if best_device().type != "cpu" else min(_MOST_JOBS, torch.get_num_threads()))
        self.slots = slots or usual
        self._running: list[tuple[_ProcessJob, str]] = []  # and the GPU each was given
        self._threads = max(1, torch.get_num_threads() // self.slots)
        self.context: BaseContext
        if "forkserver" in multiprocessing.get_all_start_methods():
            server = multiprocessing.get_context("forkserver")
            server.set_forkserver_preload(list(_IMPORTED_ONCE))
            self.context = server
        else:
            self.context = multiprocessing.get_context("spawn")

    def start(self, work: Work, out: Path, cell: Cell) -> Job:
        """Start a process."""
        gpu = self._least_busy_gpu()
        process = self.context.Process(target=_work_alone, args=(work, out, cell, self._threads, gpu))  # type: ignore[attr-defined]
        with _no_script_to_run_again():
            process.start()
        job = _ProcessJob(process)
        if gpu is not None:
            self._running.append((job, gpu))
        return job

    def _least_busy_gpu(self) -> str | None:
        """The GPU with the fewest tasks, the first of several; None without GPUs."""
        self._running = [(job, gpu) for job, gpu in self._running if not job.done()]
        load = Counter(gpu for _, gpu in self._running)
        return min(self._gpus, key=lambda gpu: load[gpu], default=None)


@contextlib.contextmanager
def _no_script_to_run_again() -> Iterator[None]:
    """Keep a process that starts from running the program's main script, where its classes and functions might be.

    No task needs them, and a script that calls `condense.benchmark` without `if __name__ == "__main__"` would begin a
    benchmark in each process.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def visible_gpus() -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES, one for each CUDA GPU that this process may use, in order."""
    import torch

    device = best_device()
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    found = named[:count] if named else [str(index) for index in range(count)]
    return [found[device.index or 0]] if ":" in os.environ.get(DEVICE, "") and found else found


class _ProcessJob:
    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    def done(self) -> bool:
        return not self._process.is_alive()

    def stop(self) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def how_it_ended(self) -> str:
        code = self._process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", most likely out of memory: lower --jobs" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}"
        return f"its process ended with exit code {code}"


def _work_alone(work: Work, out: Path, cell: Cell, threads: int, gpu: str | None) -> None:
    """Main function of a task's process."""
    if gpu is not None:
        os.environ[_VISIBLE] = gpu  # CUDA reads it at its first use, which is yet to come in this process
        os.environ.pop(DEVICE, None)  # the one visible GPU now has another number

    import torch
    from threadpoolctl import threadpool_limits

    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    try:
        work(out, cell)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(Interrupted.exit_code)


def _end_with_parent() -> None:
    """Save and stop when the parent has ended, so that no orphaned process writes into the folder."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class SubmititExecutor:
    """Jobs of a cluster, submitted through submitit.

    Args:
        folder: where submitit keeps its files.
        parameters: for its `update_parameters`, e.g. slurm_partition, gpus_per_node, timeout_min, mem_gb.
        slots: jobs in the queue at once.
        cluster: "slurm"; "local" and "debug" run on this machine.

    Raises:
        UserError: submitit is not installed, finds no Slurm, or does not know a parameter.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], slots: int, cluster: str = "slurm") -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError("--executor slurm needs submitit; install it with pip install 'dmis[slurm]'.") from error
        self.slots = slots
        try:
            self._executor = submitit.AutoExecutor(folder, cluster=cluster)
            self._executor.update_parameters(**parameters)
        except (RuntimeError, NameError, TypeError) as error:
            raise UserError(f"submitit cannot use this cluster: {error}; try --executor local.") from error

    def start(self, work: Work, out: Path, cell: Cell) -> Job:
        """Submit a job."""
        return _SubmititJob(self._executor.submit(work, out, cell))


class _SubmititJob:
    def __init__(self, job: Any) -> None:
        self._job = job

    def done(self) -> bool:
        return bool(self._job.done())

    def stop(self) -> None:
        self._job.cancel(check=False)

    kill = stop

    def how_it_ended(self) -> str:
        return f"its job {self._job.job_id} ended in state {self._job.state}, see {self._job.paths.stderr}"

"""The processes that torchrun started: who does which part of the work, and how all get what each found.

All of them run the same command side by side, from `join_processes` to `leave_processes`; a generator's steps are
divided by its trainer, everything else here. What is divided gives what one process alone would have found. Without
torchrun, and once the others have left, one process does all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import torch
from torch import Tensor

from condense.errors import RunFailed, UserError, WorkerDone
from condense.machine import best_device, is_worker, num_processes
from condense.run import Run, interrupt_guard

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")
Found = TypeVar("Found")
Agree: TypeAlias = Callable[[bool], bool]
"""Maps "this process was asked to stop" to "all stop", once every process has answered."""


def default_accelerator() -> Accelerator:
    """One process, or as many as torchrun started, on `best_device`."""
    from accelerate import Accelerator

    on_cpu = best_device().type == "cpu"
    return Accelerator(mixed_precision="no", cpu=on_cpu and (num_processes() > 1 or torch.accelerator.is_available()))


def join_processes() -> None:
    """Wait for the other processes; from here on they share the work."""
    if num_processes() > 1:
        default_accelerator().wait_for_everyone()


def leave_processes() -> None:
    """Let the main process continue alone; raises `WorkerDone` in torchrun's workers."""
    if num_processes() == 1:
        return
    default_accelerator().end_training()
    if is_worker():
        raise WorkerDone("trained")


def place() -> tuple[int, int]:
    """Which of the processes at work together this one is, from 0, and how many they are."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def of_all(found: list[Found]) -> list[Found]:
    """What each process found, one after the other, in all of them. It is pickled: tensors must lie on the CPU."""
    _, number = place()
    if number == 1:
        return found
    of_each: list[list[Found]] = [[] for _ in range(number)]
    torch.distributed.all_gather_object(of_each, found)
    return [one for of_one in of_each for one in of_one]


def anywhere(*facts: bool) -> list[bool]:
    """For each of these facts, whether it is true in any process."""
    if place()[1] == 1:
        return list(facts)
    from accelerate import PartialState

    true = torch.tensor(facts, dtype=torch.int32, device=PartialState().device)
    torch.distributed.all_reduce(true, torch.distributed.ReduceOp.MAX)
    return [bool(fact) for fact in true.tolist()]


def share_of(items: Sequence[Item]) -> Sequence[Item]:
    """The items that are this process's: every n-th, for n processes."""
    rank, number = place()
    return items[rank::number]


def shared(items: Sequence[Item], work: Callable[[Item, Agree], Found], run: Run) -> list[Found]:
    """What `work` finds for each of `items`, in their order: each is done by one process, and all get what was found.

    A single item is the main process's. After Ctrl-C, or if the work fails in one of them, all processes stop, those at
    work once they have saved their state.

    Args:
        items: as equal in cost as possible, the same in all processes; see `share_of`.
        work: given an item and the `agree` of its loop (`Loop.finish`), whose plan is `by_one`; what it returns is as
            for `of_all`.
        run: where the state was saved, for the message.

    Raises:
        Interrupted: a process was stopped by Ctrl-C, or another one's work failed.
        UserError, RunFailed: as `work`.
    """
    _, number = place()
    if number == 1:
        return [work(item, bool) for item in items]
    with interrupt_guard() as guard:

        def agree(requested: bool) -> bool:
            stop, _ = anywhere(requested or guard.requested, True)
            return stop

        try:
            mine = [work(item, agree) for item in share_of(items)]
        except (UserError, RunFailed):
            agree(True)
            raise
        stop, others_work = False, True
        while others_work and not stop:
            stop, others_work = anywhere(guard.requested, False)
        found = [] if stop else of_all([(guard.requested, mine)])
    if stop or any(requested for requested, _ in found):
        raise run.stopped("while other processes were at work")
    return [found[index % number][1][index // number] for index in range(len(items))]


def seconds_together(seconds: Sequence[float]) -> float:
    """The time that `shared` work took on items of these `seconds`: that of the busiest process."""
    _, number = place()
    return max(sum(seconds[rank::number]) for rank in range(number))


def rows_of_all(look: Callable[[slice], Tensor], count: int, at_once: int) -> Tensor:
    """`look` at `count` images, consecutive ones by each process: the rows [count, ...] of all, in order, on the CPU.

    Args:
        look: maps the place of some images, at least one, to their rows.
        count: number of images.
        at_once: images that `look` passes through a network at once; processes begin at multiples of it.
    """
    rank, number = place()
    if number == 1:
        return look(slice(0, count))
    parts = -(-count // at_once)
    start, stop = (min(count, at_once * (parts * each // number)) for each in (rank, rank + 1))
    return torch.cat(of_all([look(slice(start, stop))] if start < stop else []))

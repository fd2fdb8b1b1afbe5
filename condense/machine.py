"""Where a result was made: source revision, machine, memory. Only recorded in results, never used for a decision."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from condense.errors import UserError

if TYPE_CHECKING:
    import torch

DEVICE = "DMIS_DEVICE"
"""Environment variable that names the device to compute on; `--device` sets it for its command."""


@cache
def git_revision() -> str | None:
    """`revision_of` this package, cached at the first call, by when the running code was loaded."""
    return revision_of(Path(__file__).resolve().parents[1])


def revision_of(root: Path) -> str | None:
    """Commit of a checkout, "-dirty" appended when tracked files differ; None if `root` is not one.

    A package installed into an environment inside some other project's checkout is not mistaken for it.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def machine() -> dict[str, str]:
    """CPU model, usable cores, device, and the versions of Python and torch."""
    import torch

    device = best_device()
    return {
        "cpu": _cpu_model(),
        "cores": str(_usable_cores()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def is_worker() -> bool:
    """Whether this process is a torchrun worker; only the main process reports and writes."""
    return process_index() > 0


def process_index() -> int:
    """Global rank of this process under torchrun, 0 for the main one; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Number of processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def best_device() -> torch.device:
    """The requested device (`DEVICE`), else this process's GPU (CUDA's, or Apple's), else the CPU.

    Under torchrun each process of this machine takes the GPU of its LOCAL_RANK. Calls `settle_float32`.

    Raises:
        UserError: this machine does not have the requested device.
    """
    import torch

    from condense.precision import settle_float32

    settle_float32()
    asked = os.environ.get(DEVICE) or "auto"
    if asked not in ("auto", "cuda"):
        check_device(asked)
        device = torch.device(asked)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # for accelerate, and for what counts memory
        return device
    if torch.cuda.is_available():
        return torch.device("cuda", _local_rank() % max(1, torch.cuda.device_count()))
    check_device(asked)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else torch.device(found.type)


def check_device(name: str) -> None:
    """Raise `UserError` unless this machine has the device: "auto", or e.g. "cpu", "cuda", "cuda:1", "mps"."""
    if name in ("auto", "cpu"):
        return
    offered = devices()
    if name not in offered:
        raise UserError(f"There is no device {name!r} on this machine; give auto or {' or '.join(offered)}.")
    if ":" in name and num_processes() > 1:
        raise UserError(f"Under torchrun each process takes a GPU of its own; give --device cuda, not {name}.")


def devices() -> list[str]:
    """Names of the devices available on this machine, the CPU first."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    kind = "cuda" if torch.cuda.is_available() else None if found is None else found.type
    if kind is None:
        return ["cpu"]
    numbered = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if kind == "cuda" else []
    return ["cpu", kind, *numbered]


def _local_rank() -> int:
    """Rank of this process among those torchrun started on this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_device_bytes(device: torch.device) -> int | None:
    """Bytes of GPU memory this process can still allocate, including unused cached blocks; None if unknown."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def peak_memory_bytes() -> int:
    """Most memory this process has held so far, in bytes: resident memory, plus CUDA memory where used."""
    import torch

    accelerator = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return _peak_resident_bytes() + int(accelerator)


def _peak_resident_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows has no such count
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

"""Which arithmetic is fast on a device, how it is selected, and what float32 means.

The choice follows the device's instruction set where that is known; where it is not (ARM, CPUs newer than torch's list,
Apple's GPUs), one convolution is timed in both types.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

WORTH = 1.2  # measured speed-up from which bfloat16 is worth its rounding
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # these restrict oneDNN to older instructions
WITHOUT_FLOAT64 = ("mps",)  # types of device on which torch has no float64


@dataclass(frozen=True)
class Arithmetic:
    """The data type in which networks run, and how it was chosen.

    Attributes:
        device: type of the device: "cpu", "cuda", "mps".
        precision: of convolutions and matrix products; weights, losses and updates are float32 in either case.
        decided: "asked for", or, chosen automatically, "by its instructions" or "by timing a convolution".
    """

    device: str
    precision: Literal["bfloat16", "float32"]
    decided: Literal["asked for", "by its instructions", "by timing a convolution"]

    @property
    def bf16(self) -> bool:
        """Whether the type is bfloat16."""
        return self.precision == "bfloat16"

    def to_json(self) -> dict[str, str]:
        """The attributes by name, for records of runs and results."""
        return asdict(self)


def arithmetic(precision: str, device: torch.device) -> Arithmetic:
    """What `precision` ("auto", "bf16" or "fp32") means on `device`: the choice and its reason."""
    if precision == "auto":
        return automatic(device.type)
    return Arithmetic(device.type, "bfloat16" if precision == "bf16" else "float32", "asked for")


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are faster than float32 on `device`.

    True for GPUs from Ampere on and for x86 CPUs with AVX512-BF16 or AMX; CPUs with AVX-512 alone only emulate them,
    several times slower than float32. Where the instruction set is not known, a convolution is timed once per
    process.
    """
    return automatic(device.type).bf16


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: "bf16" always, "auto" where `device` is faster at it, anything else never."""
    return arithmetic(precision, device).bf16


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which lack it: for sums and solutions that rounding would spoil."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bf16 autocast on `device`, or nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@contextmanager
def frozen_autocast(network: nn.Module, device: torch.device, bf16: bool) -> Iterator[None]:
    """`autocast` without gradients that casts the weights of `network` once, not at each pass.

    Autocast caches casts only of weights that require gradients, until its outermost context ends.
    """
    frozen = [weight for weight in network.parameters() if not weight.requires_grad]
    with torch.no_grad(), autocast(device, bf16):
        for weight in frozen:
            weight.requires_grad_(True)
        try:
            yield
        finally:
            for weight in frozen:
                weight.requires_grad_(False)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Restrict torch to deterministic algorithms; it raises RuntimeError where it has none.

    Only GPUs have other algorithms. Without `wanted` nothing changes.
    """
    if not wanted:
        yield
        return
    before, algorithm = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.deterministic = algorithm


def settle_float32() -> None:
    """Disable TF32 and cuDNN's benchmark mode.

    TF32, torch's default in cuDNN convolutions, keeps 10 of the 23 bits of the mantissa. Benchmarking may choose other
    algorithms when the same run is started again.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


def float32_settings() -> dict[str, bool]:
    """The current values of the settings of `settle_float32`, for records."""
    return {
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@functools.cache
def automatic(device_type: str) -> Arithmetic:
    """What "auto" means on devices of this type, decided once per process."""
    has = _has_instructions(device_type)
    if has is not None:
        return Arithmetic(device_type, "bfloat16" if has else "float32", "by its instructions")
    quicker = gflops(device_type, torch.bfloat16) > WORTH * gflops(device_type, torch.float32)
    return Arithmetic(device_type, "bfloat16" if quicker else "float32", "by timing a convolution")


def _has_instructions(device_type: str) -> bool | None:
    """Whether the device has instructions for bfloat16; None if unknown."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type != "cpu" or any(os.environ.get(name) for name in ISA_LIMITS):
        return None
    if platform.machine().lower() not in ("x86_64", "amd64") or not _vectors_are_known():
        return None
    flags = [_flag("_is_avx512_bf16_supported"), _flag("_is_amx_tile_supported")]
    return True if True in flags else None if None in flags else False


def _vectors_are_known() -> bool:
    """Whether torch's kernels were written for this CPU's vectors; torch calls any other "DEFAULT"."""
    return str(torch.backends.cpu.get_cpu_capability()).startswith("AVX")


def _flag(name: str) -> bool | None:
    """One of torch's private CPU feature queries; None if this version of torch lacks it."""
    ask: Callable[[], bool] | None = getattr(torch.cpu, name, None)
    return None if ask is None else bool(ask())


@functools.cache
def gflops(device_type: str, dtype: torch.dtype) -> float:
    """Speed of one 3x3 convolution, forward and backward, in 10^9 operations per second, on this process's threads.

    The best of three runs after a warm-up; 0 where the device cannot do it. On a CPU [16, 64, 28, 28] with 64 output
    channels, which takes some hundredths of a second; elsewhere [256, 256, 32, 32] with 256.
    """
    batch, channels, side = (16, 64, 28) if device_type == "cpu" else (256, 256, 32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.ones(batch, channels, side, side, device=device_type, dtype=dtype, requires_grad=True)
            weight = torch.ones(channels, channels, 3, 3, device=device_type, dtype=dtype, requires_grad=True)
            seconds = min([_seconds(x, weight) for _ in range(4)][1:])
    except RuntimeError:  # no such convolution in this type here
        return 0.0
    return 3 * 2 * batch * channels**2 * 9 * side**2 / seconds / 1e9


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Seconds for one convolution and its gradients with respect to input and weight."""
    wait = _nothing if x.device.type == "cpu" else torch.accelerator.synchronize
    wait()
    started = time.perf_counter()
    out = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.autograd.grad(out, (x, weight), torch.ones_like(out))
    wait()
    return time.perf_counter() - started


def _nothing() -> None:
    """A CPU needs no synchronisation."""

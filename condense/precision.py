"""Which arithmetic a device is quick at, and how it is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are the quick ones on `device`.

    True for GPUs from Ampere on and for CPUs with AVX512-BF16 or AMX instructions; elsewhere bfloat16 works
    but is emulated, slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return _cpu_has_bf16()
    return False


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: "bf16" always, "auto" where `device` is quick at it, anything else never."""
    return precision == "bf16" or (precision == "auto" and fast_bf16(device))


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bf16 autocast on `device`, or nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def _cpu_has_bf16() -> bool:
    # AVX512-BF16 and AMX are x86 extensions; torch names the vector set it dispatches to "AVX512" there.
    x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return x86 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

"""Randomness as a function of (seed, purpose, numbers): what makes a resumed run equal an unbroken one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOST_SEEDS = 2**63
"""Seeds lie in [0, 2^63): what torch, numpy and HDF5 all take."""


def derive(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed for one purpose; the same on every machine."""
    text = ":".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by `derive`.

    On the CPU unless a `device` is given: the same numbers on every machine, at the price of a copy to
    the GPU per draw. A generator on another device gives other numbers, reproducible on that kind of device.
    """
    import torch

    return torch.Generator(device).manual_seed(derive(seed, purpose, *numbers))

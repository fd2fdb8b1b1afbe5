"""`dmis doctor`: capabilities of this machine, and the data sets found on it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from condense import __version__
from condense.commands.demo import minutes_here
from condense.data import cifar, fashion_mnist, sources
from condense.data.clean_sets import cache_folder
from condense.data.memory import available_bytes
from condense.json_values import JSON
from condense.machine import best_device, machine
from condense.precision import arithmetic, float32_settings, gflops

EXTRAS = {
    "noise": ("cleanlab",),
    "features": ("efficientnet_lite_pytorch", "timm"),
    "fid": ("torch_fidelity",),
    "slurm": ("submitit",),
    "parquet": ("pyarrow",),
}


def doctor() -> dict[str, JSON]:
    """Version, machine, speed of bfloat16 and float32, free memory, optional extras (bool), data sets (path or None).

    `demo_minutes`: predicted duration of `dmis demo` at the machine's present load. `gflops`: measured speed of a
    small convolution, forward and backward, in 10^9 operations per second.
    """
    device = best_device()
    chosen = arithmetic("auto", device)
    return {
        "dmis": __version__,
        **machine(),
        "bfloat16": {
            "fast": chosen.bf16,
            "decided": chosen.decided,
            "gflops": round(gflops(device.type, torch.bfloat16), 1),
        },
        "float32": {"gflops": round(gflops(device.type, torch.float32), 1), **float32_settings()},
        "demo_minutes": round(minutes_here(), 1),
        "free_memory_gib": round(available_bytes() / 2**30, 1),
        "extras": {
            extra: all(importlib.util.find_spec(name) is not None for name in modules)
            for extra, modules in EXTRAS.items()
        },
        "data": {name: _place(name) for name in sources.TABLE},
    }


def _place(name: str) -> str | None:
    """Path of a named data set on this machine, where its loader would find it, without reading it; None if absent."""
    if name == "digits":
        return "inside scikit-learn"
    cache = cache_folder()
    places: dict[str, list[Path]] = {
        "fashion-mnist": [fashion_mnist.DEBIAN_FOLDER, cache / "FashionMNIST" / "raw"],
        "cifar10": [cache / cifar.CIFAR10.binary_folder, cache / cifar.CIFAR10.pickle_folder],
        "cifar100": [cache / cifar.CIFAR100.binary_folder, cache / cifar.CIFAR100.pickle_folder],
        "imagenette": [*cache.glob("imagenette2*")],
    }
    return next((str(place) for place in places[name] if place.is_dir()), None)

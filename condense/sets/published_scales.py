"""Mean and standard deviation of each channel with which published code normalises a named data set.

Sets that come from that code were made for this normalisation, and sets that go to it are tested on images normalised
so. For CIFAR both programs divide by the mean of the images' own standard deviations (0.2023, …), not by that of all
pixels (0.2470, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from condense.preprocessing import Preprocessing

Scales = Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

VICO: Scales = MappingProxyType(
    {
        "mnist": ((0.1307,), (0.3081,)),
        "fashion-mnist": ((0.2861,), (0.3530,)),
        "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        "cifar10": _CIFAR10,
        "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    }
)
"""`get_dataset` of DatasetCondensation, https://github.com/VICO-UoE/DatasetCondensation, utils.py."""

DDRANKING: Scales = MappingProxyType(
    {
        "cifar10": _CIFAR10,
        "cifar100": _CIFAR10,
        "imagenette": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
)
"""`get_dataset` of DD-Ranking 0.2.0, https://github.com/NUS-HPC-AI-Lab/DD-Ranking, ddranking/utils/data.py."""


def published(scales: Scales, data_name: str) -> Preprocessing | None:
    """The normalisation of the named data set in `VICO` or `DDRANKING`; None for another data set."""
    return Preprocessing(*scales[data_name]) if data_name in scales else None

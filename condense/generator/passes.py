"""The batch size of a generator's passes: an estimate of what fits in memory, halved on running out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from condense.generator.denoiser import Denoiser
from condense.machine import free_device_bytes

CPU_ROWS = 200  # more do not fit a CPU's cache
MOST_ROWS = 4000  # more do not fill a GPU any better
SHARE = 0.6  # of the free memory that a pass may take, by the estimate
WORKING_MAPS = 10  # largest feature maps that a block holds at once: inputs, their norm, activation and cast, outputs


def bytes_per_row(denoiser: Denoiser, image_shape: tuple[int, int, int]) -> int:
    """An upper estimate of the memory one row of a pass without gradient takes, in float32.

    The encoder's outputs are kept for the decoder; a block of the widest level holds `WORKING_MAPS` maps of its size;
    output images are held four times.

    Args:
        denoiser: the denoiser.
        image_shape: (C, H, W).
    """
    shape, (channels, height, width) = denoiser.network.unet.shape, image_shape
    stride = shape.patch * 2 ** (len(shape.multipliers) - 1)
    area = math.ceil(height / stride) * math.ceil(width / stride) * (stride // shape.patch) ** 2
    levels = [m * shape.channels * area / 4**level for level, m in enumerate(shape.multipliers)]
    waiting = sum((shape.blocks + 1) * values for values in levels)
    images = (denoiser.num_classes + 1 if denoiser.one_pass else 1) * channels * height * width
    return int(4 * (waiting + WORKING_MAPS * max(levels) + 4 * images))


def rows_at_once(denoiser: Denoiser, image_shape: tuple[int, int, int], device: torch.device) -> int:
    """Rows of one pass without gradient that fit a CPU's cache or a GPU's free memory."""
    if device.type == "cpu":
        return CPU_ROWS
    free = free_device_bytes(device)
    if free is None:
        return MOST_ROWS
    return max(1, min(MOST_ROWS, int(SHARE * free / bytes_per_row(denoiser, image_shape))))


def in_parts(work: Callable[[slice], Tensor], count: int, at_once: int) -> list[Tensor]:
    """`work` on `count` items, `at_once` at a time; halved for the rest whenever memory runs out.

    Raises:
        torch.OutOfMemoryError: memory does not suffice for a single item.
    """
    parts, start = [], 0
    while start < count:
        stop = min(start + at_once, count)
        found = _tried(work, slice(start, stop), last=stop - start == 1)
        if found is None:
            at_once = max(1, (stop - start) // 2)
            torch.accelerator.memory.empty_cache()
            continue
        parts.append(found)
        start = stop
    return parts


def _tried(work: Callable[[slice], Tensor], part: slice, *, last: bool) -> Tensor | None:
    """The work's result, or None if memory ran out; the failed attempt holds no memory afterwards."""
    try:
        return work(part)
    except torch.OutOfMemoryError:
        if last:
            raise
        return None

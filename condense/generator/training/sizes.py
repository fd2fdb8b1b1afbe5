"""Whether a training fits in memory, told before anything is allocated."""

from __future__ import annotations

import torch

from condense.data.memory import available_bytes
from condense.data.types import ImageData
from condense.errors import UserError
from condense.generator.model import build_denoiser
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.passes import bytes_per_row
from condense.machine import best_device, free_device_bytes, num_processes

_COPIES = 5  # weights, gradients, Adam's two moments, the average


def least_bytes(network: NetworkOptions, options: TrainOptions, images: ImageData) -> int:
    """A lower estimate of the memory of training on one device, in bytes.

    The weights in `_COPIES`, and for each row of a step what a pass without gradient takes; with gradient a step of the
    shipped recipes takes three to seven times as much.
    """
    with torch.device("meta"):
        denoiser = build_denoiser(network, images.image_shape, images.num_classes, 0)
    weights = sum(weight.numel() * weight.element_size() for weight in denoiser.parameters())
    rows = options.batch_size // num_processes() * _rows_with_gradient(options, denoiser.one_pass, images.num_classes)
    return _COPIES * weights + rows * bytes_per_row(denoiser, images.image_shape)


def _rows_with_gradient(options: TrainOptions, one_pass: bool, num_classes: int) -> int:
    """Rows of a step with gradient for each image of the batch, at least."""
    drawn = options.form == "sampled" and options.classification_weight == 0
    if one_pass or options.objective in ("vanilla", "cad") or drawn:
        return 1
    return num_classes if options.top_k is None else min(options.top_k, num_classes)


def check_training_fits(
    network: NetworkOptions, options: TrainOptions, images: ImageData, name: str = "train", *, believed: bool = False
) -> None:
    """Raise `UserError` if the training needs more memory than is free, by `least_bytes`.

    Args:
        network: the network.
        options: its training.
        images: the training images.
        name: the section of the recipe that holds `options`, for the message.
        believed: whether labels are drawn from given beliefs, so that each image takes a single row.
    """
    device = best_device()
    free = free_device_bytes(device) if device.type != "cpu" else None
    free = available_bytes() if free is None else free
    needed = least_bytes(network, options.model_copy(update={"objective": "vanilla"}) if believed else options, images)
    if needed > free:
        raise UserError(
            f"Training with {name}.batch_size {options.batch_size} and network.channels {network.channels} needs at "
            f"least {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; lower {name}.batch_size, "
            "or choose a smaller network."
        )

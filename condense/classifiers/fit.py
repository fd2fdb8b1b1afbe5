"""The one training loop of classifiers: hard or soft targets, any network, resident data.

Teachers, experts and the downstream networks of `evaluate` are all trained here. The loop yields after every
epoch; showing progress, saving and stopping belong to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense import rng
from condense.errors import RunFailed, UserError

Augment = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FitOptions:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step; the last batch of an epoch may be smaller.
        optimizer: "sgd" with momentum, or "adamw".
        learning_rate: at the start.
        momentum: of SGD; AdamW ignores it.
        weight_decay: on all parameters.
        schedule: "step": a tenth of the learning rate after epochs // 2 + 1 epochs, momentum starting anew;
            "cosine": falling to 0 along half a cosine, epoch by epoch; "constant".
        bf16: forward and backward under bfloat16 autocast; weights, loss and updates stay float32.

    Raises:
        UserError: a number is out of range.
    """

    epochs: int
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["step", "cosine", "constant"] = "step"
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UserError(f"epochs {self.epochs} and batch size {self.batch_size} must be at least 1.")
        if self.learning_rate <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise UserError(
                f"learning rate {self.learning_rate} must be above 0, weight decay {self.weight_decay} not "
                f"below 0, and momentum {self.momentum} in [0, 1)."
            )


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch: its number, counted from 1, and the mean loss over its images."""

    epoch: int
    loss: float


def learning_rate(options: FitOptions, epoch: int) -> float:
    """The learning rate in `epoch`, counted from 1.

    "step" follows the public code of DC (Zhao et al. 2021): a tenth after epochs // 2 + 1 epochs. That code
    counts from 0 and runs one epoch more before the step and in all; here `epochs` is the true number.
    """
    if options.schedule == "step":
        return options.learning_rate * (0.1 if epoch > options.epochs // 2 + 1 else 1.0)
    if options.schedule == "cosine":
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / options.epochs))
    return options.learning_rate


def fit(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    options: FitOptions,
    *,
    seed: int,
    augment: Augment | None = None,
    loss: Loss = F.cross_entropy,
    device: torch.device | str = "cpu",
    optimizer: torch.optim.Optimizer | None = None,
    first_epoch: int = 1,
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after every epoch; drain the iterator to train to the end.

    The loss is the cross-entropy -Σ_y q_y log f_y with q the one-hot or soft target, averaged over the batch;
    for soft targets it is KL(q‖f) plus the constant entropy of q. Order of the images and augmentation in
    epoch e depend on (seed, e) only: on a CPU with a fixed number of threads equal calls give equal bits, and
    so does a run broken off after epoch e and continued with its network, its optimiser and `first_epoch` e + 1.

    Args:
        network: float [B, C, H, W] to logits [B, c]; moved to `device`.
        images: float32 [n, C, H, W], normalised; kept whole on `device`.
        targets: int64 [n], or float32 [n, c] with rows adding up to 1, or whatever else `loss` takes.
        options: see `FitOptions`.
        seed: of the order and the augmentation. The network's initial weights have their own.
        augment: applied to every batch, with a CPU generator.
        loss: float32 logits [B, c] and the batch's targets to their mean loss.
        device: where to train.
        optimizer: from `make_optimizer`, for callers that keep its state; made here when None.
        first_epoch: the number of the first epoch to run.

    Raises:
        RunFailed: the loss is no longer finite.
    """
    device = torch.device(device)
    # NCHW on purpose: on a CPU, group norm's backward pass is several times slower in channels_last.
    network.to(device).train()
    images, targets = images.to(device), targets.to(device)
    optimizer = make_optimizer(network, options) if optimizer is None else optimizer
    for epoch in range(first_epoch, options.epochs + 1):
        _set_learning_rate(optimizer, options, epoch)
        generator = rng.generator(seed, "fit", epoch)
        total = torch.zeros((), device=device)
        for batch in torch.split(torch.randperm(len(images), generator=generator), options.batch_size):
            batch = batch.to(device)
            x = images[batch] if augment is None else augment(images[batch], generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                logits = network(x)
            mean_loss = loss(logits.float(), targets[batch])
            optimizer.zero_grad(set_to_none=True)
            mean_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += mean_loss.detach() * len(batch)
        yield Epoch(epoch, _finite(float(total) / len(images), epoch, options))


def make_optimizer(network: nn.Module, options: FitOptions) -> torch.optim.Optimizer:
    """The optimiser `options` names, over all parameters of `network`."""
    if options.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )


def _set_learning_rate(optimizer: torch.optim.Optimizer, options: FitOptions, epoch: int) -> None:
    rate = learning_rate(options, epoch)
    if options.schedule == "step" and epoch > 1 and rate != learning_rate(options, epoch - 1):
        optimizer.state.clear()  # the DC protocol makes a new optimiser here: momentum starts from zero
    for group in optimizer.param_groups:
        group["lr"] = rate


def _finite(loss: float, epoch: int, options: FitOptions) -> float:
    if not math.isfinite(loss):
        raise RunFailed(
            f"the classifier's loss became {loss} in epoch {epoch}; lower the learning rate "
            f"(now {options.learning_rate:g}) or check the images for extreme values."
        )
    return loss


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, batch_size: int = 256, *, bf16: bool = False) -> Tensor:
    """Logits float32 [n, c] on the CPU, of normalised images float32 [n, C, H, W], in evaluation mode.

    Runs on the network's device; whether the network was training is restored. `bf16` as in `FitOptions`.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = [network(batch.to(device)).float().cpu() for batch in torch.split(images, batch_size)]
    network.train(was_training)
    return torch.cat(logits)

"""The one training loop of classifiers: hard or soft targets, any network, resident data.

Teachers, experts and the downstream networks of `evaluate` are all trained here. The loop yields after every
epoch; showing progress, saving and stopping belong to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers.batches import Augment as Augment
from condense.classifiers.batches import Batches, Mix
from condense.errors import RunFailed, UserError
from condense.preprocessing import NormalisedImages

Loss = Callable[[Tensor, Tensor], Tensor]

PART_BYTES = 100_000
"""On a CPU a batch passes in parts of at most this many bytes per channel of the images, 64 of 28x28 in bfloat16.

The feature maps of a whole batch do not fit the cache: 100 images of 28x28 take ConvNet-3
0.26 s in parts instead of 0.30 s (bfloat16), and 0.45 s instead of 0.60 s (float32), on one core.
"""


@dataclass(frozen=True)
class FitOptions:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step; the last batch of an epoch may be smaller.
        optimizer: "sgd" with momentum, or "adamw".
        learning_rate: initial learning rate.
        momentum: momentum of SGD; AdamW ignores it.
        weight_decay: weight decay on all parameters.
        schedule: "step": a tenth of the learning rate after epochs // 2 + 1 epochs, with momentum reset;
            "cosine": falling to 0 along half a cosine, epoch by epoch; "constant".
        bf16: forward and backward under bfloat16 autocast; weights, loss and updates stay float32.
        rate_name: the option that sets the learning rate, named in the message if the loss diverges.

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
    rate_name: str = field(default="the learning rate", compare=False)

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
    """The report of an epoch: its number, counted from 1, and the mean loss over its images."""

    epoch: int
    loss: float


def half_cosine(done: int, steps: int) -> float:
    """The share of a learning rate left after `done` of `steps` steps: 1 at first, 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * done / steps))


def learning_rate(options: FitOptions, epoch: int) -> float:
    """The learning rate in `epoch`, counted from 1.

    "step" follows the public code of DC (Zhao et al. 2021): a tenth after epochs // 2 + 1 epochs. That code
    counts from 0 and runs one epoch more before the step and in all; here `epochs` is the true number.
    """
    if options.schedule == "step":
        return options.learning_rate * (0.1 if epoch > options.epochs // 2 + 1 else 1.0)
    if options.schedule == "cosine":
        return options.learning_rate * half_cosine(epoch - 1, options.epochs)
    return options.learning_rate


@dataclass(frozen=True)
class Teaching:
    """How a batch is presented to a network, and the loss of its outputs.

    Attributes:
        augment: applied to every batch, with a CPU generator.
        mix: applied to every batch with its targets thereafter, as `condense.classifiers.mixing.cutmix`.
        loss: float32 logits [B, c] and the batch's targets to their mean loss.
        whole: whether `loss` needs the batch in one piece; batch norm always does.
    """

    augment: Augment | None = None
    mix: Mix | None = None
    loss: Loss = F.cross_entropy
    whole: bool = False


PLAIN = Teaching()
"""Batches as they are, and their cross-entropy."""


@dataclass(frozen=True)
class Sitting:
    """Where one session of a training begins.

    Attributes:
        optimizer: from `make_optimizer`, for callers that keep its state; made by `fit` when None.
        first_epoch: the number of the first epoch to run.
    """

    optimizer: torch.optim.Optimizer | None = None
    first_epoch: int = 1


def fit(
    network: nn.Module,
    images: Tensor | NormalisedImages,
    targets: Tensor,
    options: FitOptions,
    *,
    seed: int,
    teaching: Teaching = PLAIN,
    device: torch.device | str = "cpu",
    sitting: Sitting = Sitting(),
) -> Iterator[Epoch]:
    """Train `network` in place, yielding after every epoch; drain the iterator to train to the end.

    The loss is the cross-entropy -Σ_y q_y log f_y with q the one-hot or soft target, averaged over the batch;
    for soft targets it is KL(q‖f) plus the constant entropy of q. Order of the images and augmentation in
    epoch e depend on (seed, e) only: on a CPU with a fixed number of threads equal calls give equal bits, and
    so does a run broken off after epoch e and continued with its network, its optimiser and epoch e + 1.

    Args:
        network: float [B, C, H, W] to logits [B, c]; moved to `device`.
        images: normalised float32 [n, C, H, W], or pixels to be normalised as they are taken; kept whole on `device`.
        targets: int64 [n], or float32 [n, c] with rows adding up to 1, or whatever else the loss takes.
        options: see `FitOptions`.
        seed: seed of order and augmentation; the network's initial weights have their own.
        teaching: augmentation, mixing and loss.
        device: where to train.
        sitting: where to begin.

    Raises:
        UserError: one image for a network with batch norm.
        RunFailed: the loss is no longer finite.
    """
    # NCHW on purpose: on a CPU, group norm's backward pass is several times slower in channels_last.
    network.to(device).train()
    optimizer = sitting.optimizer or make_optimizer(network, options)

    def forward(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return [network(x) for x in inputs]

    batches = Batches(
        images.to(device), targets.to(device), options.batch_size, (seed,), teaching.augment, teaching.mix
    )
    whole = teaching.whole or has_batch_norm(network)
    if has_batch_norm(network) and len(images) == 1:
        raise UserError("Batch norm needs two images or more, found one; choose a network without -bn.")
    for (epoch,) in run_epochs(forward, batches, options, teaching.loss, optimizer, sitting.first_epoch, whole=whole):
        yield epoch


def run_epochs(
    forward: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    batches: Batches,
    options: FitOptions,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    first_epoch: int = 1,
    *,
    whole: bool,
) -> Iterator[tuple[Epoch, ...]]:
    """The loop itself, for one network or several at once: yields the reports of all networks after every epoch.

    Args:
        forward: inputs [B, C, H, W], one per network, to as many logits [B, c].
        batches: the training batches.
        options: training options; the batch size is that of `batches`.
        loss: as in `Teaching`.
        optimizer: over the parameters of all networks; each network's loss must depend only on its own.
        first_epoch: the number of the first epoch to run.
        whole: whether a batch must pass in one piece, as for batch norm.

    Raises:
        RunFailed: a loss is no longer finite.
    """
    device = batches.images.device
    for epoch in range(first_epoch, options.epochs + 1):
        _set_learning_rate(optimizer, options, epoch)
        totals = torch.zeros(len(batches.seeds), device=device)
        for inputs, targets in batches.of_epoch(epoch, at_least=2 if whole else 1):
            optimizer.zero_grad(set_to_none=True)
            count = len(inputs[0])
            length = count if whole else _part_length(inputs, PART_BYTES, bf16=options.bf16)
            for start in range(0, count, length):
                part = slice(start, start + length)
                with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                    logits = forward([x[part] for x in inputs])
                sums = torch.stack([loss(f.float(), y[part]) * len(f) for f, y in zip(logits, targets, strict=True)])
                (sums.sum() / count).backward()  # type: ignore[no-untyped-call]
                totals += sums.detach()
            optimizer.step()
        means = (totals / len(batches.images)).tolist()
        yield tuple(Epoch(epoch, _finite(mean, epoch, options)) for mean in means)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether the network's output for an image in training depends on the rest of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def _part_length(inputs: Sequence[Tensor | NormalisedImages], most_bytes: int, *, bf16: bool) -> int:
    """How many images pass through the networks together; parts are as equal as can be."""
    count, pixels = len(inputs[0]), math.prod(inputs[0].shape[2:])
    if inputs[0].device.type != "cpu":
        return count
    most = max(1, most_bytes // (len(inputs) * pixels * (2 if bf16 else 4)))
    return math.ceil(count / max(1, math.ceil(count / most)))


def make_optimizer(network: nn.Module, options: FitOptions) -> torch.optim.Optimizer:
    """The optimiser `options` names, over all parameters of `network`."""
    if options.optimizer == "adamw":
        return torch.optim.AdamW(
            network.parameters(), options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
    return torch.optim.SGD(
        network.parameters(),
        options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        fused=True,
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
            f"the classifier's loss became {loss} in epoch {epoch}; lower {options.rate_name} "
            f"(now {options.learning_rate:g}) or check the images for extreme values."
        )
    return loss


@torch.no_grad()
def predict(
    network: nn.Module, images: Tensor | NormalisedImages, batch_size: int = 256, *, bf16: bool = False
) -> Tensor:
    """Logits float32 [n, c] on the CPU, of images as `fit` takes them, in evaluation mode.

    Runs on the network's device; whether the network was training is restored. `bf16` as in `FitOptions`.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    if device.type == "cpu":  # without a backward pass, half as much is fastest
        batch_size = min(batch_size, max(1, _part_length([images], PART_BYTES // 2, bf16=bf16)))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        starts = range(0, max(1, len(images)), batch_size)
        logits = [network(images[start : start + batch_size].to(device)).float() for start in starts]
    network.train(was_training)
    return torch.cat(logits).cpu()

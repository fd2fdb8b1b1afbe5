"""Recovering images from a network: pixels it assigns to their class and whose statistics match its batch norm.

Source: Yin et al. (2023), SRe2L, https://arxiv.org/abs/2306.13092, Eq. 8-10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense import rng
from condense.classifiers.fit import half_cosine
from condense.classifiers.teacher import Teacher
from condense.data.types import Images
from condense.errors import RunFailed
from condense.json_values import section, whole
from condense.methods._statistics import watched_statistics
from condense.options import Options
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, METRIC_EVERY, Run, pack_optimizer, unpack_optimizer

CHECKPOINT = "checkpoint"
_JITTER_SHARE = 7  # a roll of at most a seventh of the side: 4 pixels at 28 and 32, 1 at 8


class RecoverOptions(Options):
    """How pixels are optimised."""

    iterations: int = Field(1000, ge=1, description="steps of Adam per image")
    learning_rate: float = Field(0.25, gt=0, description="initial learning rate of Adam; falls along a cosine")
    statistics_weight: float = Field(0.01, ge=0, description="weight of the distance between batch norm statistics")
    first_layer_weight: float = Field(10.0, ge=0, description="weight of the first batch norm layer in that distance")
    jitter: int = Field(4, ge=0, description="largest roll in pixels; at most a seventh of the side")
    joint: int = Field(100, ge=1, description="images optimised together, at least; they share their statistics")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")


@dataclass(frozen=True)
class RecoveryStep:
    """The report of a step: its number, from 1 over all groups, and the two parts of the loss."""

    step: int
    cross_entropy: float
    statistics: float


@dataclass(frozen=True)
class Recovered:
    """Recovered images and their cost.

    Attributes:
        images: uint8 [c * ipc, H, W, C] in class-major order.
        seconds: time taken, earlier sessions included.
        passes: images passed through the network.
    """

    images: Images
    seconds: float
    passes: int


class Recovery:
    """Images being recovered, group by group; each group holds equally many of every class.

    Batch statistics of a few images are too noisy to match: with 10 classes and ipc 1, one group still has `joint`
    images (100), of which the first of each class is kept.
    """

    def __init__(self, teacher: Teacher, ipc: int, options: RecoverOptions, seed: int) -> None:
        self.teacher, self.ipc, self.options, self.seed = teacher, ipc, options, seed
        num_classes = len(teacher.classes)
        self.per_class = math.ceil(options.joint / num_classes)
        self.groups = math.ceil(ipc / self.per_class)
        self.labels = torch.arange(num_classes, device=teacher.device).repeat_interleave(self.per_class)
        self.made: list[Tensor] = []
        self.step = 0
        pixel = torch.zeros(1, teacher.image_shape[0], 1, 1, device=teacher.device)
        self.black, self.white = (teacher.preprocessing.normalise(pixel + value) for value in (0.0, 1.0))
        self._begin_group()

    @property
    def total(self) -> int:
        """Steps of all groups."""
        return self.groups * self.options.iterations

    def steps(self) -> Iterator[RecoveryStep]:
        """Run to the end, yielding after every step."""
        with watched_statistics(self.teacher.network, self.options.first_layer_weight) as distance:
            while self.step < self.total:
                iteration = self.step % self.options.iterations
                for group in self.optimizer.param_groups:
                    group["lr"] = self.options.learning_rate * half_cosine(iteration, self.options.iterations)
                logits = self.teacher.network(self.jittered())
                cross_entropy, statistics = F.cross_entropy(logits, self.labels), distance()
                self.optimizer.zero_grad(set_to_none=True)
                (cross_entropy + self.options.statistics_weight * statistics).backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                with torch.no_grad():
                    self.x.copy_(self.x.clamp(self.black, self.white))
                self.step += 1
                if self.step % self.options.iterations == 0:
                    self.made.append(self.x.detach().cpu())
                    self._begin_group()
                yield RecoveryStep(self.step, float(cross_entropy.detach()), float(statistics.detach()))

    def images(self) -> Images:
        """The recovered images, `ipc` per class in class-major order: uint8 [c * ipc, H, W, C]."""
        groups = [made.reshape(-1, self.per_class, *self.teacher.image_shape) for made in self.made]
        x = torch.cat(groups, dim=1)[:, : self.ipc].flatten(0, 1)  # from [c, groups * per_class, C, H, W]
        pixels = (self.teacher.preprocessing.denormalise(x) * 255).round().clamp(0, 255)
        return np.asarray(pixels.permute(0, 2, 3, 1).to(torch.uint8).numpy())

    def state(self) -> State:
        """Everything needed to resume."""
        tensors, optimizer = pack_optimizer(self.optimizer.state_dict())
        tensors |= {f"made.{index}": made for index, made in enumerate(self.made)}
        return {**tensors, "x": self.x.detach()}, {"step": self.step, "optimizer": optimizer}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state`."""
        self.step = whole(meta, "step")
        self.made = [tensors[f"made.{index}"] for index in range(self.step // self.options.iterations)]
        self._begin_group()
        with torch.no_grad():
            self.x.copy_(tensors["x"])
        self.optimizer.load_state_dict(unpack_optimizer(tensors, section(meta, "optimizer")))
        return self.step

    def _begin_group(self) -> None:
        generator = rng.generator(self.seed, "recover", len(self.made))
        x = torch.randn(len(self.labels), *self.teacher.image_shape, generator=generator)
        self.x = x.to(self.teacher.device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.x], self.options.learning_rate, betas=(0.5, 0.9))

    def jittered(self) -> Tensor:
        largest = min(self.options.jitter, self.x.shape[2] // _JITTER_SHARE)
        by = torch.randint(largest + 1, (2,), generator=rng.generator(self.seed, "jitter", self.step))
        return self.x.roll(by.tolist(), (2, 3))


def recovering(options: RecoverOptions, ipc: int, num_classes: int) -> int:
    """Images that will pass through the network to recover `ipc` per class, see `Recovery`."""
    per_class = math.ceil(options.joint / num_classes)
    return math.ceil(ipc / per_class) * options.iterations * per_class * num_classes


def recover(
    teacher: Teacher, ipc: int, options: RecoverOptions, seed: int, run: Run, identity: Mapping[str, JSON]
) -> Recovered:
    """Recover `ipc` images per class, continuing the run folder's checkpoint if there is one.

    Args:
        teacher: a network with batch norm.
        ipc: images per class.
        options: see `RecoverOptions`.
        seed: seed of the initial pixels and the jitter.
        run: its folder keeps the state; on Ctrl-C it is saved first.
        identity: what a checkpoint must have in common with this run.

    Raises:
        RunFailed: the loss is no longer finite; the last checkpoint stays.
        Interrupted: stopped after saving; the same call resumes.
        UserError: the checkpoint is of another run.
    """
    recovery = Recovery(teacher, ipc, options, seed)
    loop = Loop(run, LoopPlan("recover", recovery.total, options.checkpoint_every, METRIC_EVERY))
    loop.resume(CHECKPOINT, recovery, identity, "checkpoint in this run folder")
    loop.finish(_told(step, options) for step in recovery.steps())
    return Recovered(recovery.images(), loop.seconds, recovery.total * len(recovery.labels))


def _told(step: RecoveryStep, options: RecoverOptions) -> Step:
    _check_finite(step, options)
    losses = {"cross_entropy": step.cross_entropy, "statistics": step.statistics}
    return Step(step.step, losses, {"step": step.step, **losses})


def _check_finite(step: RecoveryStep, options: RecoverOptions) -> None:
    loss = step.cross_entropy + step.statistics
    if math.isfinite(loss):
        return
    if (step.step - 1) % options.iterations == 0:  # the images are still unchanged
        raise RunFailed(
            f"The teacher's loss on the initial noise is {loss}, so its training has diverged; lower "
            "teacher.learning_rate and start over with --force."
        )
    raise RunFailed(
        f"recovering: the loss became {loss} in step {step.step}; lower recover.learning_rate (now "
        f"{options.learning_rate:g}) and start over with --force."
    )

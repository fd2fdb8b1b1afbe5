"""Matching trajectories: one step of MTT on the learned images and the students' learning rate.

Source: Cazenavette et al. (2022), Algorithm 1, https://arxiv.org/abs/2203.11932.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from condense import augment, rng
from condense.data.batches import EpochBatches
from condense.errors import RunFailed
from condense.json_values import listed, numbers
from condense.methods._experts import Snapshots
from condense.methods._learn import MOMENTUM, Synthetic
from condense.methods._pixels import RealImages
from condense.methods._unroll import Batch, Parameters, match_trajectory
from condense.run import JSON


@dataclass(frozen=True)
class TrajectoryLengths:
    """Settings that depend on ipc; the names are those of `Options`."""

    student_steps: int
    expert_gap: int
    start_epochs: int
    lr_img: float
    lr_lr: float
    lr_init: float
    zca: bool


@dataclass(frozen=True)
class Students:
    """The networks that train on the learned images.

    Attributes:
        backbone: the network's name.
        row: how long they train, and at which rates.
        batch_size: learned images per step.
        strategy: the augmentation of their batches, its parameters drawn for each image; None for none.
    """

    backbone: str
    row: TrajectoryLengths
    batch_size: int
    strategy: str | None


class TrajectoryMatching:
    """One step: train a student from a random snapshot, then step on the images and on the student's learning rate.

    Args:
        reals: the training images, for the shape of the network.
        synthetic: the learned images.
        snapshots: of the experts.
        experts: number of experts.
        students: the students' training.
        seed: expert, epoch, batches and augmentation depend on (seed, step).

    Attributes:
        rate: the student's learning rate, a scalar.
        rates: [step, lr_img, lr_lr] from the step at which they applied; several entries after resuming with others.
    """

    def __init__(
        self,
        reals: RealImages,
        synthetic: Synthetic,
        snapshots: Snapshots,
        experts: int,
        students: Students,
        seed: int,
    ) -> None:
        self.synthetic, self.snapshots, self.experts, self.seed = synthetic, snapshots, experts, seed
        self.row, self.batch_size, self.strategy = students.row, students.batch_size, students.strategy
        self.network = reals.network(students.backbone, 0)  # its parameters are never used
        self.rate = torch.tensor(self.row.lr_init, device=reals.device)
        self.velocity = torch.zeros_like(self.rate)
        self.rates: list[list[float]] = [[0, self.row.lr_img, self.row.lr_lr]]

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the normalised distance to the expert as "loss", and the student's new "rate"."""
        start, target = self.ends(step)
        batch, steps = self.batches(step), self.row.student_steps
        matched = match_trajectory(self.network, start, target, self.synthetic.images, self.rate, batch, steps)
        velocity = MOMENTUM * self.velocity + matched.rate
        rate = self.rate - self.row.lr_lr * velocity
        loss, told = torch.stack([matched.loss, rate]).tolist()
        self._check(loss, told, step)
        self.rate, self.velocity = rate, velocity
        self.synthetic.images.grad = matched.images
        self.synthetic.update()
        # Once forwards, and all but the last once more in the backward sweep.
        self.synthetic.count(0, (2 * steps - 1) * self.batch_size)
        return {"loss": loss, "rate": told}

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The student's learning rate with its momentum; the learning rates used so far."""
        return {"rate": self.rate, "velocity": self.velocity}, {"rates": self.rates}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], step: int) -> None:
        """Continue from `state`, with the learning rates of the current options."""
        device, now = self.rate.device, self.rates[-1]
        self.rate, self.velocity = tensors["rate"].to(device), tensors["velocity"].to(device)
        kept = (numbers({"rates": entry}, "rates") for entry in listed(meta, "rates"))
        self.rates = [[int(begin), *rates] for begin, *rates in kept]
        if self.rates[-1][1:] != now[1:]:
            self.rates.append([step, *now[1:]])

    def ends(self, step: int) -> tuple[Parameters, Parameters]:
        """Parameters of a random expert at a random epoch, and `expert_gap` epochs later."""
        generator, device = rng.generator(self.seed, "expert and epoch", step), self.rate.device
        expert = int(torch.randint(self.experts, (), generator=generator))
        epoch = int(torch.randint(self.row.start_epochs, (), generator=generator))
        target = self.snapshots.parameters(expert, epoch + self.row.expert_gap, device)
        return self.snapshots.parameters(expert, epoch, device), target

    def batches(self, step: int) -> Batch:
        """The batches of a student; orders and parameters are copied to the device at once."""
        order = EpochBatches(len(self.synthetic.images), self.batch_size, rng.derive(self.seed, "student", step))
        steps, device = range(self.row.student_steps), self.synthetic.images.device
        orders = torch.stack([order[n] for n in steps]).to(device)
        changes: list[augment.Drawn] | list[None] = [None] * len(steps)
        if self.strategy is not None:
            sources = (rng.generator(self.seed, "student augmentation", step, n) for n in steps)
            drawn = [augment.draw(self.strategy, self.batch_size, source) for source in sources]
            changes = augment.moved(drawn, device)

        def batch(images: Tensor, n: int) -> tuple[Tensor, Tensor]:
            x, change = images[orders[n]], changes[n]
            return (x if change is None else change(x)), self.synthetic.labels[orders[n]]

        return batch

    def _check(self, loss: float, rate: float, step: int) -> None:
        if not math.isfinite(loss):
            raise RunFailed(f"The student diverged in step {step} (loss {loss}); lower lr_img or lr_lr.")
        if not (math.isfinite(rate) and rate > 0):
            raise RunFailed(
                f"The student's learned rate would go from {float(self.rate):.3g} to {rate:.3g} in step {step}, at "
                f"which no network can be trained; lower lr_lr (now {self.row.lr_lr:g}) or lr_img "
                f"(now {self.row.lr_img:g})."
            )

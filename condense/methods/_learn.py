"""The loop of methods that learn images: progress, checkpoints, resuming, Ctrl-C and cost.

Shared by `dc`, `dsa`, `dm`, `datadam`, `mtt`, `frepo` and `idc`; each brings a `StepwiseMethod`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator
from torch import Tensor

from condense.classifiers import networks
from condense.data.types import TrainingSet
from condense.errors import RunFailed, UserError
from condense.json_values import section, whole
from condense.options import Options
from condense.packing import MOST, check_pack, unpack
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, METRIC_EVERY, Run, pack_optimizer, part_of, peak_memory_bytes, unpack_optimizer
from condense.sets.condensed_set import Cost, Floats

CHECKPOINT = "checkpoint"
_MOST_PIXEL = 1e4
MOMENTUM = 0.5  # of every update of the images, in all four papers' code


class LearnOptions(Options):
    """Options of every method that learns images."""

    FREE: ClassVar[frozenset[str]] = frozenset({"iterations", "checkpoint_every"})
    """Options that may change when a run is resumed, since none of its steps so far depends on them."""

    backbone: str = Field(
        "convnet3", description="the network to condense with, e.g. convnet3, resnet18; -bn for batch norm"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="precision of passes over real images (frepo: all); auto is bf16 if that is fast on the device",
    )
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")

    @field_validator("backbone")
    @classmethod
    def _backbone_exists(cls, name: str) -> str:
        networks.check_name(name)
        return name


class PackedOptions(LearnOptions):
    """Options of methods whose learned images may hold several pictures each, see `condense.packing`."""

    pack: int = Field(
        1,
        ge=1,
        le=MOST,
        description="pictures of its class along a side of a learned image; networks see them one by one, enlarged",
    )


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned.

    Attributes:
        pixels: float32 [c * ipc, H, W, C], 0 black, 1 white.
        cost: its cost.
        notes: for the record.
        soft_labels: probabilities float32 [c * ipc, c] if labels were learned too.
    """

    pixels: Floats
    cost: Cost
    notes: dict[str, JSON]
    soft_labels: Floats | None = None


class Diverged(RunFailed):
    """The learning rate must be lowered, and a run cannot resume with another one."""


class Synthetic:
    """The learned images with their optimiser and the cost so far.

    Args:
        initial: initial images, float32 [c * ipc, C, H, W], normalised, class-major.
        ipc: images per class.
        learning_rate: learning rate of the images.
        optimizer: SGD with momentum 0.5, or Adam.
        pack: pictures along a side of an image; not for whitened images, see `condense.packing.unpack`.

    Attributes:
        images: float32 [c * ipc, C, H, W], normalised, class-major; a leaf that accumulates gradients.
        labels: those of `pictures`, int64 [c * ipc * pack²].
        images_seen: training images shown to a network so far.
        evaluations: images passed through any network so far, forward passes counted.

    Raises:
        UserError: the images cannot be divided into so many pictures.
    """

    def __init__(
        self,
        initial: Tensor,
        ipc: int,
        learning_rate: float,
        *,
        optimizer: Literal["sgd", "adam"] = "sgd",
        pack: int = 1,
    ) -> None:
        check_pack(pack, *initial.shape[2:])
        self.images = initial.detach().clone().requires_grad_()
        self.ipc, self.pack = ipc, pack
        self.labels = torch.arange(len(initial) // ipc, device=initial.device).repeat_interleave(ipc * pack**2)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam([self.images], lr=learning_rate)
            if optimizer == "adam"
            else torch.optim.SGD([self.images], lr=learning_rate, momentum=MOMENTUM)
        )
        self.images_seen = self.evaluations = 0

    def pictures(self) -> Tensor:
        """What networks see: [c * ipc * pack², C, H, W]; gradients pass to the images."""
        return unpack(self.images, self.pack)

    def of_class(self, y: int) -> Tensor:
        """The pictures of class `y` [ipc * pack², C, H, W]; gradients pass to the images."""
        return unpack(self.images[y * self.ipc : (y + 1) * self.ipc], self.pack)

    def usable(self) -> bool:
        """Whether the images are finite and in bounds; normalised pixels lie within about ±3."""
        return bool((self.images.detach().abs() < _MOST_PIXEL).all())

    def update(self) -> None:
        """One step along the accumulated gradients, which are then cleared."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def count(self, real: int, learned: int) -> None:
        """Count `real` training images and `learned` learned ones passed through a network."""
        self.images_seen += real
        self.evaluations += real + learned


class StepwiseMethod(Protocol):
    """A method's step and the state it keeps."""

    def step(self, step: int) -> dict[str, float]:
        """Do step number `step`, counted from 0; returns "loss" and other values to show.

        Raises:
            RunFailed: the step is impossible; the images and the task's state are unchanged.
        """
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The state between steps besides the images: tensors and JSON."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], step: int) -> None:
        """Continue from the `state()` after `step` steps."""
        ...


def identity(
    train: TrainingSet, ipc: int, options: LearnOptions, seed: int, method: str, start: Tensor | None = None
) -> dict[str, JSON]:
    """What a checkpoint must match to be resumed; with the images it starts from, the beliefs of `train` too."""
    told: dict[str, JSON] = {
        "method": method,
        "ipc": ipc,
        "seed": seed,
        "options": options.model_dump(mode="json", exclude=set(options.FREE)),
        **train.identity(),
    }
    if start is not None:
        told |= {"beliefs": sha256_of(train.believed()), "start": sha256_of(start.cpu().numpy())}
    return told


class Learning:
    """The steps of one run, from the checkpoint in its folder if there is one.

    Args:
        run: its folder.
        whose: see `identity`.
        synthetic: the images before the first step.
        task: the method's step.
        steps: total number of steps.
        checkpoint_every: steps between checkpoints.

    Attributes:
        fresh: whether there was no checkpoint.

    Raises:
        UserError: the checkpoint is of another run, or goes beyond `steps`.
    """

    def __init__(
        self,
        run: Run,
        whose: Mapping[str, JSON],
        synthetic: Synthetic,
        task: StepwiseMethod,
        *,
        steps: int,
        checkpoint_every: int,
    ) -> None:
        self.run, self.synthetic, self.task, self.steps = run, synthetic, task, steps
        self._peak = 0
        self._loop = Loop(run, LoopPlan("learning images", steps, checkpoint_every, METRIC_EVERY))
        self.fresh = not self._loop.resume(CHECKPOINT, self, whose)
        self._saved = self._loop.done
        if self.fresh:
            self._loop.save()

    def finish(self) -> None:
        """Do all remaining steps.

        Raises:
            Interrupted: stopped by Ctrl-C after saving; the same call resumes.
            RunFailed: a step was impossible; the state before it is saved.
        """
        self._loop.finish(self._to_the_end())

    def cost(self) -> Cost:
        """The cost of the steps, in all sessions."""
        return Cost(
            seconds=self._loop.seconds,
            network_evaluations=self.synthetic.evaluations,
            peak_memory_bytes=max(self._peak, peak_memory_bytes()),
            images_seen=self.synthetic.images_seen,
        )

    def _to_the_end(self) -> Iterator[Step]:
        for done in range(self._loop.done, self.steps):
            shown = self._one_step(done)
            yield Step(done + 1, shown, {"step": done + 1, **shown})

    def _one_step(self, done: int) -> dict[str, float]:
        try:
            return self.task.step(done)
        except Diverged:
            raise
        except RunFailed as error:
            if self.synthetic.usable():  # otherwise the earlier checkpoint stays, which can be resumed
                self._loop.save()
            if self.run.path is None:
                raise
            raise RunFailed(f"{error} {self.run.kept(f'The {self._saved} steps before it are')}") from error

    def state(self) -> State:
        """Images, their optimiser, the task's state, and the number of steps done."""
        self._saved = self._loop.done
        tensors, meta = self.task.state()
        momentum, packed = pack_optimizer(self.synthetic.optimizer.state_dict())
        return (
            {"images": self.synthetic.images, **momentum, **{f"task.{name}": value for name, value in tensors.items()}},
            {
                "step": self._loop.done,
                "images_seen": self.synthetic.images_seen,
                "evaluations": self.synthetic.evaluations,
                "peak_memory_bytes": max(self._peak, peak_memory_bytes()),
                "optimizer": packed,
                "task": meta,
            },
        )

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state`. Raises `UserError` if it is beyond `steps`, or has diverged."""
        done = whole(meta, "step")
        if done > self.steps:
            raise UserError(
                f"The checkpoint is at step {done}, beyond the {self.steps} requested; raise iterations or start over."
            )
        synthetic, optimizer = self.synthetic, self.synthetic.optimizer
        rate = optimizer.param_groups[0]["lr"]
        with torch.no_grad():
            synthetic.images.copy_(tensors["images"])
        if not synthetic.usable():
            raise UserError("The checkpoint's images have diverged; start over with --force and a lower lr_img.")
        optimizer.load_state_dict(unpack_optimizer(tensors, section(meta, "optimizer")))
        optimizer.param_groups[0]["lr"] = rate  # may have been changed for the remaining steps, if that is allowed
        synthetic.images_seen, synthetic.evaluations = whole(meta, "images_seen"), whole(meta, "evaluations")
        self._peak = whole(meta, "peak_memory_bytes")
        self.task.restore(part_of(tensors, "task"), section(meta, "task"), done)
        return done


def sha256_of(array: npt.NDArray[np.generic]) -> str:
    """SHA-256 of the bytes of an array, by which a checkpoint recognises it."""
    return sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

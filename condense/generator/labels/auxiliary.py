"""Helper networks, trained before the generator: one short resumable loop for all of them.

The weights kept have the lowest loss on the imprecise labels of the held-out images; clean labels are never used.
Under torchrun the main process trains it, one small network, and the others wait for its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from condense.classifiers.fit import half_cosine
from condense.data.batches import EpochBatches, UnitImages
from condense.data.memory import check_fits
from condense.data.splits import held_out
from condense.data.types import Mask, TrainingSet
from condense.errors import RunFailed
from condense.generator.options import TrainOptions
from condense.generator.selection import BestWeights
from condense.json_values import section, whole
from condense.processes import Agree, shared
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, Run, pack_optimizer, part_of, unpack_optimizer

HELD_PART = 256  # held-out images in one pass


class HelperData:
    """A helper's training images, split like the generator's.

    Attributes:
        images: all images, on the device.
        candidates, trusted: the supervision, bool [n, c] and [n].
        has_sets: whether there are untrusted sets of several candidates.
        held: indices of the held-out images, int64.
    """

    def __init__(
        self, data: TrainingSet, used: Mask, options: TrainOptions, seed: int, device: torch.device | str
    ) -> None:
        batch = options.helper.batch_size
        batch_bytes = 4 * batch * math.prod(data.images.image_shape)
        check_fits(batch_bytes, f"A step with train.helper.batch_size {batch}", "lower it")
        train, held = held_out(data.supervision, options.held_out, seed)
        self._train = torch.from_numpy(train[used[train]])
        self.held = torch.from_numpy(held[used[held]]).to(device)
        self.images = UnitImages(data.images, device)
        self.candidates = torch.from_numpy(data.supervision.candidates).to(device)
        self.trusted = torch.from_numpy(data.supervision.trusted).to(device)
        self.has_sets = bool((~data.supervision.trusted & ~data.supervision.single).any())
        self._batches = EpochBatches(len(self._train), options.helper.batch_size, seed)

    def batch(self, step: int) -> Tensor:
        """Indices of the training images of one step, int64 [B]."""
        return self._train[self._batches[step]].to(self.candidates.device)

    def held_mean(self, loss: Callable[[Tensor], Tensor], looks: int = 1) -> float:
        """Mean over the held-out images, each taken `looks` times, of a loss that averages over given indices.

        They pass through the network in parts, so that memory does not grow with them.
        """
        held = self.held.repeat(looks)
        parts = held.chunk(-(-len(held) // HELD_PART))
        return sum(float(loss(part)) * len(part) for part in parts) / len(held)


@dataclass(frozen=True)
class Helper:
    """A helper as `train_helper` takes it.

    Attributes:
        name: name of its file in the run folder and of its progress bar.
        module: the module trained in place.
        optimizer: of the module's parameters; its learning rates fall along half a cosine.
        loss: the loss of a step, a function of the step alone.
        held_out_loss: negative log likelihood of the held-out labels, in nats; None without held-out images.
        identity: everything it depends on; a file with another identity is refused.
    """

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[int], Tensor]
    held_out_loss: Callable[[], float] | None
    identity: Mapping[str, JSON]

    @property
    def counter(self) -> str:
        """The key of its steps in the metrics."""
        return f"{self.name}_step"


def identity(data: TrainingSet, options: TrainOptions, seed: int, **more: JSON) -> dict[str, JSON]:
    """Everything that any helper depends on, and `more`."""
    return {
        "options": options.helper.model_dump(mode="json"),
        "steps": num_steps(options),
        "held_out": options.held_out,
        "seed": seed,
        **data.identity(),
        **more,
    }


def num_steps(options: TrainOptions) -> int:
    """Optimiser steps of a helper."""
    return options.helper.steps or options.steps


def train_helper(helper: Helper, options: TrainOptions, run: Run) -> float:
    """Train to the last step, load the best weights, leave the module in eval mode without gradient.

    The state is saved at every evaluation of the held-out loss; the same call resumes there, bit for bit, and loads a
    finished helper.

    Returns:
        Seconds of training, in all sessions.

    Raises:
        Interrupted: stopped by Ctrl-C after the state was saved.
        RunFailed: the loss is no longer finite.
        UserError: the folder's file is of another run.
    """
    [(seconds, weights)] = shared([helper], lambda each, agree: _trained(each, options, run, agree), run)
    helper.module.load_state_dict(weights)
    helper.module.eval().requires_grad_(False)
    return seconds


def _trained(helper: Helper, options: TrainOptions, run: Run, agree: Agree) -> tuple[float, dict[str, Tensor]]:
    """Seconds, and the best weights, on the CPU; `agree` as in `shared`."""
    training, steps = _HelperTraining(helper, options), num_steps(options)
    plan = LoopPlan(
        helper.name,
        steps,
        options.helper.look_every,
        counter=helper.counter,
        place=lambda done: f"at step {done} of {steps} of {helper.name}",
        by_one=True,
    )
    loop = Loop(run, plan)
    loop.resume(helper.name, training, helper.identity, f"{helper.name} in this run folder")
    loop.finish(training.steps(), agree)
    weights = training.best.weights or helper.module.state_dict()
    return loop.seconds, {name: weight.cpu() for name, weight in weights.items()}


class _HelperTraining:
    """A helper in training: its step and the best weights so far."""

    def __init__(self, helper: Helper, options: TrainOptions) -> None:
        self.helper, self.options, self.step, self.best = helper, options, 0, BestWeights()
        self.rates = [float(group["lr"]) for group in helper.optimizer.param_groups]  # initial ones, before `restore`

    def steps(self) -> Iterator[Step]:
        """Train the remaining steps, evaluating the held-out loss at intervals."""
        helper, last = self.helper, num_steps(self.options)
        while self.step < last:
            for group, rate in zip(helper.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * half_cosine(self.step, last)
            loss = _one_step(helper, self.step)
            self.step += 1
            looks = self.step % self.options.helper.look_every == 0 or self.step == last
            yield Step(self.step, {"loss": loss}, self._look() if looks else {})

    @torch.no_grad()
    def _look(self) -> dict[str, float]:
        helper = self.helper
        if helper.held_out_loss is None:
            return {}
        helper.module.eval()
        loss = helper.held_out_loss()
        self.best.offer(loss, self.step, helper.module.state_dict())
        return {helper.counter: self.step, "held_out_loss": loss}

    def state(self) -> State:
        """Weights, optimiser and the best weights."""
        helper, best = self.helper, self.best
        optimizer, optimizer_meta = pack_optimizer(helper.optimizer.state_dict())
        tensors = {f"module.{k}": v for k, v in helper.module.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer.items()}
        tensors |= {f"best.{k}": v for k, v in best.weights.items()}
        return tensors, {"step": self.step, "best": best.to_json(), "optimizer": optimizer_meta}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state`."""
        helper, part = self.helper, partial(part_of, tensors)
        helper.module.load_state_dict(part("module"))
        helper.optimizer.load_state_dict(unpack_optimizer(part("optimizer"), section(meta, "optimizer")))
        if part("best"):
            self.best.restore(part("best"), section(meta, "best"))
        self.step = whole(meta, "step")
        return self.step


def _one_step(helper: Helper, step: int) -> float:
    helper.module.train()
    loss = helper.loss(step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RunFailed(f"The loss of {helper.name} became {value} at step {step}; lower train.helper.learning_rate.")
    helper.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    helper.optimizer.step()
    return value

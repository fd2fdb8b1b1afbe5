"""The training of a labeller's network: epochs over the images, resumable between any two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.optim.swa_utils import update_bn

from condense import rng
from condense.classifiers.whitened import Whitened, parameter_groups
from condense.data.types import Labels, TrainingSet
from condense.errors import RunFailed
from condense.generator.labels.fold_networks import NAME, normalised
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.posterior import label_likelihood
from condense.generator.losses import forward_loss
from condense.precision import autocast, wants_bf16
from condense.preprocessing import NormalisedImages, Preprocessing
from condense.resumable import State, Step
from condense.run import pack_optimizer, part_of, unpack_optimizer

_EPOCHS, _MOST_EPOCHS, _STEPS = 8, 20, 400
_BIAS_RATE, _MOMENTUM, _DECAY = 64.0, 0.85, 1e-3
_COUNTED, _AT_ONCE = 5000, 500  # images from which the statistics of batch norms are taken, and at once
_WARM, _LAST = 0.2, 0.07  # share of the steps with warm-up; final share of the learning rate


@dataclass(frozen=True)
class Budget:
    """The length of training: epochs, images per step, steps per epoch."""

    epochs: int
    batch: int
    steps: int

    @property
    def images(self) -> int:
        """Images that pass through it."""
        return self.epochs * self.batch * self.steps


def budget(labelled: int, options: LabellerOptions) -> Budget:
    """The budget for a number of labelled images."""
    batch = min(max(2, min(options.batch_size, labelled // 16)), labelled)
    steps = labelled // batch
    return Budget(options.epochs or min(max(_EPOCHS, math.ceil(_STEPS / steps)), _MOST_EPOCHS), batch, steps)


class Training:
    """A network trained on some of the images.

    Args:
        train: images and labels. Where it has beliefs, the network learns from these alone.
        own: indices of the images to train on, at least two, all with labels or beliefs.
        transition: T [c, c], rows = true class; None takes labels at their word, and the network learns p(z | x).
        options: the budget and the network.
        preprocessing: preprocessing of the images.
        seed: seed of weights, batches and shifts.
        device: device to train on.
    """

    def __init__(
        self,
        train: TrainingSet,
        own: Labels,
        transition: Tensor | None,
        options: LabellerOptions,
        preprocessing: Preprocessing,
        seed: int,
        device: torch.device,
    ) -> None:
        self.seed, self.device, self.may_flip = seed, device, train.images.may_flip
        self.budget = budget(len(own), options)
        self.own = torch.from_numpy(own)
        self.images = NormalisedImages(train.images.images, preprocessing, device)
        self.candidates = torch.from_numpy(train.supervision.candidates).to(device)
        self.trusted = torch.from_numpy(train.supervision.trusted).to(device)
        self.beliefs = None if train.beliefs is None else torch.from_numpy(train.beliefs).to(device)
        self.has_sets = bool((train.supervision.doubtful & ~train.supervision.single).any())
        channels, side, _ = train.images.image_shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.derive(seed, NAME))
            network = Whitened(channels, side, train.images.num_classes, options.width)
        first = train.images.images[self.own[order_of(seed, -1, len(self.own))[:5000]].numpy()]
        network.whiten(normalised(first, preprocessing, torch.device("cpu")))
        self.network = network.to(device)
        self.network.to(memory_format=torch.channels_last)  # on a CPU too: 2.9 against 4.0 ms per image
        self.transition = None if transition is None else transition.to(device)
        rate = options.learning_rate * self.budget.batch / 256
        groups = parameter_groups(self.network, rate, _DECAY, _BIAS_RATE)
        self.sgd = torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True)
        self.rates = [float(group["lr"]) for group in self.sgd.param_groups]
        self.shift = max(1, round(side / 16))
        self.done = 0

    def passes(self, counter: str) -> Iterator[Step]:
        """Train the remaining epochs; their metrics are numbered by `counter`."""
        while self.done < self.budget.epochs:
            loss = self._one_pass(self.done)
            self.done += 1
            yield Step(self.done, {"loss": loss}, {counter: self.done, "loss": loss})

    def finished(self) -> Whitened:
        """The network, to judge with: its batch norms have the statistics of unshifted images.

        Those kept in training are of the last few batches, each shifted in one direction, and can be far off: one
        network had 92 % right with the statistics of the images it judged and 78 % with its own.
        """
        chosen = self.own[order_of(self.seed, -1, len(self.own))[:_COUNTED]].to(self.device)
        parts = chosen.tensor_split(-(-len(chosen) // _AT_ONCE))  # alike, since each counts the same
        batches = (self.images[part].contiguous(memory_format=torch.channels_last) for part in parts)
        with autocast(self.device, wants_bf16("auto", self.device)):
            update_bn(batches, self.network)
        return self.network.eval().requires_grad_(False)

    def _one_pass(self, number: int) -> float:
        self.network.train()
        losses: list[Tensor] = []
        batch = self.budget.batch
        order, first = order_of(self.seed, number, len(self.own)), order_of(self.seed, -1, len(self.own))
        for step in range(self.budget.steps):
            self._set_rates(number * self.budget.steps + step)
            chosen = order[step * batch : (step + 1) * batch]
            # each image is mirrored in every second pass, half of them in the first
            mirrored = ((first[chosen] + number) % 2 == 0).to(self.device)
            loss = self._loss(self.own[chosen].to(self.device), mirrored, number, step)
            self.sgd.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.sgd.step()
            losses.append(loss.detach())
        mean = sum(map(float, torch.stack(losses).tolist())) / self.budget.steps  # read once, since a GPU is waited for
        if not math.isfinite(mean):
            raise RunFailed(f"The labeller's loss became {mean} in pass {number + 1}; lower its learning_rate.")
        return mean

    def _loss(self, places: Tensor, mirrored: Tensor, number: int, step: int) -> Tensor:
        x = self.images[places]
        if self.may_flip:
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        random, by, side = rng.generator(self.seed, f"{NAME} shift", number, step), self.shift, x.shape[2]
        down, right = torch.randint(2 * by + 1, (2,), generator=random).tolist()
        x = pad(x, (by,) * 4, mode="reflect")[:, :, down : down + side, right : right + side]
        with autocast(self.device, wants_bf16("auto", self.device)):
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        if self.beliefs is not None:
            learned: Tensor = -(self.beliefs[places] * logits.log_softmax(1)).sum(1).mean()
            return learned
        candidates, trusted = self.candidates[places], self.trusted[places]
        if self.transition is None:
            return forward_loss(logits, candidates.float()).mean()
        return forward_loss(
            logits, label_likelihood(candidates, trusted, self.transition, has_sets=self.has_sets)
        ).mean()

    def _set_rates(self, step: int) -> None:
        """Set the learning rate: linear warm-up, then linear decay."""
        share = step / (self.budget.steps * self.budget.epochs)
        part = share / _WARM if share < _WARM else _LAST + (1 - _LAST) * (1 - share) / (1 - _WARM)
        for group, rate in zip(self.sgd.param_groups, self.rates, strict=True):
            group["lr"] = rate * part

    def state(self) -> State:
        """Weights and optimiser."""
        moments, optimizer = pack_optimizer(self.sgd.state_dict())
        tensors = {f"weights.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"optimizer.{key}": value for key, value in moments.items()}
        return tensors, {"done": self.done, "optimizer": optimizer}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> int:
        """Go on from `state`."""
        self.network.load_state_dict(part_of(tensors, "weights"))
        self.sgd.load_state_dict(unpack_optimizer(part_of(tensors, "optimizer"), meta["optimizer"]))
        self.done = int(meta["done"])
        return self.done


def order_of(seed: int, number: int, count: int) -> Tensor:
    """The order of `count` images in pass `number`: int64 [count], on the CPU; of no pass with -1."""
    return torch.randperm(count, generator=rng.generator(seed, f"{NAME} order", number))

"""Choosing real images by how hard they are to learn: what `el2n`, `forgetting` and `ccs` have in common.

A network is trained on all images under their labels as given, and what it makes of each image on the way is taken
down. Wrong labels are hard to learn: expect methods that keep the hardest images to suffer from them most.

Departure from all three papers: a choice is made within each observed class, so that sets stay balanced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from condense import rng
from condense.augment import allowed, check_strategy
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, fit, predict
from condense.classifiers.teacher import augmentation
from condense.data.types import Labels, TrainingSet
from condense.errors import Interrupted
from condense.machine import best_device
from condense.methods._members import class_members
from condense.options import Options
from condense.precision import fast_bf16
from condense.preprocessing import planes, standardisation
from condense.run import Run, interrupt_guard, peak_memory_bytes
from condense.sets.assemble import assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost

Scores = npt.NDArray[np.float64]
Look = Callable[[Tensor, Tensor, Tensor], None]
"""Told of every batch in training: numbers int64 [B] of its images, logits float32 [B, c], labels int64 [B]."""


class DifficultyOptions(Options):
    """The networks whose learning is watched."""

    QUICK: ClassVar[Mapping[str, Any]] = {"networks": 1, "epochs": 1}

    networks: int = Field(1, ge=1, description="networks whose scores are averaged")
    backbone: str = Field("convnet3", description="their architecture, e.g. convnet3, resnet18; -bn for batch norm")
    epochs: int = Field(20, ge=1, description="passes over the images")
    batch_size: int = Field(128, ge=2, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of SGD with momentum 0.9 at the start")
    schedule: Literal["step", "cosine", "constant"] = Field("cosine", description="how the learning rate falls")
    augment: str = Field(
        "crop_flip", description="applied to every image, one after the other; digits are never flipped"
    )

    @field_validator("backbone")
    @classmethod
    def _network_exists(cls, name: str) -> str:
        networks.check_name(name)
        return name

    @field_validator("augment")
    @classmethod
    def _augment_exists(cls, strategy: str) -> str:
        if strategy:
            check_strategy(strategy)
        return strategy


def watched(train: TrainingSet, options: DifficultyOptions) -> int:
    """Images that pass through the networks in training."""
    return options.networks * options.epochs * int(train.supervision.single.sum())


def choose_by_difficulty(
    train: TrainingSet,
    ipc: int,
    options: DifficultyOptions,
    seed: int,
    run: Run,
    *,
    method: str,
    score: Callable[[Watch], Scores],
    pick: Callable[[Scores, int, np.random.Generator], Labels],
    looks_after: int = 0,
) -> CondensedSet:
    """`ipc` real images per class, picked by their scores.

    Args:
        train: images and labels.
        ipc: images per class.
        options: see `DifficultyOptions`.
        seed: of all randomness.
        run: for progress.
        method: its name.
        score: trains by way of the `Watch` and returns a score for each labelled image, [n].
        pick: of the scores [m] of a class, how many, and a generator, the places of the chosen ones.
        looks_after: how often `score` shows each image to a network besides training.

    Raises:
        UserError: a class has fewer than `ipc` images, or labels are partial.
        RunFailed: a loss became NaN.
        Interrupted: stopped by Ctrl-C; nothing is saved.
    """
    check_ipc(ipc)
    started = time.perf_counter()
    members = class_members(train, ipc)
    watch = Watch(train, options, seed, run, method)
    scores = score(watch)
    by_image = np.full(len(train), np.nan)
    by_image[watch.index] = scores
    generator = np.random.default_rng(rng.derive(seed, method, 0))
    index = np.concatenate([own[pick(by_image[own], ipc, generator)] for own in members])
    seen = watched(train, options)
    cost = Cost(
        seconds=time.perf_counter() - started,
        network_evaluations=seen + looks_after * options.networks * len(watch.index),
        peak_memory_bytes=peak_memory_bytes(),
        images_seen=seen,
    )
    return assemble(
        train,
        train.images.images[index],
        ipc,
        method=method,
        options=options,
        seed=seed,
        cost=cost,
        source_index=index,
    )


class Watch:
    """The labelled images, and networks trained on them under someone's eyes.

    Attributes:
        index: numbers of the images with a label, int64 [n].
        labels: their labels, int64 [n].
    """

    def __init__(self, train: TrainingSet, options: DifficultyOptions, seed: int, run: Run, method: str) -> None:
        self.index = np.flatnonzero(train.supervision.single)
        self.labels = torch.from_numpy(train.supervision.observed[self.index])
        self._train, self._options, self._seed, self._run, self._method = train, options, seed, run, method
        self._device = best_device()
        pixels = planes(train.images.images[self.index]).float() / 255
        self._x = standardisation(train.images.images).normalise(pixels)

    def train(self, number: int, look: Look | None = None) -> networks.Network:
        """Network `number`, trained to the end."""
        options, data = self._options, self._train.images
        network = networks.build(
            options.backbone,
            in_channels=data.channels,
            image_size=data.image_shape[1],
            num_classes=data.num_classes,
            seed=rng.derive(self._seed, "difficulty network", number),
        )
        targets = torch.stack([self.labels, torch.arange(len(self.labels))], 1)

        def loss(logits: Tensor, told: Tensor) -> Tensor:
            if look is not None:
                look(told[:, 1].cpu(), logits.detach().cpu(), told[:, 0].cpu())
            return F.cross_entropy(logits, told[:, 0])

        with interrupt_guard() as guard, self._run.track(options.epochs, self._method) as tracker:
            for epoch in fit(
                network,
                self._x,
                targets,
                self.fit_options(),
                seed=rng.derive(self._seed, "difficulty order", number),
                augment=augmentation(allowed(options.augment, may_flip=data.may_flip)),
                loss=loss,
                device=self._device,
            ):
                tracker.update(epoch.epoch, loss=epoch.loss)
                if guard.requested:
                    raise Interrupted(f"Stopped in epoch {epoch.epoch} of {options.epochs}; nothing is saved.")
        return network

    def fit_options(self) -> FitOptions:
        """How the networks are trained."""
        options = self._options
        return FitOptions(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            schedule=options.schedule,
            bf16=fast_bf16(self._device),
        )

    def logits(self, network: networks.Network) -> Tensor:
        """What a network makes of the images as they are: float32 [n, c]."""
        return predict(network, self._x)


def hardest(scores: Scores, count: int, generator: np.random.Generator) -> Labels:
    """Places of the `count` highest scores, int64; equal ones in random order."""
    mixed = generator.permutation(len(scores))
    return mixed[np.argsort(-scores[mixed], kind="stable")[:count]].astype(np.int64)

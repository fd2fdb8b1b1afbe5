"""Selection of real images by how hard they are to learn, shared by `el2n`, `forgetting` and `ccs`.

A network is trained on all images with their given labels, and its outputs for each image are recorded on the way.
Wrong labels are hard to learn: expect methods that keep the hardest images to suffer from them most.

Departure from all three papers: selection is within each observed class, so that sets stay balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense import rng
from condense.augment import allowed
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Sitting, Teaching, fit, make_optimizer, predict
from condense.classifiers.networks import NetworkName
from condense.classifiers.teacher import InTurn, augmentation
from condense.data.types import Labels, TrainingSet
from condense.json_values import section, whole
from condense.machine import best_device
from condense.methods._members import class_members
from condense.options import Options
from condense.precision import fast_bf16
from condense.preprocessing import NormalisedImages, standardisation
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, Run, pack_optimizer, part_of, peak_memory_bytes, unpack_optimizer
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost

CHECKPOINT = "checkpoint"
SAVE_EVERY = 5  # epochs

Scores = npt.NDArray[np.float64]


class Record(Protocol):
    """The record made while one network learns, and the scores computed from it.

    Attributes:
        tensors: the record so far, changed in place; empty if only the trained network matters.
    """

    tensors: dict[str, Tensor]

    def look(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record a batch: indices int64 [B] of its images, each once, logits float32 [B, c], labels int64 [B]."""
        ...

    def scores(self, logits: Callable[[], Tensor]) -> Scores:
        """A score per image [n]; `logits()` gives the trained network's logits of all of them, float32 [n, c]."""
        ...


@dataclass(frozen=True)
class Measure:
    """A measure of difficulty, and the selection by it.

    Attributes:
        method: name of the method.
        record: makes an empty record for images with given labels, int64 [n].
        pick: maps scores [m] of a class, a count and a generator to the indices of the chosen images.
        looks_after: evaluations per image by a record's `scores`.
    """

    method: str
    record: Callable[[Tensor], Record]
    pick: Callable[[Scores, int, np.random.Generator], Labels]
    looks_after: int = 0


class DifficultyOptions(Options):
    """The networks whose training is recorded."""

    QUICK: ClassVar[Mapping[str, Any]] = {"networks": 1, "epochs": 1}

    networks: int = Field(1, ge=1, description="networks whose scores are averaged")
    backbone: NetworkName = Field(
        "convnet3", description="their architecture, e.g. convnet3, resnet18; -bn for batch norm"
    )
    epochs: int = Field(20, ge=1, description="passes over the images")
    batch_size: int = Field(128, ge=2, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of SGD with momentum 0.9 at the start")
    schedule: Literal["step", "cosine", "constant"] = Field("cosine", description="how the learning rate falls")
    augment: InTurn = Field(
        "crop_flip", description="augmentations applied in turn to every image; digits are never flipped"
    )


def watched(train: TrainingSet, options: DifficultyOptions) -> int:
    """Images that pass through the networks in training."""
    return options.networks * options.epochs * int(train.supervision.single.sum())


def choose_by_difficulty(
    train: TrainingSet, ipc: int, options: DifficultyOptions, seed: int, run: Run, measure: Measure
) -> CondensedSet:
    """`ipc` real images per class, picked by their scores.

    Args:
        train: images and labels.
        ipc: images per class.
        options: see `DifficultyOptions`.
        seed: random seed.
        run: its folder keeps the network in training, its record, and the scores of earlier networks.
        measure: the measure of difficulty.

    Raises:
        UserError: a class has fewer than `ipc` images, or labels are partial; the checkpoint is of another run.
        RunFailed: a loss became NaN.
        Interrupted: stopped by Ctrl-C after saving; the same call resumes.
    """
    check_ipc(ipc, train)
    members = class_members(train, ipc)
    watch = Watch(train, options, seed, measure.record)
    identity: dict[str, JSON] = {
        "method": measure.method,
        "seed": seed,
        "options": options.model_dump(mode="json"),
        **train.identity(),
    }
    loop = Loop(run, watch.plan(measure.method))
    loop.resume(CHECKPOINT, watch, identity)
    loop.finish(watch.epochs())
    by_image = np.full(len(train), np.nan)
    by_image[watch.index] = np.mean(watch.scores, axis=0)
    generator = np.random.default_rng(rng.derive(seed, measure.method, 0))
    index = np.concatenate([own[measure.pick(by_image[own], ipc, generator)] for own in members])
    seen = watched(train, options)
    cost = Cost(
        seconds=loop.seconds,
        network_evaluations=seen + measure.looks_after * options.networks * len(watch.index),
        peak_memory_bytes=peak_memory_bytes(),
        images_seen=seen,
    )
    return assemble(
        train, train.images.images[index], Making(measure.method, ipc, options, seed, cost=cost), source_index=index
    )


class Watch:
    """Trains networks one after the other on the labelled images while keeping a record.

    Attributes:
        index: indices of the images with a label, int64 [n].
        labels: their labels, int64 [n].
        scores: scores by the finished networks, [n] each.
    """

    def __init__(
        self, train: TrainingSet, options: DifficultyOptions, seed: int, record: Callable[[Tensor], Record]
    ) -> None:
        self.index = np.flatnonzero(train.supervision.single)
        self.labels = torch.from_numpy(train.supervision.observed[self.index])
        self.scores: list[Scores] = []
        self._images, self._options, self._seed, self._new_record = train.images, options, seed, record
        self._device = best_device()
        self._x = NormalisedImages(train.images.images[self.index], standardisation(train.images.images))
        self._begin()

    def _begin(self) -> None:
        """The next network, untrained, with an empty record."""
        self._epoch, self._record = 0, self._new_record(self.labels)
        self._network = networks.build(
            self._options.backbone,
            in_channels=self._images.channels,
            image_size=self._images.image_shape[1],
            num_classes=self._images.num_classes,
            seed=rng.derive(self._seed, "difficulty network", len(self.scores)),
        ).to(self._device)
        self._optimizer = make_optimizer(self._network, self.fit_options())

    def plan(self, title: str) -> LoopPlan:
        """The length of training of all networks."""
        epochs, count = self._options.epochs, self._options.networks

        def place(done: int) -> str:
            network, before = divmod(done - 1, epochs)
            return f"at epoch {before + 1} of {epochs}" + (f" of network {network + 1} of {count}" if count > 1 else "")

        return LoopPlan(title, count * epochs, SAVE_EVERY, place=place)

    def epochs(self) -> Iterator[Step]:
        """Train the remaining networks, yielding after every epoch."""
        options, data = self._options, self._images
        targets = torch.stack([self.labels, torch.arange(len(self.labels))], 1)
        while (number := len(self.scores)) < options.networks:
            for epoch in fit(
                self._network,
                self._x,
                targets,
                self.fit_options(),
                seed=rng.derive(self._seed, "difficulty order", number),
                teaching=Teaching(augmentation(allowed(options.augment, may_flip=data.may_flip)), loss=self._loss),
                device=self._device,
                sitting=Sitting(self._optimizer, self._epoch + 1),
            ):
                self._epoch = epoch.epoch
                if epoch.epoch == options.epochs:
                    self.scores.append(self._record.scores(lambda: predict(self._network, self._x)))
                    self._begin()
                yield Step(number * options.epochs + epoch.epoch, {"loss": epoch.loss})

    def _loss(self, logits: Tensor, told: Tensor) -> Tensor:
        if self._record.tensors:
            self._record.look(told[:, 1].cpu(), logits.detach().cpu(), told[:, 0].cpu())
        return F.cross_entropy(logits, told[:, 0])

    def state(self) -> State:
        """The scores so far, and the network in training with its record."""
        optimizer, meta = pack_optimizer(self._optimizer.state_dict())
        tensors = {f"scores.{k}": torch.from_numpy(scores) for k, scores in enumerate(self.scores)}
        tensors |= {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {f"record.{name}": tensor for name, tensor in self._record.tensors.items()} | optimizer
        return tensors, {"networks": len(self.scores), "epoch": self._epoch, "optimizer": meta}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state`."""
        self.scores = [tensors[f"scores.{k}"].double().numpy() for k in range(whole(meta, "networks"))]
        self._begin()
        self._network.load_state_dict(part_of(tensors, "network"))
        self._optimizer.load_state_dict(unpack_optimizer(tensors, section(meta, "optimizer")))
        for name, kept in part_of(tensors, "record").items():
            self._record.tensors[name].copy_(kept)
        self._epoch = whole(meta, "epoch")
        return len(self.scores) * self._options.epochs + self._epoch

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


def hardest(scores: Scores, count: int, generator: np.random.Generator) -> Labels:
    """Indices of the `count` highest scores, int64; ties in random order."""
    mixed = generator.permutation(len(scores))
    return mixed[np.argsort(-scores[mixed], kind="stable")[:count]].astype(np.int64)

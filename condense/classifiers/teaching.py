"""Training a teacher inside a run: progress, metrics, checkpoints, resuming, Ctrl-C."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from condense import rng
from condense.augment import allowed
from condense.classifiers import networks
from condense.classifiers.fit import Epoch, Sitting, Teaching, fit, make_optimizer
from condense.classifiers.teacher import (
    FILE,
    Teacher,
    TeacherOptions,
    augmentation,
    candidate_loss,
    load_teacher,
    network_weights,
    restored,
)
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.json_values import number, section, whole
from condense.machine import best_device
from condense.precision import fast_bf16
from condense.preprocessing import NormalisedImages, standardisation
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, Run, as_described, check_same_run, pack_optimizer, unpack_optimizer


def teacher_for(train: TrainingSet, options: TeacherOptions, seed: int, run: Run) -> Teacher:
    """The teacher that `options.folder` holds, else one trained on `train` and kept in the run folder.

    A checkpoint already in the run folder is continued, bit for bit on a CPU. On Ctrl-C the state is saved first.

    Raises:
        UserError: there is no teacher in the folder, or one for other classes or image sizes; the checkpoint is of
            other options or data; images are not square; a class is not a candidate of any image.
        RunFailed: the loss became NaN.
        Interrupted: stopped after saving; the same call resumes.
    """
    if options.folder is not None:
        teacher = load_teacher(options.folder)
        teacher.check_data(train.images)
        return teacher
    _check_trainable(train)
    identity: dict[str, JSON] = {
        "options": options.model_dump(mode="json", exclude={"folder", "checkpoint_every"}),
        "seed": seed,
        **train.identity(),
    }
    found = run.load(FILE)
    if found is not None:
        check_same_run(found[1], identity, "teacher in this run folder")
    with as_described(run.file(FILE)):
        finished = found is not None and whole(found[1], "epoch") >= options.epochs
    if found is None or not finished:
        found = _train(_TeacherTraining(train, options, seed), run, identity)
    with as_described(run.file(FILE)):
        return restored(*found)


class _TeacherTraining:
    """Network, optimiser and data of a teacher in training, with its saved state."""

    def __init__(self, train: TrainingSet, options: TeacherOptions, seed: int) -> None:
        known = np.flatnonzero(~train.supervision.unlabelled)
        channels, height, _ = train.images.image_shape
        self.train, self.options, self.seed = train, options, rng.derive(seed, "teacher")
        self.device = best_device()
        self.preprocessing = standardisation(train.images.images)
        self.images = NormalisedImages(train.images.images[known], self.preprocessing)
        self.candidates = torch.from_numpy(train.supervision.candidates[known])
        self.network = networks.build(
            options.network,
            in_channels=channels,
            image_size=height,
            num_classes=train.images.num_classes,
            seed=self.seed,
        ).to(self.device)
        self.fit_options = options.fit_options(bf16=fast_bf16(self.device))
        self.optimizer = make_optimizer(self.network, self.fit_options)
        self.last = Epoch(0, math.nan)

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue from `state`."""
        self.network.load_state_dict(network_weights(tensors))
        self.optimizer.load_state_dict(unpack_optimizer(tensors, section(meta, "optimizer")))
        self.last = Epoch(whole(meta, "epoch"), number(meta, "loss"))
        return self.last.epoch

    def epochs(self) -> Iterator[Step]:
        """Train the remaining epochs, yielding after each."""
        for epoch in fit(
            self.network,
            self.images,
            self.candidates,
            self.fit_options,
            seed=self.seed,
            teaching=Teaching(
                augmentation(allowed(self.options.augment, may_flip=self.train.images.may_flip)), loss=candidate_loss
            ),
            device=self.device,
            sitting=Sitting(self.optimizer, self.last.epoch + 1),
        ):
            self.last = epoch
            yield Step(epoch.epoch, {"loss": epoch.loss}, {"teacher_epoch": epoch.epoch, "teacher_loss": epoch.loss})

    def state(self) -> State:
        """Weights, optimiser and description after the last epoch trained; without the optimiser once finished."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        packed, rest = pack_optimizer(self.optimizer.state_dict())
        finished = self.last.epoch == self.options.epochs
        meta: dict[str, JSON] = {
            "epoch": self.last.epoch,
            "loss": self.last.loss,
            "images_seen": self.last.epoch * len(self.images),
            "image_shape": list(self.train.images.image_shape),
            "classes": list(self.train.images.classes),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "optimizer": {} if finished else rest,
        }
        return tensors if finished else tensors | packed, meta


def _train(
    training: _TeacherTraining, run: Run, identity: Mapping[str, JSON]
) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Train to the last epoch, from the state in the folder or afresh; returns the last state as saved."""
    total = training.options.epochs
    plan = LoopPlan(
        "teacher",
        total,
        training.options.checkpoint_every,
        counter="teacher_epoch",
        place=lambda done: f"at epoch {done} of {total} of the teacher",
    )
    loop = Loop(run, plan)
    loop.resume(FILE, training, identity, "teacher in this run folder")
    loop.finish(training.epochs())
    return loop.saved


def _check_trainable(train: TrainingSet) -> None:
    _, height, width = train.images.image_shape
    if height != width:
        raise UserError(f"The networks need square images, found {height}x{width}; give --image-size.")
    known = train.supervision
    orphans = np.flatnonzero(~known.candidates[~known.unlabelled].any(0))
    if orphans.size:
        raise UserError(
            f"No labelled image can be of class {train.images.classes[orphans[0]]!r} ({orphans.size} such classes), so "
            "no teacher can learn it; drop the class or label some of its images."
        )

"""The training of every arm: one network, one loop, one budget, whatever the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense import rng
from condense.augment import allowed, independent
from condense.classifiers import networks
from condense.classifiers.arms import Arm
from condense.classifiers.arms._noise_rate import estimated_noise_rate
from condense.classifiers.batches import Augment
from condense.classifiers.fit import Epoch, FitOptions, Sitting, Teaching, fit, make_optimizer
from condense.classifiers.layers import Network
from condense.classifiers.lesson import Given
from condense.classifiers.teacher import InTurn, Teacher, TeacherRecord, augmentation
from condense.data.memory import check_fits
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.options import Options
from condense.precision import fast_bf16
from condense.preprocessing import NormalisedImages, standardisation

STRONG = ("color_scale_rotate", "color_scale_rotate", "cutout")  # one operation of each, in sequence


class ArmTraining(Options):
    """The training budget, the same for all arms."""

    network: networks.NetworkName = Field(
        "convnet3-bn", description="architecture, see `dmis evaluate --network`; batch norm needs fewer epochs"
    )
    epochs: int = Field(40, ge=1, description="epochs, each of at least as many images as the training set has")
    batch_size: int = Field(64, ge=1, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="sgd with momentum 0.9, or adamw")
    learning_rate: float = Field(1e-3, gt=0, description="initial learning rate")
    weight_decay: float = Field(0.01, ge=0, description="weight decay on all weights")
    schedule: Literal["step", "cosine", "constant"] = Field("cosine", description="decay of the learning rate")
    augment: InTurn = Field(
        "crop_flip", description="operations applied to every image in sequence; flip only if data.flip allows it"
    )

    def fit_options(self, *, bf16: bool) -> FitOptions:
        """The budget as the plain dataclass that `fit` takes."""
        return FitOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            bf16=bf16,
            rate_name="fit.learning_rate",
        )


def train_arm(
    arm: Arm,
    options: Options,
    training: ArmTraining,
    train: TrainingSet,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Teacher:
    """Train a network on images and imprecise labels by one arm, to the last epoch.

    Weights, order and augmentation depend only on `seed`: all arms start from the same network.

    Args:
        arm: from `condense.classifiers.arms.load`.
        options: the arm's options.
        training: the training budget.
        train: images and labels.
        seed: random seed.
        device: device to train on.
        on_epoch: called after every epoch; an exception from it ends the training.

    Raises:
        UserError: the arm does not accept the labels or the network the images, or the images do not fit into memory.
        RunFailed: the training diverged.
    """
    device = torch.device(device)
    _check_teachable(arm, training, train)
    lesson = arm.lesson(_given(training, train, seed, device), options)
    check_fits(2 * len(lesson.shown) * train.images.images[0].size, f"training on {train.images.name}")
    preprocessing = standardisation(train.images.images)
    fit_options = training.fit_options(bf16=fast_bf16(device))
    learner = lesson.learner.to(device)
    optimizer = make_optimizer(learner, fit_options)
    optimizer.register_step_post_hook(lambda *_: lesson.after_step())
    lesson.before_epoch(1)
    for epoch in fit(
        learner,
        NormalisedImages(train.images.images[lesson.shown], preprocessing),
        lesson.targets,
        fit_options,
        seed=rng.derive(seed, "arm order"),
        teaching=Teaching(lesson.augment, lesson.mix, lesson.loss, lesson.whole),
        device=device,
        sitting=Sitting(optimizer),
    ):
        on_epoch(epoch)
        lesson.before_epoch(epoch.epoch + 1)
    return Teacher(
        lesson.answers.eval(),
        preprocessing,
        train.images.image_shape,
        train.images.classes,
        TeacherRecord(training.network, training.epochs, epoch.loss, 0.0, training.epochs * len(lesson.shown)),
    )


def _check_teachable(arm: Arm, training: ArmTraining, train: TrainingSet) -> None:
    """Raise `UserError` unless the network accepts the images and the arm the labels."""
    _, height, width = train.images.image_shape
    if height != width:
        raise UserError(f"The networks need square images, found {height}x{width}; give --image-size.")
    networks.check_fits(training.network, height)
    arm.check(train.supervision)


def _given(training: ArmTraining, train: TrainingSet, seed: int, device: torch.device) -> Given:
    def build(number: int) -> Network:
        return networks.build(
            training.network,
            in_channels=train.images.channels,
            image_size=train.images.image_shape[1],
            num_classes=train.images.num_classes,
            seed=rng.derive(seed, "arm network", number),
        ).to(device)

    weak = augmentation(allowed(training.augment, may_flip=train.images.may_flip)) or _as_it_is

    def noise_rate() -> float:
        return estimated_noise_rate(train, training.network, training.epochs, training.batch_size, seed, device)

    own = rng.derive(seed, "arm")
    return Given(train.supervision, build, weak, _strong(weak), training.epochs, own, device, noise_rate)


def _as_it_is(x: Tensor, generator: torch.Generator) -> Tensor:
    return x


def _strong(weak: Augment) -> Augment:
    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        x = weak(x, generator)
        for operations in STRONG:
            x = independent(x, operations, generator)
        return x

    return apply

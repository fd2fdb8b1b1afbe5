"""Networks trained on all real images, as a reference for the sets of a table.

They are trained as the protocol trains on a set, with the same network, optimiser, learning rate, augmentation and
batch size, and tested in the same way; only the images and the number of epochs differ.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from condense.classifiers.fit import Epoch, Teaching, fit, predict
from condense.data.memory import check_fits
from condense.data.types import ImageData, TrainingSet, Truth
from condense.errors import UserError
from condense.evaluate.judge import targets_of
from condense.evaluate.protocols import Protocol
from condense.evaluate.score import FreshNetworks, Score, score_of
from condense.precision import arithmetic
from condense.preprocessing import NormalisedImages, Preprocessing, standardisation


def epochs_of_steps(steps: int, images: int, batch_size: int) -> int:
    """The number of epochs over `images` images that comes nearest to `steps` batches, at least one."""
    return max(1, round(steps / math.ceil(images / batch_size)))


def steps_on_a_set(protocol: Protocol, images: int) -> int:
    """The number of batches for which the protocol trains on a set of `images` images."""
    return protocol.epochs * math.ceil(images / protocol.batch_size)


def score_whole(
    train: TrainingSet,
    test: ImageData,
    truth: Truth,
    *,
    protocol: Protocol,
    fresh: FreshNetworks,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, Epoch], None] = lambda repeat, epoch: None,
) -> Score:
    """Accuracy on `test` of networks trained on all labelled images of `train` by a protocol with hard labels.

    Args:
        train: images and labels; several candidates make a uniform target, unlabelled images are left out.
        test: real images of the same classes and shape.
        truth: their labels.
        protocol: how to train, and for how many epochs.
        fresh: the networks.
        device: where to train.
        on_epoch: called after every epoch with the network's number and the `Epoch`.

    Raises:
        UserError: the protocol needs soft labels or a learned rate, a number is out of range, no image has a label, or
            the images do not fit into memory.
        RunFailed: the training diverged.
    """
    started, images = time.perf_counter(), train.images
    if protocol.labels != "hard" or protocol.learning_rate is None:
        raise UserError(
            f"real images have neither soft labels nor a learned rate for the protocol {protocol.name}; choose hard."
        )
    if min(fresh.repeats, protocol.epochs) < 1:
        raise UserError(f"repeats is {fresh.repeats} and epochs {protocol.epochs}; both must be at least 1.")
    device, rules = torch.device(device), protocol.for_data(may_flip=images.may_flip)
    process = standardisation(images.images)
    x, y = _labelled(train, process)
    seen, labels = NormalisedImages(test.images, process), torch.from_numpy(truth.labels)
    computed = arithmetic("auto", device)
    options = rules.fit_options(bf16=computed.bf16)
    answers = []
    for repeat in range(fresh.repeats):
        model, order = fresh.build(rules, images, repeat), fresh.order(repeat)
        for epoch in fit(model, x, y, options, seed=order, teaching=Teaching(rules.augment()), device=device):
            on_epoch(repeat, epoch)
        answers.append(predict(model, seen, bf16=computed.bf16).argmax(1))
    settings = {**asdict(rules), **computed.to_json()}
    return score_of(answers, labels, fresh.architecture(rules), settings, time.perf_counter() - started)


def _labelled(train: TrainingSet, process: Preprocessing) -> tuple[NormalisedImages, Tensor]:
    """The labelled images and their targets for `fit`."""
    images, supervision = train.images, train.supervision
    used = np.flatnonzero(~supervision.unlabelled)
    if not used.size:
        raise UserError(f"{images.name} has no labels, so networks cannot be trained on it.")
    check_fits(3 * len(used) * math.prod(images.image_shape), f"training on all images of {images.name}")
    y = torch.from_numpy(targets_of(supervision)[used])
    return NormalisedImages(images.images[used], process), y.argmax(1) if supervision.single.all() else y

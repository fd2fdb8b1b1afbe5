"""Networks trained on all real images: the bound for the sets of a table.

They are trained as the protocol trains on a set, by the same network, optimiser, learning rate, augmentation and batch,
and tested alike; only the images and how often they are seen are others.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import Epoch, fit, predict
from condense.data.memory import check_fits
from condense.data.types import ImageData, Supervision, Truth
from condense.errors import UserError
from condense.evaluate.judge import targets_of, to_pixels
from condense.evaluate.protocols import Protocol
from condense.evaluate.score import Score, worst_of_classes
from condense.evaluate.stats import summarise
from condense.precision import arithmetic
from condense.preprocessing import standardisation


def epochs_of_steps(steps: int, images: int, batch_size: int) -> int:
    """Passes over so many images that come nearest to `steps` batches, at least one."""
    return max(1, round(steps / math.ceil(images / batch_size)))


def steps_on_a_set(protocol: Protocol, images: int) -> int:
    """Batches that the protocol trains for on a set of so many images."""
    return protocol.epochs * math.ceil(images / protocol.batch_size)


def score_whole(
    images: ImageData,
    supervision: Supervision,
    test: ImageData,
    truth: Truth,
    *,
    protocol: Protocol,
    epochs: int,
    network: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int, Epoch], None] = lambda repeat, epoch: None,
) -> Score:
    """Accuracy on `test` of networks trained on all labelled `images` for `epochs` by a protocol of hard labels.

    Args:
        images: of the training split.
        supervision: their labels; uniform over the candidates where there are several, left out where there is none.
        test: real images of the same classes and shape.
        truth: their labels.
        protocol: how to train, but for its epochs.
        epochs: passes over the images.
        network: one of `networks.NAMES`; the protocol's when None.
        repeats: number of networks.
        seed: of all randomness.
        device: where to train.
        on_epoch: called after every epoch with the network's number and the `Epoch`.

    Raises:
        UserError: the protocol is of soft labels or a learned rate, a number is out of range, no image has a label, or
            the images do not fit in memory.
        RunFailed: the training diverged.
    """
    started = time.perf_counter()
    if protocol.labels != "hard" or protocol.learning_rate is None:
        raise UserError(f"real images have no labels or rates for the protocol {protocol.name}; choose hard.")
    if min(repeats, epochs) < 1:
        raise UserError(f"repeats is {repeats} and epochs {epochs}; both must be at least 1.")
    device, network = torch.device(device), network or protocol.network
    rules = dataclasses.replace(protocol.for_data(may_flip=images.may_flip), epochs=epochs)
    used = np.flatnonzero(~supervision.unlabelled)
    if not used.size:
        raise UserError(f"{images.name} has no labels, so no network can be trained on it.")
    check_fits(3 * 4 * len(used) * math.prod(images.image_shape), f"training on all images of {images.name}")
    process = standardisation(images.images)
    x = process.normalise(to_pixels(images.images[used]))
    y = torch.from_numpy(targets_of(supervision)[used])
    if supervision.single.all():
        y = y.argmax(1)
    seen, labels = process.normalise(to_pixels(test.images)), torch.from_numpy(truth.labels)
    computed = arithmetic("auto", device)
    bf16 = computed.bf16
    accuracies, worst = [], []
    for repeat in range(repeats):
        model = networks.build(
            network,
            in_channels=images.channels,
            image_size=images.image_shape[1],
            num_classes=images.num_classes,
            seed=rng.derive(seed, "score network", repeat),
        )
        order = rng.derive(seed, "score fit", repeat)
        options = rules.fit_options(bf16=bf16)
        for epoch in fit(model, x, y, options, seed=order, augment=rules.augment(), device=device):
            on_epoch(repeat, epoch)
        right = predict(model, seen, bf16=bf16).argmax(1) == labels
        accuracies.append(100 * float(right.double().mean()))
        worst.append(100 * worst_of_classes(right, labels))
    summary = summarise(accuracies)
    return Score(
        summary.mean,
        summary.std,
        summary.ci95,
        tuple(accuracies),
        {**asdict(rules), **computed.to_json()},
        network,
        time.perf_counter() - started,
        worst_class=sum(worst) / len(worst),
    )

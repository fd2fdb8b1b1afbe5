"""The score of a condensed set: fresh networks are trained on it and tested on real images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.confident_learning import confusion
from condense.classifiers.fit import Epoch, Teaching, fit, predict
from condense.classifiers.mixing import cutmix
from condense.classifiers.networks import Network
from condense.classifiers.stacked import fit_stacked, stacking_pays
from condense.classifiers.teacher import Teacher
from condense.data.types import ImageData, Truth, check_labels
from condense.errors import UserError
from condense.evaluate.mistakes import Mistakes
from condense.evaluate.protocols import Protocol
from condense.evaluate.soft import asked_online, soft_loss, soft_targets
from condense.evaluate.stats import summarise
from condense.precision import arithmetic
from condense.preprocessing import planes
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet

OnEpoch = Callable[[int, Epoch], None]


@dataclass(frozen=True)
class Score:
    """Test accuracies in percent of several networks trained on one set.

    Attributes:
        mean: mean over the networks.
        std: sample standard deviation, None for one network.
        ci95: half width of the 95 % Student-t interval, None for one network.
        accuracies: one per network, in percent.
        protocol: name and every setting, as used for this data set, and `Arithmetic`: device, precision and reason.
        network: name of the architecture.
        seconds: wall-clock time of training and testing all of them.
        uses_true_labels: whether the set was made with true labels: an upper bound for others, not a competitor.
        labels: training targets: "hard" or stored "soft" labels, or those of an "online" teacher.
        packing: number of pictures in a stored image.
        trained_on: number of images that every network was trained on; packed ones count once for each picture.
        worst_class: mean over the networks of each one's lowest accuracy on a class, in percent.
        test_data: the test data in words: name, number of images, and path.
        mistakes: confusions of the classes; None if they are not known.
    """

    mean: float
    std: float | None
    ci95: float | None
    accuracies: tuple[float, ...]
    protocol: dict[str, JSON]
    network: str
    seconds: float
    uses_true_labels: bool = False
    labels: Literal["hard", "soft", "online"] = "hard"
    packing: int = 1
    trained_on: int = 0
    worst_class: float | None = None
    test_data: str = ""
    mistakes: Mistakes | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, JSON]:
        """All attributes as a JSON object, with the contents of `Mistakes.to_json` in place of `mistakes`."""
        plain = asdict(replace(self, mistakes=None))
        del plain["mistakes"]
        told = {} if self.mistakes is None else self.mistakes.to_json()
        return {**plain, "accuracies": list(self.accuracies), **told}


@dataclass(frozen=True)
class FreshNetworks:
    """The untrained networks that a protocol trains; weights and order of network r depend only on (seed, r).

    Attributes:
        name: one of `networks.NAMES`; the protocol's when None.
        repeats: number of networks.
        seed: seed of their weights, and of the order and augmentation of their batches.
    """

    name: str | None = None
    repeats: int = 1
    seed: int = 0

    def architecture(self, protocol: Protocol) -> str:
        """Name of the architecture."""
        return self.name or protocol.network

    def build(self, protocol: Protocol, images: ImageData, repeat: int) -> Network:
        """Network `repeat`, counted from 0, for the shape and number of classes of `images`."""
        return networks.build(
            self.architecture(protocol),
            in_channels=images.channels,
            image_size=images.image_shape[1],
            num_classes=images.num_classes,
            seed=rng.derive(self.seed, "score network", repeat),
        )

    def order(self, repeat: int) -> int:
        """The seed of order and augmentation for network `repeat`."""
        return rng.derive(self.seed, "score fit", repeat)


def score_of(
    answers: Sequence[Tensor], labels: Tensor, name: str, settings: Mapping[str, JSON], seconds: float
) -> Score:
    """The score of predictions on n test images.

    Args:
        answers: predictions of every network, int64 [n] each.
        labels: true labels, int64 [n].
        name: name of the networks' architecture.
        settings: settings of the protocol.
        seconds: time for training and testing.
    """
    right = [each == labels for each in answers]
    accuracies = [100 * float(each.double().mean()) for each in right]
    worst = [100 * worst_of_classes(each, labels) for each in right]
    found = summarise(accuracies)
    return Score(
        found.mean,
        found.std,
        found.ci95,
        tuple(accuracies),
        dict(settings),
        name,
        seconds,
        worst_class=sum(worst) / len(worst),
    )


def score(
    condensed: CondensedSet,
    test: ImageData,
    truth: Truth,
    *,
    protocol: Protocol,
    fresh: FreshNetworks,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None,
    teacher: Teacher | None = None,
) -> Score:
    """Accuracy on `test` of fresh networks trained on `condensed` by `protocol`, after the last epoch.

    Packed images are cut apart, see `CondensedSet.unpacked`; an epoch is a pass over all pictures. The test images pass
    through the preprocessing stored with the set. Weights, order and augmentation of network r depend only on
    (seed, r). bfloat16 is used where it is fast on the device; the result records it.
    Small networks on small sets are trained together (`condense.classifiers.stacked`), which changes only rounding.

    Args:
        condensed: the set to score.
        test: real images of the same classes and shape.
        truth: their labels.
        protocol: how to train, see `protocols`.
        fresh: the networks.
        device: where to train.
        on_epoch: called after every epoch of every network with the network's number, counted from 0, and the
            `Epoch`; an exception from it ends the scoring.
        teacher: labels every batch if the protocol uses a teacher's labels; the set's soft labels are used when None.

    Raises:
        UserError: set and test data differ in classes or image shape, a name or number is out of range, or the
            protocol needs soft labels or a learned rate that the set does not have.
        RunFailed: the training diverged.
    """
    started = time.perf_counter()
    check_comparable(condensed, test, truth)
    condensed = condensed.unpacked()
    if fresh.repeats < 1:
        raise UserError(f"repeats is {fresh.repeats}; at least one network must be trained.")
    device = torch.device(device)
    protocol = protocol.for_data(may_flip=may_flip(condensed, test)).for_set(condensed)
    computed = arithmetic("auto", device)
    models = [fresh.build(protocol, test, repeat) for repeat in range(fresh.repeats)]
    seeds = [fresh.order(repeat) for repeat in range(fresh.repeats)]
    test_images, test_labels = _test_tensors(condensed, test, truth)
    lesson = _lesson(condensed, protocol, teacher)
    answers = [
        predict(model, test_images, bf16=computed.bf16).argmax(1)
        for model in _trained(models, condensed, protocol, lesson, seeds, device, on_epoch, bf16=computed.bf16)
    ]
    counts = [confusion(truth.labels, each.numpy(), test.num_classes) for each in answers]
    settings = {**asdict(protocol), **computed.to_json()}
    return replace(
        score_of(answers, test_labels, fresh.architecture(protocol), settings, time.perf_counter() - started),
        uses_true_labels=condensed.uses_true_labels,
        labels=lesson.labels,
        packing=condensed.packing,
        trained_on=len(condensed),
        test_data=f"{len(test)} test images of {test.name} ({test.provenance.get('path', 'in memory')})",
        mistakes=Mistakes(np.sum(counts, axis=0), test.classes),
    )


def worst_of_classes(right: Tensor, labels: Tensor) -> float:
    """Lowest accuracy, in [0, 1], of a class with test images, from `right` bool [n] and `labels` int64 [n]."""
    counts = torch.bincount(labels)
    shares = torch.bincount(labels, weights=right.double()) / counts
    return float(shares[counts > 0].min())


@dataclass(frozen=True)
class _FitInputs:
    """Targets of the images, augmentation and loss, and the kind of labels."""

    targets: Tensor
    teaching: Teaching
    labels: Literal["hard", "soft", "online"]


def _trained(
    models: Sequence[Network],
    condensed: CondensedSet,
    protocol: Protocol,
    lesson: _FitInputs,
    seeds: Sequence[int],
    device: torch.device,
    on_epoch: OnEpoch | None,
    *,
    bf16: bool,
) -> Iterator[Network]:
    """Train every model by the protocol, together where that is faster, and yield each when it is done."""
    images, options = condensed.tensors()[0], protocol.fit_options(bf16=bf16)
    targets, teaching = lesson.targets, lesson.teaching
    tell = on_epoch or (lambda repeat, epoch: None)
    batch_shape = (min(len(images), options.batch_size), *images.shape[1:])
    if len(models) > 1 and stacking_pays(models[0], batch_shape, device):
        for epochs in fit_stacked(models, images, targets, options, seeds=seeds, device=device, teaching=teaching):
            for repeat, epoch in enumerate(epochs):
                tell(repeat, epoch)
        yield from models
        return
    for repeat, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        for epoch in fit(model, images, targets, options, seed=seed, device=device, teaching=teaching):
            tell(repeat, epoch)
        yield model


def _lesson(condensed: CondensedSet, protocol: Protocol, teacher: Teacher | None) -> _FitInputs:
    augment, mix = protocol.augment(), cutmix if protocol.mixing == "cutmix" else None
    if protocol.labels == "hard":
        return _FitInputs(torch.from_numpy(condensed.labels), Teaching(augment, mix), "hard")
    assert protocol.temperature is not None
    loss = soft_loss(protocol.temperature)
    if protocol.labels == "soft" or teacher is None:
        targets = soft_targets(condensed, protocol.temperature)
        return _FitInputs(targets, Teaching(augment, mix, loss), "soft")
    asked = asked_online(teacher, condensed.preprocessing, protocol.temperature, mix)
    none = torch.zeros(len(condensed), condensed.num_classes)  # the teacher's answers take their place
    return _FitInputs(none, Teaching(augment, asked, loss), "online")


def may_flip(condensed: CondensedSet, images: ImageData) -> bool:
    """Whether training on a set may mirror its images: by `images.flip` if known, else as the set records."""
    recorded = condensed.provenance.notes.get("flip")
    if images.flip is None and isinstance(recorded, bool):
        return recorded
    return images.may_flip


def check_comparable(condensed: CondensedSet, test: ImageData, truth: Truth) -> None:
    """Refuse a set that does not belong to the test data.

    Raises:
        UserError: as for `check_same_kind`, or the labels do not fit the images.
    """
    check_same_kind(condensed, test)
    if len(truth) != len(test):
        raise UserError(f"{test.name}: {len(test)} test images but {len(truth)} labels.")
    check_labels(truth.labels, test.num_classes, "test labels")


def check_same_kind(condensed: CondensedSet, images: ImageData) -> None:
    """Refuse a set whose images do not match real `images`, of either split, in classes and shape.

    Raises:
        UserError: number, names or order of the classes, or the image shape differ; or the images are not square.
    """
    split = "test" if images.split == "test" else "training"
    if condensed.num_classes != images.num_classes:
        raise UserError(
            f"the condensed set has {condensed.num_classes} classes, the {split} data {images.name} has "
            f"{images.num_classes}; use the data it was made from ({condensed.provenance.data_name})."
        )
    if condensed.classes != images.classes:
        place = next(i for i in range(images.num_classes) if condensed.classes[i] != images.classes[i])
        raise UserError(
            f'class {place} is "{condensed.classes[place]}" in the condensed set but "{images.classes[place]}" '
            f"in the {split} data {images.name}; both need the same class names in the same order."
        )
    made, needed = condensed.images.shape[1:], images.images.shape[1:]
    if made != needed:
        raise UserError(
            f"the condensed images are {_shape(made)}, the {split} images of {images.name} {_shape(needed)}; "
            f"load the {split} data at the size the set was made at."
        )
    if needed[0] != needed[1]:
        raise UserError(f"images of {images.name} are {_shape(needed)}; the networks need square ones.")


def _shape(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"


def _test_tensors(condensed: CondensedSet, test: ImageData, truth: Truth) -> tuple[Tensor, Tensor]:
    pixels = planes(test.images).float() / 255
    return condensed.preprocessing.normalise(pixels), torch.from_numpy(truth.labels)

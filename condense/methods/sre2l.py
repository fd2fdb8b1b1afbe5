"""SRe2L: squeeze the data into a network, recover images from it, relabel them.

Squeeze: a network with batch norm is trained on all images. Recover: pixels start as noise and are optimised so that
the network assigns them to their class and their statistics match its batch norm layers. Relabel: the network's
soft labels are stored with the images.
Source: Yin, Xing & Shen (2023), https://arxiv.org/abs/2306.13092, with the settings of its public CIFAR variant
(no multi-crop).

The protocol soft queries the network for every augmented image, as the paper does, if its file lies beside the set
(`dmis condense` writes it); soft-stored uses one soft label per image, which is in the set.

Departures. Images are rounded to 8 bits and written without JPEG, and the stored images are the ones labelled; the last
iterate is kept, not the best. About 100 images are optimised together whatever the number of classes, since batch
statistics of ten images are too noisy to match. Any network with batch norm, image size, and 1 or 3 channels are
supported.

Noise. The set contains no real image, but the network is trained on the given labels; candidate sets have their own
loss, and unlabelled images are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from condense.classifiers import networks
from condense.classifiers.networks import NetworkName
from condense.classifiers.teacher import InTurn, TeacherOptions
from condense.classifiers.teaching import teacher_for
from condense.data.types import TrainingSet
from condense.methods._recover import RecoverOptions, recover, recovering
from condense.methods._statistics import check_batch_norm
from condense.methods._taught import cost_with, notes_with, teaching
from condense.options import Options as BaseOptions
from condense.run import JSON, Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class Squeeze(TeacherOptions):
    """The network, with batch norm, into which the data are squeezed and which relabels the images."""

    network: NetworkName = Field(
        "resnet18-bn", description="architecture, with batch norm, e.g. convnet3-bn, resnet18-bn"
    )
    epochs: int = Field(200, ge=1, description="passes over the images")
    batch_size: int = Field(128, ge=2, description="images per step")
    learning_rate: float = Field(0.1, gt=0, description="learning rate at the start")
    schedule: Literal["step", "cosine", "constant"] = Field("cosine", description="how the learning rate falls")
    augment: InTurn = Field(
        "crop_flip", description="augmentations applied in turn to every image; flip only as data.flip allows"
    )


class Options(BaseOptions):
    """Squeeze, recover, relabel."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "teacher": {"network": "convnet3-bn", "epochs": 1},
        "recover": {"iterations": 20},
    }

    teacher: Squeeze = Squeeze()
    recover: RecoverOptions = RecoverOptions()
    temperature: float = Field(1.0, gt=0, description="temperature of the network's softmax in the soft labels")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the network."""
    num_classes = train.images.num_classes
    recovered = recovering(options.recover, ipc, num_classes)
    return teaching(train, options.teacher) + recovered + num_classes * ipc


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    taught = teaching(train, options.teacher)
    return [("teacher", taught), ("recover", evaluations(train, ipc, options) - taught)]


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` images per class, recovered from a network trained on all images.

    Raises:
        UserError: the network has no batch norm, or as `teacher_for`.
        RunFailed: a loss became NaN.
        Interrupted: stopped after saving; the same call resumes.
    """
    check_ipc(ipc, train)
    if options.teacher.folder is None:
        _check_architecture(train, options.teacher.network)
    teacher = teacher_for(train, options.teacher, seed, run)
    check_batch_norm(teacher.network, teacher.record.network)
    identity: dict[str, JSON] = {
        "options": options.model_dump(mode="json"),
        "ipc": ipc,
        "seed": seed,
        **train.identity(),
    }
    recovered = recover(teacher, ipc, options.recover, seed, run, identity)
    started = time.perf_counter()
    soft_labels = teacher.soft_labels(recovered.images, options.temperature)
    return assemble(
        train,
        recovered.images,
        Making(
            "sre2l",
            ipc,
            options,
            seed,
            cost=cost_with(
                teacher,
                recovered.seconds + time.perf_counter() - started,
                recovered.passes + len(recovered.images),
            ),
            notes=notes_with(teacher, soft_labels, options.temperature),
        ),
        soft_labels=soft_labels,
    )


def _check_architecture(train: TrainingSet, name: str) -> None:
    """Check before the training that the network has batch norm; it is built on the meta device."""
    with torch.device("meta"):
        network = networks.build(
            name,
            in_channels=train.images.channels,
            image_size=train.images.image_shape[1],
            num_classes=train.images.num_classes,
            seed=0,
        )
    check_batch_norm(network, name)

"""The teacher: a network trained on the images and imprecise labels at hand, for its features or predictions.

Labels may be single or candidate sets; the loss of an image x with candidates S is that of PRODEN with weights
updated at every step, whose gradient is that of

    -log Σ_{y in S} f_y(x),

the cross-entropy where S is one class. Unlabelled images are left out. The teacher
also learns wrong labels, which affects every method that uses it; train it on true labels for comparison
(`--clean-first oracle`) or give another one (`teacher.folder`).
Source: Lv et al. (2020), PRODEN, https://arxiv.org/abs/2002.08053, Eq. 5-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from condense.augment import check_strategy, independent
from condense.classifiers import networks
from condense.classifiers.fit import Augment, FitOptions, predict
from condense.data.types import ImageData, Images
from condense.errors import UserError, in_short
from condense.json_values import JSON, number, numbers, section, text, texts, whole, wholes
from condense.machine import best_device
from condense.options import Options
from condense.preprocessing import NormalisedImages, Preprocessing
from condense.run import Run, part_of
from condense.tensor_file import MISFIT, check_finite

FILE = "teacher"
_MOST_SIDE = 4096  # of images a file may describe
_BATCH = 512


def check_in_turn(strategy: str) -> str:
    """`strategy`, unchanged. Raises `UserError` unless it is empty or names operations of `condense.augment`."""
    if strategy:
        check_strategy(strategy)
    return strategy


InTurn = Annotated[str, AfterValidator(check_in_turn)]
"""An option that names augmentations, applied to every image one after the other; empty for none."""


class TeacherOptions(Options):
    """The network trained on all images, and its training options."""

    folder: Path | None = Field(None, description="run folder of a trained teacher; trained when empty")
    network: networks.NetworkName = Field(
        "convnet3", description="its architecture, e.g. convnet3, resnet18; -bn for batch norm"
    )
    epochs: int = Field(20, ge=1, description="passes over the images")
    batch_size: int = Field(256, ge=2, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd with momentum 0.9, or adamw")
    learning_rate: float = Field(0.01, gt=0, description="learning rate at the start")
    weight_decay: float = Field(5e-4, ge=0, description="on all weights")
    schedule: Literal["step", "cosine", "constant"] = Field("cosine", description="how the learning rate falls")
    augment: InTurn = Field(
        "",
        description="applied to every image, one after the other, e.g. crop_flip; flip only as data.flip allows",
    )
    checkpoint_every: int = Field(5, ge=1, description="epochs between checkpoints")

    def fit_options(self, *, bf16: bool) -> FitOptions:
        """The same as the plain dataclass that `fit` takes."""
        return FitOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            bf16=bf16,
            rate_name="teacher.learning_rate",
        )


@dataclass(frozen=True)
class TeacherRecord:
    """A teacher's training.

    Attributes:
        network: name of the architecture.
        epochs: passes over the images.
        loss: of the last epoch, in nats.
        seconds: time taken; 0 where it was not measured.
        images_seen: images shown, repetitions counted.
    """

    network: str
    epochs: int
    loss: float
    seconds: float
    images_seen: int

    def to_json(self) -> dict[str, JSON]:
        """The same by name."""
        return asdict(self)


@dataclass(frozen=True)
class Teacher:
    """A trained network with all that inference needs.

    Attributes:
        network: in evaluation mode, without gradients of its weights.
        preprocessing: preprocessing of its images.
        image_shape: (C, H, W) of its images.
        classes: class names, in the order of its logits.
        record: the record of its training, for provenance and cost.
    """

    network: networks.Network
    preprocessing: Preprocessing
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    record: TeacherRecord

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def inputs(self, images: Images) -> Tensor:
        """Network input for uint8 images [n, H, W, C]: float32 [n, C, H, W] on its device."""
        return NormalisedImages(images, self.preprocessing, self.device)[:]

    def logits(self, images: Images) -> Tensor:
        """Logits float32 [n, c], on the CPU, of uint8 images [n, H, W, C]."""
        return self._batched(images, lambda x: predict(self.network, x, _BATCH))

    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """Penultimate features of uint8 images [n, H, W, C]: float32 [n, F]."""
        found = self._batched(images, lambda x: predict(self.network.trunk, x, _BATCH))
        return np.asarray(found.numpy(), dtype=np.float32)

    def soft_labels(self, images: Images, temperature: float) -> npt.NDArray[np.float32]:
        """softmax(logits / temperature) of uint8 images [n, H, W, C]: float32 [n, c], rows adding up to 1."""
        return np.asarray((self.logits(images) / temperature).softmax(1).numpy(), dtype=np.float32)

    def _batched(self, images: Images, ask: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([ask(self.inputs(images[i : i + _BATCH])) for i in range(0, len(images), _BATCH)])

    def check_data(self, data: ImageData) -> None:
        """Raise `UserError` unless `data` has the classes and the image shape the teacher was trained on."""
        if (self.classes, self.image_shape) != (data.classes, data.image_shape):
            raise UserError(
                f"The teacher knows {len(self.classes)} classes ({', '.join(self.classes[:3])}, …) on images [C, H, W] "
                f"{list(self.image_shape)}, {data.name} has {data.num_classes} ({', '.join(data.classes[:3])}, …) on "
                f"{list(data.image_shape)}; give a matching teacher, or leave teacher.folder empty to train one."
            )


def candidate_loss(logits: Tensor, candidates: Tensor) -> Tensor:
    """`candidate_losses` averaged over the batch."""
    return candidate_losses(logits, candidates).mean()


def candidate_losses(logits: Tensor, candidates: Tensor) -> Tensor:
    """-log Σ_{y in S} f_y of each image, [B]: logits [B, c], candidates bool [B, c] with at least one True a row."""
    inside = logits.masked_fill(~candidates, -math.inf).logsumexp(1)
    return logits.logsumexp(1) - inside


def augmentation(strategy: str) -> Augment | None:
    """Every operation of `strategy` on every image, one after the other; None for the empty strategy."""
    if not strategy:
        return None
    operations = check_strategy(strategy)

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for name in operations:
            x = independent(x, name, generator)
        return x

    return apply


def load_teacher(folder: Path) -> Teacher:
    """The trained teacher in a run folder.

    Raises:
        UserError: there is no such folder, no teacher in it, its training is unfinished, or the file is damaged.
    """
    found = Run(folder).load(FILE) if folder.is_dir() else None
    if found is None:
        raise UserError(
            f"{folder} holds no teacher ({FILE}.safetensors); give the run folder of herding, kcenter, rded or sre2l, "
            "or leave teacher.folder empty to train one."
        )
    tensors, meta = found
    try:
        done, asked = whole(meta, "epoch"), whole(section(meta, "options"), "epochs")
        if done < asked:
            raise UserError(
                f"The teacher in {folder} stopped at epoch {done} of {asked}; finish that run with --resume."
            )
        return restored(tensors, meta)
    except MISFIT as error:
        raise UserError(f"{folder}: {FILE}.safetensors does not describe a teacher ({in_short(error)}).") from error


def restored(tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> Teacher:
    """A teacher from its saved training state, on the best device."""
    channels, height, width = wholes(meta, "image_shape")
    classes, architecture = texts(meta, "classes"), text(section(meta, "options"), "network")
    if not all(1 <= size <= _MOST_SIDE for size in (channels, height, width)):
        raise ValueError(f"{[channels, height, width]} is not the shape of an image")
    network = networks.build(
        architecture,
        in_channels=channels,
        image_size=height,
        num_classes=len(classes),
        seed=0,
    )
    weights = network_weights(tensors)
    check_finite(weights, None)
    network.load_state_dict(weights)
    return Teacher(
        network.to(best_device()).eval().requires_grad_(False),
        Preprocessing(numbers(meta, "mean"), numbers(meta, "std")),
        (channels, height, width),
        classes,
        TeacherRecord(
            architecture,
            whole(meta, "epoch"),
            number(meta, "loss"),
            number(meta, "seconds"),
            whole(meta, "images_seen"),
        ),
    )


def network_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights in the saved training state."""
    return part_of(tensors, "network")

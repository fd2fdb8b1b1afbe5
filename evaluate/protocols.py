"""Evaluation protocols as frozen data: how the networks that judge a condensed set are trained.

A protocol never changes once published; a changed one gets a new version. All of it is printed into every
result. Nothing is chosen on the test split: the accuracy is that of the last epoch.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal

from condense.augment import DSA, allowed
from condense.classifiers.fit import FitOptions
from condense.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """How a downstream network is trained and what is reported.

    Attributes:
        name: what it is asked for by.
        version: raised whenever anything below changes.
        epochs: passes over the condensed set; so an image counts equally often at every IPC.
        batch_size: images a step.
        optimizer: see `FitOptions`, as for the four below.
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: on all parameters.
        schedule: of the learning rate.
        augmentation: operations of `condense.augment`, one a batch, parameters drawn per image.
        labels: "hard": class labels; soft labels and image weights of the set are not used.
        reported: which accuracy counts.
        source: where the protocol comes from and how it departs from it.
    """

    name: str
    version: int
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: Literal["step", "cosine", "constant"]
    augmentation: str
    labels: Literal["hard"]
    reported: Literal["last epoch"]
    source: str

    def for_data(self, data_name: str) -> Protocol:
        """This protocol with what the data set forbids taken out: "flip" for digits, mnist and svhn."""
        return dataclasses.replace(self, augmentation=allowed(self.augmentation, data_name))

    def fit_options(self, *, bf16: bool) -> FitOptions:
        """The options of the training loop."""
        return FitOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            bf16=bf16,
        )


HARD = Protocol(
    name="hard",
    version=1,
    epochs=1000,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="step",
    augmentation=DSA,
    labels="hard",
    reported="last epoch",
    source="DSA and DM (Zhao & Bilen 2021, 2023): ConvNet-3 with instance norm, 1000 epochs; theirs run 1001",
)
HARD_QUICK = dataclasses.replace(
    HARD,
    name="hard-quick",
    epochs=300,
    source="hard with 300 epochs instead of 1000: for a first look, not comparable with published numbers",
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (HARD, HARD_QUICK)}


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=3, cutoff=0.3) or list(PROTOCOLS)
        raise UserError(f'no protocol is called "{name}"; nearest: {", ".join(close)}.')
    return PROTOCOLS[name]

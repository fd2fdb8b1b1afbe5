"""Evaluation protocols as frozen data: how the networks that score a condensed set are trained.

A published protocol never changes; a change requires a new version. Every result contains the whole protocol.
Nothing is selected on the test split: the accuracy is that of the last epoch.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from condense.augment import DSA, allowed, check_strategy, independent
from condense.classifiers.fit import Augment, FitOptions
from condense.errors import UserError
from condense.sets.condensed_set import CondensedSet


@dataclass(frozen=True)
class Protocol:
    """How a downstream network is trained and what is reported.

    Attributes:
        name: name that selects it.
        version: increased whenever anything below changes.
        network: default network, one of `condense.classifiers.networks`.
        epochs: passes over the condensed set, so an image is seen equally often at every IPC.
        batch_size: images per step.
        optimizer: see `FitOptions`, as for the four below.
        learning_rate: initial learning rate; None for the one learned along with the set, see `for_set`.
        momentum: momentum of SGD.
        weight_decay: weight decay on all parameters.
        schedule: schedule of the learning rate.
        augmentation: operations of `condense.augment`, parameters drawn per image; empty for none.
        operations: "one a batch": one operation drawn for each batch; "all": every operation, one after the other.
        mixing: "cutmix": `condense.classifiers.mixing.cutmix` of every batch after augmentation.
        labels: "hard": class labels, cross-entropy; soft labels and image weights of the set are not used.
            "soft": the set's soft labels, see `evaluate/soft.py`; a set without them is refused, since hard labels
            would not make a fair comparison. "teacher": labels by the set's teacher for every mixed batch; a set
            without a teacher is trained as for "soft".
        temperature: temperature of the soft labels.
        reported: the accuracy that is reported.
        source: source of the protocol, and departures from it.
    """

    name: str
    version: int
    network: str
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    learning_rate: float | None
    momentum: float
    weight_decay: float
    schedule: Literal["step", "cosine", "constant"]
    augmentation: str
    operations: Literal["one a batch", "all"]
    mixing: Literal["none", "cutmix"]
    labels: Literal["hard", "soft", "teacher"]
    temperature: float | None
    reported: Literal["last epoch"]
    source: str

    def for_data(self, *, may_flip: bool) -> Protocol:
        """This protocol, without "flip" if mirroring may change an image's class, as for digits."""
        return dataclasses.replace(self, augmentation=allowed(self.augmentation, may_flip=may_flip))

    def for_set(self, condensed: CondensedSet) -> Protocol:
        """This protocol with the learning rate stored with the set, if it does not fix one itself.

        Raises:
            UserError: neither the protocol nor the set has a learning rate.
        """
        if self.learning_rate is not None:
            return self
        if condensed.learned_rate is None:
            raise UserError(
                f"the protocol {self.name} uses the learning rate learned along with the set, but the set of "
                f"{condensed.provenance.method} has none; choose the protocol hard."
            )
        return dataclasses.replace(self, learning_rate=condensed.learned_rate)

    def plain(self) -> Protocol:
        """This protocol without augmentation and mixing, under its own name."""
        return dataclasses.replace(self, name=f"{self.name}-plain", augmentation="", mixing="none")

    def augment(self) -> Augment | None:
        """The augmentation as a function for `fit`; None without any."""
        if not self.augmentation:
            return None
        if self.operations == "one a batch":
            return lambda x, generator: independent(x, self.augmentation, generator)
        names = check_strategy(self.augmentation)

        def all_of_them(x: Tensor, generator: torch.Generator) -> Tensor:
            for name in names:
                x = independent(x, name, generator)
            return x

        return all_of_them

    def fit_options(self, *, bf16: bool) -> FitOptions:
        """The options of the training loop; `for_set` must have filled in the rate."""
        assert self.learning_rate is not None
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
    network="convnet3",
    epochs=1000,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="step",
    augmentation=DSA,
    operations="one a batch",
    mixing="none",
    labels="hard",
    temperature=None,
    reported="last epoch",
    source="DSA and DM (Zhao & Bilen 2021, 2023): ConvNet-3 with instance norm, 1000 epochs; theirs run 1001",
)
HARD_AS_LEARNED = dataclasses.replace(
    HARD,
    name="hard-as-learned",
    learning_rate=None,
    source="hard at the learning rate that MTT (Cazenavette et al. 2022) learns along with the images, as its public "
    "code evaluates them",
)
STORED_LABELS = dataclasses.replace(
    HARD,
    name="stored-labels",
    labels="soft",
    temperature=1.0,
    source="ours: hard with the set's stored soft labels, just as they are, as targets: learned labels or beliefs. "
    "FRePo (Zhou et al. 2022) trains on its own by squared error",
)
HARD_ADAM = dataclasses.replace(
    HARD,
    name="hard-adam",
    optimizer="adamw",
    learning_rate=1e-3,
    momentum=0.0,
    weight_decay=0.01,
    schedule="cosine",
    augmentation="crop_flip",
    operations="all",
    source="ours, a second setting: AdamW along a cosine with crop and flip, as RDED trains, on hard "
    "labels; DC-Bench (Cui et al. 2022) shows that such a change reorders methods",
)
HARD_QUICK = dataclasses.replace(
    HARD,
    name="hard-quick",
    epochs=300,
    source="hard with 300 epochs instead of 1000: for a first look, not comparable with published numbers",
)
QUICK = dataclasses.replace(
    HARD,
    name="quick",
    epochs=30,
    batch_size=10,
    learning_rate=0.03,
    schedule="cosine",
    source="ours: seconds on a CPU, to see that everything works; not comparable with published numbers",
)
DMIS = dataclasses.replace(
    HARD,
    name="dmis",
    network="resnet34",
    epochs=300,
    batch_size=64,
    schedule="cosine",
    source="DMIS, Section 5: ResNet-34 with a 3x3 stem. The paper leaves open and we set: instance norm as in DC's "
    "code, hard labels, SGD 0.01 along a cosine for 300 epochs in batches of 64, DSA augmentation, last epoch",
)
SOFT = Protocol(
    name="soft",
    version=2,
    network="convnet3-bn",
    epochs=300,
    batch_size=50,
    optimizer="adamw",
    learning_rate=1e-3,
    momentum=0.0,
    weight_decay=0.01,
    schedule="cosine",
    augmentation="crop_flip",
    operations="all",
    mixing="cutmix",
    labels="teacher",
    temperature=20.0,
    reported="last epoch",
    source="RDED (Sun et al. 2024): ConvNet-3 with batch norm, 300 epochs of AdamW, flip, CutMix, KL at temperature 20 "
    "without its square, the teacher beside the set asked about every mixed image. Other than there: a set without a "
    "teacher goes by one fixed label an image, mixed by area; batches of 50 at every IPC; cosine to 0 and crop as "
    "SRe2L (Yin et al. 2023); weight decay on all parameters; last epoch, not the best",
)
SOFT_STORED = dataclasses.replace(
    SOFT,
    name="soft-stored",
    version=1,
    labels="soft",
    source="soft without a teacher: one fixed label an image, mixed by area, so that a set is all that training needs",
)
PROTOCOLS: dict[str, Protocol] = {
    rules.name: rules
    for rules in (HARD, HARD_QUICK, HARD_ADAM, HARD_AS_LEARNED, STORED_LABELS, QUICK, SOFT, SOFT_STORED, DMIS)
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        UserError: no protocol has this name.
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(str(name), PROTOCOLS, n=3, cutoff=0.3) or list(PROTOCOLS)
        raise UserError(f'no protocol is called "{name}"; nearest: {", ".join(close)}.')
    return PROTOCOLS[name]

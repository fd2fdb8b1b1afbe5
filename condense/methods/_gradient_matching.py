"""Learning images whose gradients resemble those of real ones: the algorithm of `dc` and `dsa`.

For each iteration, with a fresh network θ, `outer` times: one step of SGD on the images S along

    Σ_y D(∇_θ L(S_y; θ), ∇_θ L(T_y; θ)),

with T_y a batch of real images of class y and D of `_matching.gradient_distance`; then, except after the last one,
`inner` epochs of SGD on θ with S as its data. Under `dsa` S_y and T_y pass through one augmentation, and the network
is trained on augmented S.

Images should have 16 pixels per side or more: below, ConvNet-3's last instance norm gets maps of 2x2, whose gradients
are useless (docs/decisions.md).
Sources: Zhao, Mopuri & Bilen (2021), Algorithm 1, https://arxiv.org/abs/2006.05929; Zhao & Bilen (2021),
https://arxiv.org/abs/2102.08259.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, Teaching, fit, has_batch_norm
from condense.data.types import TrainingSet
from condense.machine import best_device
from condense.methods._augmentation import augmentation_for, per_image
from condense.methods._by_ipc import nearest_row
from condense.methods._learn import Learning, PackedOptions, Synthetic, identity
from condense.methods._matching import (
    FROZEN_FROM,
    freeze_batch_norm,
    gradient_distance,
    target_gradients,
    weight_gradients,
)
from condense.methods._members import drawn
from condense.methods._pairs import Pairs, check_images, update
from condense.methods._pixels import UNIT_RANGE, RealImages, check_single_labels, initial_images, to_unit_pixels
from condense.precision import arithmetic, wants_bf16
from condense.preprocessing import standardisation
from condense.run import JSON, Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet

Start = Literal["noise", "real"]


@dataclass(frozen=True)
class Loops:
    """Steps on the images per iteration, and epochs of the network between two of them."""

    outer: int
    inner: int


PUBLISHED_LOOPS = {
    1: Loops(1, 1),  # one step on the images: the network is never trained
    10: Loops(10, 50),
    20: Loops(20, 25),
    30: Loops(30, 20),
    40: Loops(40, 15),
    50: Loops(50, 10),
}
"""Settings by ipc, as in the public code of DC and DSA."""


class GradientMatchingOptions(PackedOptions):
    """Options of `dc` and `dsa`; empty ones depend on ipc."""

    iterations: int = Field(1000, ge=1, description="fresh networks")
    outer: int | None = Field(None, ge=1, description="steps on the images per iteration; by ipc when empty")
    inner: int | None = Field(None, ge=1, description="epochs of the network between two of them; by ipc when empty")
    lr_img: float = Field(0.1, gt=0, description="learning rate of the images, in normalised space")
    lr_net: float = Field(0.01, gt=0, description="learning rate of the network, plain SGD")
    real_batch: int = Field(256, ge=1, description="real images per class and step")
    net_batch: int = Field(256, ge=1, description="learned images per step of the network")

    def loops(self, table: Mapping[int, Loops], ipc: int) -> tuple[Loops, dict[str, JSON]]:
        """The loops set, else the table's, and a note of them."""
        row, by_ipc = nearest_row(table, ipc)
        loops = Loops(self.outer or by_ipc.outer, self.inner or by_ipc.inner)
        given = self.outer is not None and self.inner is not None
        return loops, {"outer": loops.outer, "inner": loops.inner, "loops_of_ipc": None if given else row}


def matching(train: TrainingSet, ipc: int, options: GradientMatchingOptions, loops: Loops) -> int:
    """Images that will pass through networks, real and learned, in the training of the networks too."""
    with torch.device("meta"):
        channels, side, _ = train.images.image_shape
        classes = train.images.num_classes
        network = networks.build(options.backbone, in_channels=channels, image_size=side, num_classes=classes, seed=0)
    learned = classes * ipc * options.pack**2
    step = drawn(train, options.real_batch) + learned
    step += drawn(train, FROZEN_FROM) if has_batch_norm(network) else 0
    return options.iterations * (loops.outer * step + (loops.outer - 1) * loops.inner * learned)


@dataclass(frozen=True)
class MatchingMethod:
    """What distinguishes one method of gradient matching from another.

    Attributes:
        method: its name, for the record.
        start: where the images start.
        loops: the loops of an iteration.
        augment: a strategy of `condense.augment`, or "none".
        notes: for the record.
    """

    method: str
    start: Start
    loops: Loops
    augment: str
    notes: Mapping[str, JSON]


def match_gradients(
    train: TrainingSet, ipc: int, options: GradientMatchingOptions, seed: int, run: Run, variant: MatchingMethod
) -> CondensedSet:
    """Learn `ipc` images per class.

    Args:
        train: images with one label each.
        ipc: images per class.
        options: the method's options.
        seed: random seed.
        run: takes progress and checkpoints.
        variant: the method.

    Raises:
        UserError: labels are partial or missing, a class has too few images, or the checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc, train)
    check_single_labels(train)
    preprocessing = standardisation(train.images.images)
    least, patches = (ipc, options.pack**2) if variant.start == "real" else (1, 1)
    reals = RealImages(train, preprocessing, least, best_device(), patches=patches)
    computed = arithmetic(options.precision, reals.device)
    start = initial_images(reals, ipc, variant.start, seed, options.pack)
    synthetic = Synthetic(start, ipc, options.lr_img, pack=options.pack)
    strategy = augmentation_for(variant.augment, train.images)
    pairs = Pairs(reals, synthetic, options.real_batch, strategy, seed)
    learning = Learning(
        run,
        identity(train, ipc, options, seed, variant.method),
        synthetic,
        GradientMatching(pairs, options, variant.loops),
        steps=options.iterations * variant.loops.outer,
        checkpoint_every=options.checkpoint_every,
    )
    learning.finish()
    return assemble(
        train,
        to_unit_pixels(synthetic.images, preprocessing),
        Making(
            variant.method,
            ipc,
            options,
            seed,
            cost=learning.cost(),
            notes={**variant.notes, "augmentation": strategy, "arithmetic": computed.to_json()},
            pack=options.pack,
        ),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
    )


class GradientMatching:
    """One step: train the current network on the images unless it is fresh, then one step on the images.

    Args:
        pairs: the batches compared.
        options: the method's options.
        loops: loops of an iteration.
    """

    def __init__(self, pairs: Pairs, options: GradientMatchingOptions, loops: Loops) -> None:
        self.pairs, self.options, self.loops = pairs, options, loops
        self.bf16 = wants_bf16(options.precision, pairs.reals.device)
        self.network = pairs.fresh_network(options.backbone, 0)

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the sum of the distances of all classes as "loss"."""
        iteration, outer = divmod(step, self.loops.outer)
        if outer == 0:
            self.network = self.pairs.fresh_network(self.options.backbone, iteration)
        else:
            self._train_network(step)
        if has_batch_norm(self.network):
            freeze_batch_norm(self.network, self.pairs.for_batch_norm(FROZEN_FROM, step))
        distances = []
        for y, real, learned in self.pairs.of_step(step):
            target = target_gradients(self.network, real, y, bf16=self.bf16)
            distance = gradient_distance(weight_gradients(self.network, learned, y), target)
            # Class by class, so that only one graph is kept; a class's distance depends on its own images alone.
            torch.autograd.backward(distance, inputs=[self.pairs.synthetic.images])
            distances.append(distance.detach())
        return update(self.pairs, distances, step)

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """The network's weights."""
        return dict(self.network.state_dict()), {}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], step: int) -> None:
        """Continue with the network of the last step."""
        self.network.load_state_dict(tensors)

    def _train_network(self, step: int) -> None:
        """`inner` epochs on the current images."""
        synthetic = self.pairs.synthetic
        options = FitOptions(
            epochs=self.loops.inner,
            batch_size=self.options.net_batch,
            learning_rate=self.options.lr_net,
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
            bf16=self.bf16,
            rate_name="lr_net",
        )
        images = synthetic.pictures().detach()
        check_images(synthetic, step)
        for _ in fit(
            self.network,
            images,
            synthetic.labels,
            options,
            seed=rng.derive(self.pairs.seed, "train network", step),
            teaching=Teaching(per_image(self.pairs.strategy)),
            device=images.device,
        ):
            synthetic.count(0, len(images))

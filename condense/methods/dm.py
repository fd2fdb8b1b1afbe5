"""DM: learned images whose mean features in fresh untrained networks match those of real images.

For each iteration, with a fresh network with penultimate features f, one step of SGD on the images S along

    Σ_y ‖ mean f(A(T_y)) - mean f(A(S_y)) ‖²,

with T_y a batch of real images of class y and A one random augmentation for both. With batch norm, all T_y pass
together and so do all S_y, as in the public code: with frozen statistics, as for gradients, images grow without bound.
Source: Zhao & Bilen (2023), "Dataset Condensation with Distribution Matching", Eq. 4 and 5,
https://arxiv.org/abs/2110.04181. The defaults are those of the authors' public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from condense.augment import DSA
from condense.classifiers.fit import has_batch_norm
from condense.data.types import TrainingSet
from condense.machine import best_device
from condense.methods._augmentation import augmentation_for, check_augmentation
from condense.methods._by_ipc import nearest_row
from condense.methods._learn import Learning, LearnOptions, Synthetic, identity
from condense.methods._matching import mean_features
from condense.methods._members import drawn
from condense.methods._pairs import Pairs, check_finite
from condense.methods._pixels import UNIT_RANGE, RealImages, check_single_labels, initial_images, to_unit_pixels
from condense.precision import arithmetic, wants_bf16
from condense.preprocessing import standardisation
from condense.run import JSON, Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet

LR_IMG = {1: 1.0, 50: 1.0, 100: 10.0}
"""By images per class."""


class Options(LearnOptions):
    """Options of distribution matching; `lr_img` follows the row of LR_IMG nearest to ipc."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 20, "real_batch": 32}

    iterations: int = Field(20_000, ge=1, description="fresh networks, one step on the images each")
    lr_img: float | None = Field(None, gt=0, description="learning rate of the images; by ipc when empty")
    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")
    real_batch: int = Field(256, ge=1, description="real images per class and step")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        DSA,
        description="operations, joined by _, of which one is drawn per class and step; flip only as data.flip allows",
    )


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return options.iterations * (drawn(train, options.real_batch) + train.images.num_classes * ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by matching mean features.

    Raises:
        UserError: labels are partial or missing, a class has too few images, or the checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc)
    check_single_labels(train)
    row, by_ipc = nearest_row(LR_IMG, ipc)
    lr_img = options.lr_img or by_ipc
    preprocessing = standardisation(train.images.images)
    reals = RealImages(train, preprocessing, ipc if options.init == "real" else 1, best_device())
    computed = arithmetic(options.precision, reals.device)
    synthetic = Synthetic(initial_images(reals, ipc, options.init, seed), ipc, lr_img)
    strategy = augmentation_for(options.augment, train.images)
    pairs = Pairs(reals, synthetic, options.real_batch, strategy, seed)
    learning = Learning(
        run,
        identity(train, ipc, options, seed, "dm"),
        synthetic,
        DistributionMatching(pairs, options),
        steps=options.iterations,
        checkpoint_every=options.checkpoint_every,
    )
    learning.finish()
    return assemble(
        train,
        to_unit_pixels(synthetic.images, preprocessing),
        Making(
            "dm",
            ipc,
            options,
            seed,
            cost=learning.cost(),
            notes={
                "lr_img": lr_img,
                "lr_img_of_ipc": None if options.lr_img else row,
                "augmentation": strategy,
                "arithmetic": computed.to_json(),
            },
        ),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
    )


class DistributionMatching:
    """One step with a fresh network; there is no state to keep."""

    def __init__(self, pairs: Pairs, options: Options) -> None:
        self.pairs, self.options = pairs, options
        self.bf16 = wants_bf16(options.precision, pairs.reals.device)

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the sum of the squared distances of all classes as "loss"."""
        network = self.pairs.fresh_network(self.options.backbone, step).requires_grad_(False)
        classes = self.pairs.of_step(step)
        # Batch norm needs all classes at once; else one at a time keeps less in memory.
        groups = [list(classes)] if has_batch_norm(network) else ([one] for one in classes)
        distances = []
        for group in groups:
            with torch.no_grad():
                target = mean_features(network, [real for _, real, _ in group], bf16=self.bf16)
            distance = (mean_features(network, [learned for _, _, learned in group]) - target).square().sum()
            distance.backward()  # type: ignore[no-untyped-call]
            distances.append(distance.detach())
        loss = sum(torch.stack(distances).tolist())
        check_finite(loss, self.pairs.synthetic, step)
        self.pairs.synthetic.update()
        return {"loss": loss}

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Nothing."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], step: int) -> None:
        """Nothing to do."""

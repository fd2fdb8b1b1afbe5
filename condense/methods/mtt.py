"""MTT: learned images on which a student trains along the path of experts trained on the real images.

Experts are trained first (`_experts`). Each iteration then picks one and an epoch t < T⁺, trains a student from the
expert's parameters at t for N steps on the images, at a learned rate, and updates images and rate so that it ends
nearer to the expert's parameters at t + M (`_unroll`).

The rate is stored with the set; the protocol hard-as-learned trains students at it, as the public code does.

Departures from the public code: an expert is trained only for the epochs that are used, T⁺ - 1 + M, instead of 50,
which at a constant learning rate gives the same snapshots; images above 32x32x3 are not whitened unless asked for.
Source: Cazenavette, Wang, Torralba, Efros & Zhu (2022), "Dataset Distillation by Matching Training Trajectories",
https://arxiv.org/abs/2203.11932. The defaults are those of its public code for CIFAR-10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field

from condense import rng
from condense.augment import DSA
from condense.classifiers.fit import FitOptions
from condense.data.types import TrainingSet
from condense.machine import best_device
from condense.methods._augmentation import augmentation_for, check_augmentation, per_image
from condense.methods._by_ipc import nearest_row
from condense.methods._experts import Experts, Snapshots, expert_folder, train_experts
from condense.methods._learn import Learning, LearnOptions, Synthetic, identity
from condense.methods._pixels import (
    UNIT_RANGE,
    RealImages,
    check_single_labels,
    initial_images,
    to_unit_pixels,
    whitening,
)
from condense.methods._trajectories import Students, TrajectoryLengths, TrajectoryMatching
from condense.precision import arithmetic, wants_bf16
from condense.preprocessing import standardisation
from condense.run import JSON, Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost

LARGEST_WHITENED = 32 * 32 * 3  # values per image; ZCA's matrices hold its square


ROWS = {
    1: TrajectoryLengths(50, 2, 2, 100.0, 1e-7, 0.01, True),
    10: TrajectoryLengths(30, 2, 20, 100.0, 1e-5, 0.001, True),
    50: TrajectoryLengths(30, 2, 40, 1000.0, 1e-5, 0.001, False),
}


class Options(LearnOptions):
    """Options of trajectory matching; empty ones follow the row of ROWS nearest to ipc."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        "iterations": 4,
        "experts": 2,
        "student_steps": 3,
        "start_epochs": 2,
        "expert_gap": 1,
    }
    FREE: ClassVar[frozenset[str]] = LearnOptions.FREE | {"lr_img", "lr_lr", "expert_folder"}

    iterations: int = Field(5000, ge=1, description="students")
    experts: int = Field(100, ge=1, description="networks trained on the real images")
    expert_lr: float = Field(0.01, gt=0, description="learning rate of the experts, plain SGD")
    expert_batch: int = Field(256, ge=1, description="real images per step of an expert")
    expert_folder: Path | None = Field(
        None, description="folder of experts shared with runs of other sizes; the run folder when empty"
    )
    student_steps: int | None = Field(None, ge=1, description="N, steps of a student; by ipc when empty")
    student_batch: int | None = Field(
        None, ge=1, description="learned images per step; all of them when empty or fewer"
    )
    expert_gap: int | None = Field(None, ge=1, description="M, the expert's epochs to match; by ipc when empty")
    start_epochs: int | None = Field(None, ge=1, description="T+, students start before it; by ipc when empty")
    lr_img: float | None = Field(None, gt=0, description="learning rate of the images; by ipc when empty")
    lr_lr: float | None = Field(None, ge=0, description="learning rate of the student's rate; by ipc when empty")
    lr_init: float | None = Field(None, gt=0, description="the student's initial learning rate; by ipc when empty")
    zca: bool | None = Field(None, description="whether images are whitened; by ipc and image size when empty")
    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        DSA,
        description="operations, joined by _, of which one is drawn per batch; flip only as data.flip allows",
    )

    def row(self, ipc: int, values: int) -> tuple[int, TrajectoryLengths]:
        """The options, empty ones filled from the table for images of this many values, and the table's ipc."""
        known, row = nearest_row(ROWS, ipc)
        row = replace(row, zca=row.zca and values <= LARGEST_WHITENED)
        asked = {name: getattr(self, name) for name in asdict(row) if getattr(self, name) is not None}
        return known, replace(row, **asked)

    def batch_of(self, images: int) -> int:
        """Learned images per step of a student, if there are `images` in all."""
        return images if self.student_batch is None else min(self.student_batch, images)


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks: experts, and students in both sweeps, their last step once."""
    return sum(images for _, images in stages(train, ipc, options))


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    _, row = options.row(ipc, math.prod(train.images.image_shape))
    student = (2 * row.student_steps - 1) * options.batch_of(train.images.num_classes * ipc)
    experts = options.experts * _expert_epochs(row) * len(train)
    return [("experts", experts), ("learning images", options.iterations * student)]


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Train the experts, then learn `ipc` images per class and the learning rate for training on them.

    Raises:
        UserError: labels are partial or missing, a class has too few images, or the checkpoint is another run's.
        RunFailed: an expert or the matching diverged, or the student's rate would become zero or negative.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc, train)
    check_single_labels(train)
    known, row = options.row(ipc, math.prod(train.images.image_shape))
    preprocessing = whitening(train.images) if row.zca else standardisation(train.images.images)
    reals = RealImages(train, preprocessing, ipc if options.init == "real" else 1, best_device())
    computed = arithmetic(options.precision, reals.device)
    synthetic = Synthetic(initial_images(reals, ipc, options.init, seed), ipc, row.lr_img)
    strategy = augmentation_for(options.augment, train.images)
    experts = _experts(reals, options, row, strategy, seed)
    identified = _expert_identity(train, options, row, experts.options, strategy, seed)
    snapshots = Snapshots(expert_folder(run, options.expert_folder, identified))
    students = Students(options.backbone, row, options.batch_of(len(synthetic.images)), strategy)
    task = TrajectoryMatching(reals, synthetic, snapshots, options.experts, students, seed)
    learning = Learning(
        run,
        identity(train, ipc, options, seed, "mtt"),
        synthetic,
        task,
        steps=options.iterations,
        checkpoint_every=options.checkpoint_every,
    )
    if learning.fresh and options.expert_folder is None:
        snapshots.clear()
    seconds = train_experts(experts, snapshots, run)
    learning.finish()
    return assemble(
        train,
        to_unit_pixels(synthetic.images, preprocessing),
        Making(
            "mtt",
            ipc,
            options,
            seed,
            cost=_with_experts(learning.cost(), seconds, len(reals) * options.experts * _expert_epochs(row)),
            notes={
                "learned_rate": float(task.rate),
                **asdict(row),
                "row_of_ipc": known,
                "rates_from_step": task.rates,
                "augmentation": strategy,
                "arithmetic": computed.to_json(),
            },
        ),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
    )


def _expert_epochs(row: TrajectoryLengths) -> int:
    """The last epoch a student may be matched to."""
    return row.start_epochs - 1 + row.expert_gap


def _with_experts(cost: Cost, seconds: float, shown: int) -> Cost:
    """The cost of matching plus that of experts trained for so long on so many images."""
    return replace(
        cost,
        seconds=cost.seconds + seconds,
        network_evaluations=cost.network_evaluations + shown,
        images_seen=cost.images_seen + shown,
    )


def _experts(reals: RealImages, options: Options, row: TrajectoryLengths, strategy: str | None, seed: int) -> Experts:
    """The networks whose trajectories are matched, not yet trained."""
    return Experts(
        options.experts,
        lambda expert: reals.network(options.backbone, rng.derive(seed, "expert network", expert)),
        reals[:],
        reals.labels,
        _expert_options(options, row, reals.device),
        per_image(strategy),
        seed,
    )


def _expert_identity(
    train: TrainingSet, options: Options, row: TrajectoryLengths, how: FitOptions, strategy: str | None, seed: int
) -> dict[str, JSON]:
    """Everything an expert's snapshots depend on, except the numbers of epochs and experts."""
    return {
        **train.identity(),
        "seed": seed,
        "backbone": options.backbone,
        "zca": row.zca,
        "augmentation": strategy,
        "learning_rate": how.learning_rate,
        "batch_size": how.batch_size,
        "bf16": how.bf16,
    }


def _expert_options(options: Options, row: TrajectoryLengths, device: torch.device) -> FitOptions:
    return FitOptions(
        epochs=_expert_epochs(row),
        batch_size=options.expert_batch,
        learning_rate=options.expert_lr,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        bf16=wants_bf16(options.precision, device),
        rate_name="expert_lr",
    )

"""Out-of-fold predictions: each image is judged by a classifier that never saw its label.

A network eventually memorises wrong labels; one trained on other images cannot.
Source: Northcutt, Jiang & Chuang (2021), https://arxiv.org/abs/1911.00068, Section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import FitOptions, fit, predict
from condense.errors import UserError
from condense.json_values import whole
from condense.options import Options
from condense.precision import fast_bf16
from condense.preprocessing import NormalisedImages, standardisation
from condense.processes import Agree, seconds_together, shared
from condense.resumable import Loop, LoopPlan, State, Step
from condense.run import JSON, Run

FILE = "out-of-fold"
BAR = "judging labels"


class FoldOptions(Options):
    """The classifier that judges labels, trained once per fold on the images outside it."""

    QUICK: ClassVar[Mapping[str, Any]] = {"folds": 2, "epochs": 1}

    folds: int = Field(5, ge=2, description="number of folds; 5 is cleanlab's default")
    network: str = Field(
        "convnet3-bn", description="classifier, see `dmis evaluate --network`; batch norm needs fewer epochs"
    )
    epochs: int = Field(20, ge=1, description="epochs; few, since wrong labels are learned last")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of AdamW at the start; falls along a cosine")


def out_of_fold(
    images: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.float32],
    options: FoldOptions,
    seed: int,
    run: Run,
    *,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, float]:
    """p(y | x) of every image by the classifier of its fold. Finished folds are kept in the run folder.

    Torchrun's processes share the folds.

    Args:
        images: uint8 [n, H, W, C].
        targets: each image's label as probabilities, rows summing to 1, or to 0 for images to be judged only: [n, c].
        options: see `FoldOptions`.
        seed: seed of the folds, the weights and the batches.
        run: its folder keeps finished folds, so that the same call resumes after a stop.
        device: device to train on.

    Returns:
        Probabilities, float32 [n, c] on the CPU, and the seconds they took.

    Raises:
        UserError: fewer labelled images than folds, an unknown network, or the kept folds are of other data.
        Interrupted: stopped by Ctrl-C; the finished folds are saved.
    """
    device = torch.device(device)
    labelled = np.flatnonzero(targets.sum(1) > 0)
    if len(labelled) < options.folds:
        raise UserError(f"{len(labelled)} labelled images cannot be divided into {options.folds} folds; lower folds.")
    identity: dict[str, JSON] = {
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "data": _fingerprint(images, targets),
    }
    preprocessing, y = standardisation(images), torch.from_numpy(targets).float()
    fold, known = torch.from_numpy(fold_of(len(images), options.folds, seed)), torch.from_numpy(labelled)

    def judged(k: int, agree: Agree) -> tuple[Tensor, float]:
        outside, inside = known[fold[known] != k], fold == k
        x, held = (NormalisedImages(images[rows.numpy()], preprocessing) for rows in (outside, inside))
        judging = _Judging(k, x, y[outside], held, options, seed, device)
        plan = LoopPlan(
            BAR,
            options.epochs,
            options.epochs,
            counter=None,
            place=lambda _: f"in fold {k + 1} of {options.folds}",
            kept="the finished folds are",
            by_one=True,
        )
        loop = Loop(run, plan)
        loop.resume(f"{FILE}-{k}", judging, identity, "judgement of the folds in this run folder")
        loop.finish(judging.epochs(), agree)
        return judging.probabilities, loop.seconds

    probabilities, found = torch.zeros(y.shape), shared(range(options.folds), judged, run)
    for k, (inside_k, _) in enumerate(found):
        probabilities[fold == k] = inside_k
    return probabilities, seconds_together([seconds for _, seconds in found])


class _Judging:
    """The training of fold `k`'s classifier on x [m, C, H, W] and y [m, c], and what it makes of those inside.

    Attributes:
        probabilities: p(y | x) of the images `inside`, zero until it is trained: float32 [b, c].
        done: epochs trained, none or all.
    """

    def __init__(
        self,
        k: int,
        x: NormalisedImages,
        y: Tensor,
        inside: NormalisedImages,
        options: FoldOptions,
        seed: int,
        device: torch.device,
    ) -> None:
        self.k, self.x, self.y, self.inside = k, x, y, inside
        self.options, self.seed, self.device = options, seed, device
        self.probabilities, self.done = torch.zeros(len(inside), y.shape[1]), 0

    def epochs(self) -> Iterator[Step]:
        """Train unless done, yielding after every epoch; the fold is judged before the last one is yielded."""
        if self.done:
            return
        how = _fit_options(self.options, self.device)
        network = networks.build(
            self.options.network,
            in_channels=self.x.shape[1],
            image_size=self.x.shape[2],
            num_classes=self.y.shape[1],
            seed=rng.derive(self.seed, "fold", self.k),
        )
        order = rng.derive(self.seed, "fold-order", self.k)
        for epoch in fit(network, self.x, self.y, how, seed=order, device=self.device):
            if epoch.epoch == self.options.epochs:
                self.probabilities, self.done = predict(network, self.inside, bf16=how.bf16).softmax(1), epoch.epoch
            yield Step(epoch.epoch, {"loss": epoch.loss})

    def state(self) -> State:
        """The probabilities."""
        return {"probabilities": self.probabilities}, {"done": self.done}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Take up a finished fold, or begin it."""
        found = tensors["probabilities"]
        if found.shape != self.probabilities.shape or not bool(found.isfinite().all()):
            raise ValueError(f"probabilities [b, c] must be finite numbers {list(self.probabilities.shape)}")
        self.probabilities, self.done = found, whole(meta, "done")
        return self.done


def fold_of(n: int, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each of n images: int64 [n] in [0, folds), sizes differing by one at most."""
    return np.random.default_rng(rng.derive(seed, "folds")).permutation(np.arange(n) % folds)


def unjudged(candidates: npt.NDArray[np.bool_], fold: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Images whose classifier learned from no image of any of their candidates, so that it says nothing about these.

    Args:
        candidates: bool [n, c]; rows of False or of True only are images without a label.
        fold: the fold of each image, int64 [n].

    Returns:
        Bool [n]; False for images without a label.
    """
    labelled = candidates & ~candidates.all(1, keepdims=True)
    inside = np.zeros((int(fold.max()) + 1, candidates.shape[1]), dtype=np.int64)
    np.add.at(inside, fold, labelled)
    learned = labelled.sum(0) > inside
    return np.asarray(labelled.any(1) & ~(labelled & learned[fold]).any(1))


def _fit_options(options: FoldOptions, device: torch.device) -> FitOptions:
    return FitOptions(
        options.epochs,
        options.batch_size,
        "adamw",
        options.learning_rate,
        weight_decay=0.01,
        schedule="cosine",
        bf16=fast_bf16(device),
        rate_name="the folds' learning_rate",
    )


def _fingerprint(images: npt.NDArray[np.uint8], targets: npt.NDArray[np.float32]) -> str:
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(targets).data)
    return digest.hexdigest()

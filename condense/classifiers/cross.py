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
from condense.preprocessing import planes, standardisation
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
    judging = _Judging(images, targets, options, seed, device)
    plan = LoopPlan(
        BAR,
        options.folds * options.epochs,
        options.epochs,
        counter=None,
        place=lambda done: f"in fold {(done - 1) // options.epochs + 1} of {options.folds}",
        kept="the finished folds are",
    )
    loop = Loop(run, plan)
    loop.resume(FILE, judging, identity, "judgement of the folds in this run folder")
    loop.finish(judging.epochs())
    return judging.probabilities, loop.seconds


class _Judging:
    """The folds in turn, and the probabilities of their classifiers."""

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        targets: npt.NDArray[np.float32],
        options: FoldOptions,
        seed: int,
        device: torch.device,
    ) -> None:
        self.options, self.seed, self.device = options, seed, device
        pixels = planes(images).float() / 255
        self.x, self.y = standardisation(images).normalise(pixels), torch.from_numpy(targets).float()
        self.labelled = torch.from_numpy(np.flatnonzero(targets.sum(1) > 0))
        self.fold = torch.from_numpy(fold_of(len(images), options.folds, seed))
        self.probabilities, self.done = torch.zeros(self.y.shape), 0

    def epochs(self) -> Iterator[Step]:
        """Train the remaining folds, yielding after every epoch; a fold is judged before its last epoch is yielded."""
        epochs, how = self.options.epochs, _fit_options(self.options, self.device)
        for k in range(self.done, self.options.folds):
            outside = self.labelled[self.fold[self.labelled] != k]
            network = networks.build(
                self.options.network,
                in_channels=self.x.shape[1],
                image_size=self.x.shape[2],
                num_classes=self.y.shape[1],
                seed=rng.derive(self.seed, "fold", k),
            )
            order = rng.derive(self.seed, "fold-order", k)
            for epoch in fit(network, self.x[outside], self.y[outside], how, seed=order, device=self.device):
                if epoch.epoch == epochs:
                    inside = self.fold == k
                    self.probabilities[inside] = predict(network, self.x[inside], bf16=how.bf16).softmax(1)
                    self.done = k + 1
                yield Step(k * epochs + epoch.epoch, {"loss": epoch.loss})

    def state(self) -> State:
        """The probabilities of the finished folds."""
        return {"probabilities": self.probabilities}, {"done": self.done}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON]) -> int:
        """Continue after the last finished fold."""
        found = tensors["probabilities"]
        if found.shape != self.y.shape or not bool(found.isfinite().all()):
            raise ValueError(f"probabilities [n, c] must be finite numbers {list(self.y.shape)}")
        self.probabilities, self.done = found, whole(meta, "done")
        return self.done * self.options.epochs


def fold_of(n: int, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each of n images: int64 [n] in [0, folds), sizes differing by one at most."""
    return np.random.default_rng(rng.derive(seed, "folds")).permutation(np.arange(n) % folds)


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
    digest.update(np.ascontiguousarray(images).tobytes() + np.ascontiguousarray(targets).tobytes())
    return digest.hexdigest()

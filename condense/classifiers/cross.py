"""Out-of-fold predictions: each image is judged by a classifier that never saw its label.

A network fits wrong labels in the end, and then believes them; one that was trained on other images cannot.
Source: Northcutt, Jiang & Chuang (2021), https://arxiv.org/abs/1911.00068, Section 3.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
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
from condense.machine import is_worker
from condense.options import Options
from condense.precision import fast_bf16
from condense.preprocessing import planes, standardisation
from condense.run import JSON, Run, as_described, interrupt_guard

FILE = "out-of-fold"
BAR = "judging labels"


class FoldOptions(Options):
    """The classifier that judges labels, trained once a fold on the images outside it."""

    QUICK: ClassVar[Mapping[str, Any]] = {"folds": 2, "epochs": 1}

    folds: int = Field(5, ge=2, description="parts the images are divided into; 5 is cleanlab's own default")
    network: str = Field(
        "convnet3-bn", description="classifier, see `dmis evaluate --network`; batch norm learns in fewer passes"
    )
    epochs: int = Field(20, ge=1, description="passes over the images; few, since wrong labels are learnt last")
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
        targets: what each image's label says, rows summing to 1, or to 0 for images to be judged only: [n, c].
        options: see `FoldOptions`.
        seed: of the folds, the weights and the batches.
        run: its folder keeps finished folds, so that the same call goes on after a stop.
        device: where to train.

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
    pixels = planes(images).float() / 255
    x, y = standardisation(images).normalise(pixels), torch.from_numpy(targets).float()
    fold = torch.from_numpy(fold_of(len(images), options.folds, seed))
    identity: dict[str, JSON] = {
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "data": _fingerprint(images, targets),
    }
    probabilities, done, seconds = _kept(run, identity, y.shape)
    total, started = options.folds * options.epochs, time.perf_counter()
    with interrupt_guard() as guard, run.track(total, BAR, done * options.epochs) as tracker:
        for k in range(done, options.folds):
            outside = torch.from_numpy(labelled)[fold[labelled] != k]
            network = networks.build(
                options.network,
                in_channels=x.shape[1],
                image_size=x.shape[2],
                num_classes=y.shape[1],
                seed=rng.derive(seed, "fold", k),
            )
            how = _fit_options(options, device)
            order = rng.derive(seed, "fold-order", k)
            for epoch in fit(network, x[outside], y[outside], how, seed=order, device=device):
                tracker.update(k * options.epochs + epoch.epoch, loss=epoch.loss)
                if guard.requested:
                    raise run.stopped(f"in fold {k + 1} of {options.folds}", "the finished folds are")
            inside = fold == k
            probabilities[inside] = predict(network, x[inside], bf16=how.bf16).softmax(1)
            if not is_worker():
                spent = seconds + time.perf_counter() - started
                run.save(FILE, {"probabilities": probabilities}, {**identity, "done": k + 1, "seconds": spent})
    return probabilities, seconds + time.perf_counter() - started


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


def _kept(run: Run, identity: Mapping[str, JSON], shape: torch.Size) -> tuple[Tensor, int, float]:
    """Probabilities of the folds finished earlier, their number and the seconds they took."""
    found = run.load(FILE)
    if found is None:
        return torch.zeros(shape), 0, 0.0
    tensors, meta = found
    if any(meta.get(key) != value for key, value in identity.items()):
        raise UserError(f"{run.path} keeps folds of other data, labels, options or seed; start over with --force.")
    with as_described(run.file(FILE)):
        if tensors["probabilities"].shape != shape or not bool(tensors["probabilities"].isfinite().all()):
            raise ValueError(f"probabilities [n, c] must be finite numbers {list(shape)}")
        return tensors["probabilities"], int(meta["done"]), float(meta["seconds"])

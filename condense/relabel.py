"""Repairing labels before a method sees them: the clean-then-condense arm."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from condense.classifiers.cross import FoldOptions, out_of_fold
from condense.data.types import Corruption, Labels, Supervision, TrainingSet, Truth
from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.stages import Beliefs, beliefs
from condense.run import Run


def repaired_by(generator: Generator, train: TrainingSet, seed: int, run: Run) -> tuple[TrainingSet, Beliefs]:
    """Each image's label replaced by the likeliest class given image and label, argmax p(y | x, z).

    Returns the relabelled data and the beliefs, which `run` keeps (see `beliefs`).

    Raises `UserError` where the generator was made for other classes or image sizes.
    """
    believed = beliefs(generator, train, seed, run)
    return _relabelled(train, believed.posterior.argmax(1), "dmis"), believed


def repaired_by_oracle(truth: Truth, train: TrainingSet) -> TrainingSet:
    """True labels in place of the given ones: an upper bound for comparisons, marked as such everywhere."""
    return _relabelled(train, truth.labels, "oracle")


def repaired_by_cleanlab(
    train: TrainingSet, options: FoldOptions, seed: int, run: Run, *, device: torch.device | str = "cpu"
) -> tuple[TrainingSet, float]:
    """Labels that confident learning takes for wrong replaced by the likeliest class of an out-of-fold classifier.

    Source: Northcutt, Jiang & Chuang (2021), https://arxiv.org/abs/1911.00068, in cleanlab's `find_label_issues`.
    Trusted labels stay.

    Returns:
        The same images with other labels, and the seconds the classifiers took.

    Raises:
        UserError: as `check_cleanlab` and `out_of_fold`.
        Interrupted: stopped by Ctrl-C after the finished folds were saved.
    """
    check_cleanlab(train.supervision)
    from cleanlab.filter import find_label_issues

    given = train.supervision.observed
    targets = train.supervision.candidates.astype(np.float32)
    judged, seconds = out_of_fold(train.images.images, targets, options, seed, run, device=device)
    probabilities = judged.numpy()
    doubted = find_label_issues(given, probabilities, n_jobs=1) & ~train.supervision.trusted
    return _relabelled(train, np.where(doubted, probabilities.argmax(1), given), "cleanlab"), seconds


def check_cleanlab(supervision: Supervision) -> None:
    """Raise `UserError` where cleanlab is not installed or an image has no single label for it to doubt."""
    if importlib.util.find_spec("cleanlab") is None:
        raise UserError("cleanlab is not installed; pip install 'dmis[noise]', or use --clean-first dmis.")
    several = int((~supervision.single).sum())
    if several:
        raise UserError(
            f"cleanlab doubts single labels, and {several} of {len(supervision)} images have none or several; use "
            "--clean-first dmis."
        )


def _relabelled(train: TrainingSet, labels: Labels, by: str) -> TrainingSet:
    supervision = Supervision.from_labels(labels, train.images.num_classes, trusted=False)
    corruption = Corruption(f"{train.corruption.spec}, labels repaired by {by}", train.corruption.seed, None)
    return TrainingSet(train.images, supervision, corruption)

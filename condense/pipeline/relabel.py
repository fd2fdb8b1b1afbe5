"""Repairing labels before condensation: the clean-then-condense arm."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from condense.classifiers.cross import FoldOptions, fold_of, out_of_fold, unjudged
from condense.data.types import Beliefs, Corruption, Labels, Mask, Supervision, TrainingSet, Truth
from condense.errors import UserError
from condense.generator.model import Generator
from condense.generator.training.two_stage import KeptBeliefs, beliefs
from condense.pipeline.data import tell_of_unjudged
from condense.run import Run


def repaired_by(generator: Generator, train: TrainingSet, run: Run) -> tuple[TrainingSet, KeptBeliefs]:
    """Replace each image's label by the most likely class given image and label, argmax p(y | x, z).

    Returns the relabelled data, with these beliefs for methods that learn from them, and the beliefs with their cost,
    which `run` saves (see `beliefs`).

    Raises `UserError` if the generator was made for other classes or image sizes.
    """
    believed = beliefs(generator, train, run)
    return relabelled(train, believed.posterior.argmax(1), "dmis", believed.posterior), believed


def repaired_by_oracle(truth: Truth, train: TrainingSet) -> TrainingSet:
    """True labels in place of the given ones: an upper bound for comparisons, marked as such everywhere."""
    return relabelled(train, truth.labels, "oracle")


@dataclass(frozen=True, eq=False)
class Doubts:
    """The result of confident learning on single labels.

    Attributes:
        probabilities: p(y | x) of the out-of-fold classifiers, float32 [n, c].
        doubted: bool [n], labels judged wrong; never a trusted one, nor one not judged, see `cross.unjudged`.
        seconds: training time of the classifiers.
    """

    probabilities: npt.NDArray[np.float32]
    doubted: Mask
    seconds: float


def doubted_by_cleanlab(
    train: TrainingSet, options: FoldOptions, seed: int, run: Run, *, device: torch.device | str = "cpu"
) -> Doubts:
    """Find labels that confident learning judges wrong, using classifiers not trained on them.

    Source: Northcutt, Jiang & Chuang (2021), https://arxiv.org/abs/1911.00068, in cleanlab's `find_label_issues`.

    Raises:
        UserError: as `check_cleanlab` and `out_of_fold`.
        Interrupted: stopped by Ctrl-C after the finished folds were saved.
    """
    check_cleanlab(train.supervision)
    from cleanlab.filter import find_label_issues

    targets = train.supervision.candidates.astype(np.float32)
    judged, seconds = out_of_fold(train.images.images, targets, options, seed, run, device=device)
    probabilities = np.asarray(judged.numpy(), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="May not flag all label issues")  # told below, in our words
        issues = find_label_issues(train.supervision.observed, probabilities, n_jobs=1)
    left = unjudged(train.supervision.candidates, fold_of(len(train), options.folds, seed))
    tell_of_unjudged(left, train.supervision, train.images.classes)
    return Doubts(probabilities, issues & ~train.supervision.trusted & ~left, seconds)


def repaired_by_cleanlab(
    train: TrainingSet, options: FoldOptions, seed: int, run: Run, *, device: torch.device | str = "cpu"
) -> tuple[TrainingSet, float]:
    """Replace labels that confident learning judges wrong by the most likely class of an out-of-fold classifier.

    Trusted labels are kept. Raises as `doubted_by_cleanlab`.

    Returns:
        The same images with repaired labels, and the seconds to train the classifiers.
    """
    found = doubted_by_cleanlab(train, options, seed, run, device=device)
    suggested = np.where(found.doubted, found.probabilities.argmax(1), train.supervision.observed)
    return relabelled(train, suggested, "cleanlab"), found.seconds


def check_cleanlab(supervision: Supervision) -> None:
    """Raise `UserError` if cleanlab is not installed or an image has no single label."""
    if importlib.util.find_spec("cleanlab") is None:
        raise UserError("cleanlab is not installed; pip install 'dmis[noise]', or use --clean-first dmis.")
    several = int((~supervision.single).sum())
    if several:
        raise UserError(
            f"cleanlab works on single labels, but {several} of {len(supervision)} images have none or several; use "
            "--clean-first dmis."
        )


def relabelled(train: TrainingSet, labels: Labels, by: str, beliefs: Beliefs | None = None) -> TrainingSet:
    """The same images with one untrusted label each, int64 [n], and the beliefs from which the labels follow."""
    supervision = Supervision.from_labels(labels, train.images.num_classes, trusted=False)
    corruption = Corruption(f"{train.corruption.spec}, labels repaired by {by}", train.corruption.seed, None)
    return TrainingSet(train.images, supervision, corruption, beliefs)

"""The fraction of wrong labels, estimated from the data, for arms that need it.

Source: Northcutt, Jiang & Chuang (2021), "Confident Learning", https://arxiv.org/abs/1911.00068, Section 3.1: the
confident joint of given and true labels, from probabilities of classifiers that did not see an image's label.
"""

from __future__ import annotations

import numpy as np
import torch

from condense import rng
from condense.classifiers.confident_learning import confident_joint
from condense.classifiers.cross import FoldOptions, out_of_fold
from condense.data.types import TrainingSet
from condense.run import Run

FOLDS = 2
SHARE = 0.25  # of the epochs: networks learn wrong labels last


def estimated_noise_rate(
    train: TrainingSet, network: str, epochs: int, batch_size: int, seed: int, device: torch.device
) -> float:
    """1 - Σ_j Q_jj of the joint Q of given and true labels, in [0, 1), by two classifiers trained for `SHARE` epochs.

    Args:
        train: images with one label each.
        network: architecture of the classifiers.
        epochs: epochs of the arm's own training.
        batch_size: images per step.
        seed: random seed.
        device: device to train on.
    """
    options = FoldOptions(folds=FOLDS, network=network, epochs=max(1, round(SHARE * epochs)), batch_size=batch_size)
    targets = train.supervision.candidates.astype(np.float32)
    found, _ = out_of_fold(
        train.images.images, targets, options, rng.derive(seed, "noise rate"), Run(None), device=device
    )
    joint = confident_joint(np.asarray(found.numpy(), dtype=np.float64), train.supervision.observed)
    return float(1 - np.trace(joint))

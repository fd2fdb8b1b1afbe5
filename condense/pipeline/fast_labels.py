"""p(y | x) in seconds, without a generator, for `dmis relabel --fast`.

`out_of_sample` is the interface: five-fold linear discriminant analysis on simple image features, or on the user's
own (`--features FILE`).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.classifiers.cross import fold_of, unjudged
from condense.data.fit import resize
from condense.data.types import Beliefs, Images, Labels, Mask, Source, Supervision, TrainingSet
from condense.errors import UserError
from condense.evaluate.features import efflite0
from condense.machine import best_device
from condense.pipeline import own_numbers, probabilities
from condense.pipeline.feature_space import embedded
from condense.run import Run

Features = npt.NDArray[np.float32]

FOLDS = 5
LEFT_OUT = (
    "fast: a linear classifier on simple features of the pictures, five folds. No generator is trained and no second "
    "opinion is used, so photographs are judged by little more than shapes and colours, and similar classes are "
    "confused more often. Without --fast a generator is used."
)

LEFT_OUT_BESIDE_FEATURES = (
    "features: a linear classifier on the given features, five folds. No generator is trained and no second opinion is "
    "used. The result is as good as the features; a network trained on these labels may have learned wrong ones."
)

NETWORK = "efflite0"

_NAMES = ("features", "embeddings")
_MOST_FEATURES = 4096  # their covariance is inverted
_SIDE = 32  # pixels; larger pictures are scaled down for the features
_COMPONENTS = 64
_CELLS, _ANGLES = 4, 8


def out_of_sample(train: TrainingSet, seed: int, features: Features | None = None) -> Beliefs:
    """p(y | x), float32 [n, c], of every image by a classifier that depends on no label of its fold.

    Where labels may be wrong or leave a choice, it is trained on the labels suggested for the images outside the fold
    by classifiers that leave out both the fold and, in turn, each other one. Images without a label are left out.

    Args:
        train: the n images with their labels.
        seed: seed of the folds.
        features: [n, d], `picture_features` when None.

    Raises:
        UserError: fewer labelled images than folds, or those from which a classifier learns are all of one class.
    """
    supervision, name = train.supervision, train.images.name
    if int((~supervision.unlabelled).sum()) < FOLDS:
        raise _too_few(name)
    x = picture_features(train.images.images) if features is None else features
    fold = _folds(train, seed)
    certain = not (supervision.doubtful | (supervision.candidates.sum(1) > 1))[~supervision.unlabelled].any()
    folds = np.unique(fold).tolist()
    repaired = dict.fromkeys(folds, supervision) if certain else _repaired(supervision, x, fold, name)
    found = np.zeros(supervision.candidates.shape, dtype=np.float32)
    for k, labels in repaired.items():
        found[fold == k] = _judged(labels, x, fold != k, fold == k, name)
    return found


def not_judged(train: TrainingSet, seed: int) -> Mask:
    """Images about whose labels `out_of_sample` says nothing, see `cross.unjudged`: bool [n]."""
    return unjudged(train.supervision.candidates, _folds(train, seed))


def _folds(train: TrainingSet, seed: int) -> Labels:
    return fold_of(len(train), FOLDS, rng.derive(seed, "fast labels"))


def _too_few(name: str) -> UserError:
    return UserError(
        f"{name}: too few images have a label to train a classifier in five folds; leave --fast out, or "
        "give --pred-probs."
    )


def _repaired(supervision: Supervision, x: Features, fold: Labels, name: str) -> dict[int, Supervision]:
    """For each fold the labels, those outside the fold as suggested without any label of the fold.

    If a class is suggested for none of these images, those that may have it keep their given labels.
    """
    outside = np.zeros((FOLDS, *supervision.candidates.shape), dtype=np.float32)
    folds = np.unique(fold).tolist()
    for j, k in itertools.combinations(folds, 2):
        both = (fold == j) | (fold == k)
        judged = _judged(supervision, x, ~both, both, name)
        outside[j][fold == k], outside[k][fold == j] = judged[fold[both] == k], judged[fold[both] == j]
    found = {}
    for k in folds:
        rows = np.flatnonzero((fold != k) & ~supervision.unlabelled)
        given, candidates = supervision.candidates[rows], supervision.candidates.copy()
        suggested = np.eye(supervision.num_classes, dtype=np.bool_)[
            probabilities.weighed(outside[k][rows], supervision.take(rows)).suggested
        ]
        lost = np.asarray((given & ~suggested.any(0)).any(1))
        candidates[rows] = np.where(lost[:, None], given, suggested)
        found[k] = Supervision(candidates, supervision.trusted)
    return found


def _judged(supervision: Supervision, x: Features, learned: Mask, asked: Mask, name: str) -> Beliefs:
    """p(y | x), float32 [b, c], of the b images `asked` by a classifier of the images `learned`, features x [n, d].

    An image counts once per candidate. Raises as `out_of_sample`.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows, labels = np.nonzero(supervision.candidates & (learned & ~supervision.unlabelled)[:, None])
    if len(np.unique(labels)) < 2:
        raise _too_few(name)
    alone = np.flatnonzero(np.bincount(labels, minlength=supervision.num_classes)[labels] == 1)
    taught = np.concatenate([np.arange(len(rows)), alone])  # a single image has no covariance
    judge = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[rows[taught]], labels[taught])
    found = np.zeros((int(asked.sum()), supervision.num_classes), dtype=np.float32)
    found[:, judge.classes_] = judge.predict_proba(x[asked])
    return found


def picture_features(images: Images) -> Features:
    """Simple features [n, d] of uint8 pictures [n, H, W, C]: principal components of the pixels, and edges.

    The edges are histograms of the gradients' directions in 4 x 4 cells (Dalal & Triggs 2005,
    https://doi.org/10.1109/CVPR.2005.177, without their overlapping blocks).
    """
    small = resize(images, _SIDE) if images.shape[1] > _SIDE else images
    edges = _edges(small)
    return np.hstack([pixel_components(small), (edges - edges.mean(0)) / max(float(edges.std()), 1e-6)])


def features_of(asked: str, source: Source, run: Run) -> Features:
    """Features [n, d] of the training images, computed by the network `efflite0`, or read from FILE or FILE::NAME.

    The network is EfficientNet-Lite0 with ImageNet weights; an image and its mirror image count alike where mirroring
    keeps the class. `run` shows the progress.

    Raises:
        UserError: as `read_features`, or the package with the weights is missing.
    """
    if asked != NETWORK:
        return read_features(asked, source)
    space, images, labels = efflite0(best_device()), source.train.images, np.zeros(len(source.train), dtype=np.int64)
    found = embedded(space, images, labels, run).features
    if source.train.may_flip:
        found = (found + embedded(space, np.ascontiguousarray(images[:, :, ::-1]), labels, run).features) / 2
    return checked(found, source, NETWORK)


def read_features(place: str, source: Source) -> Features:
    """Features [n, d] of the training images from FILE or FILE::NAME, see `own_numbers.read`.

    Raises:
        UserError: the file cannot be read, or does not hold a row of finite numbers for each image.
    """
    return checked(own_numbers.read(place, source, "features", _NAMES)[0], source, place.partition("::")[0])


def checked(array: npt.NDArray[Any], source: Source, what: str) -> Features:
    """Features [n, d] of the training images, centred, with a standard deviation of 1 or (constant ones) 0, float32.

    Raises:
        UserError: wrong shape, too many features, or a value that is not finite.
    """
    n = len(source.train)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or len(array) != n or not array.shape[1]:
        raise UserError(
            f"{what} is {array.dtype} {list(array.shape)}; it must hold a row of features for each of the {n} training "
            f"images of {source.train.name}, numbers [{n}, d]."
        )
    if array.shape[1] > _MOST_FEATURES:
        raise UserError(
            f"{what} holds {array.shape[1]:,} features per image, but at most {_MOST_FEATURES:,} are accepted; reduce "
            "them first, e.g. to their principal components."
        )
    with np.errstate(over="ignore"):
        found = np.asarray(array, dtype=np.float64)
        scale = found.std(0)
    wrong = np.flatnonzero(~np.isfinite(found).all(1))
    if wrong.size or not np.isfinite(scale).all():
        where = f"row {wrong[0]}, {wrong.size} such rows" if wrong.size else "values beyond 1e150"
        raise UserError(f"{what} holds features that are not finite ({where}); remove or replace them.")
    return np.asarray((found - found.mean(0)) / np.where(scale > 1e-12, scale, 1), dtype=np.float32)


def pixel_components(images: Images) -> Features:
    """The (at most 64) principal components of pictures uint8 [n, H, W, C], the first with variance 1: [n, d]."""
    from sklearn.decomposition import PCA

    small = resize(images, _SIDE) if images.shape[1] > _SIDE else images
    flat = small.reshape(len(small), -1).astype(np.float32) / 255
    if not flat.std(0).any():
        return np.zeros((len(flat), 1), dtype=np.float32)
    components = min(_COMPONENTS, *flat.shape)
    found = PCA(components, svd_solver="auto", random_state=0).fit_transform(flat)
    return np.asarray(found / max(float(found[:, 0].std()), 1e-6), dtype=np.float32)


def _edges(images: Images) -> Features:
    grey = images.astype(np.float32).mean(3) / 255
    down, right = np.gradient(grey, axis=(1, 2))
    strength, angle = np.hypot(right, down), np.arctan2(down, right) % math.pi / math.pi * _ANGLES
    below = np.floor(angle)
    share, below = angle - below, below.astype(np.int64) % _ANGLES
    starts = [np.arange(_CELLS) * side // _CELLS for side in grey.shape[1:]]
    cells = np.empty((len(grey), _CELLS, _CELLS, _ANGLES), dtype=np.float32)
    for bin in range(_ANGLES):
        part = strength * ((below == bin) * (1 - share) + ((below + 1) % _ANGLES == bin) * share)
        cells[..., bin] = np.add.reduceat(np.add.reduceat(part, starts[0], axis=1), starts[1], axis=2)
    cells /= np.sqrt((cells**2).mean((1, 2, 3), keepdims=True)) + 1e-3
    return np.sqrt(cells.reshape(len(cells), -1))

"""The data types of the package: images, supervision, and the truth.

Clean labels are kept in `Truth`, a separate object that only scoring receives, so training code cannot reach them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from condense.data.memory import rows
from condense.data.reading import Reading
from condense.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Beliefs = npt.NDArray[np.float32]
"""Class probabilities of n images given all that is known, float32 [n, c], each row summing to 1."""

_TOLERANCE = 1e-3  # for sums of probabilities in float32

SupervisionKind = Literal["labelled", "noisy", "partial", "noisy-partial", "unlabelled", "mixture"]


def is_text(name: str) -> bool:
    """Whether a name can be encoded as UTF-8; file names in other encodings cannot."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class ImageData:
    """Images of one split, in memory or memory-mapped.

    Attributes:
        images: uint8 [n, H, W, C], C is 1 or 3.
        classes: class names, in the order of the label numbers.
        name: short name of the data set, e.g. "fashion-mnist".
        split: "train" or "test".
        provenance: origin of the images, as text values by name.
        flip: whether a mirrored image keeps its class; None if unknown.

    Raises:
        UserError: the array is not uint8 [n, H, W, 1 or 3], or is empty; there are fewer than two class names, or one
            repeats or is not UTF-8.
    """

    images: Images
    classes: tuple[str, ...]
    name: str
    split: Literal["train", "test"]
    provenance: Mapping[str, str] = field(default_factory=dict)
    flip: bool | None = None

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
            raise UserError(
                f"{self.name}: images must be uint8 [n, height, width, 1 or 3], "
                f"found {self.images.dtype} {list(shape)}."
            )
        if shape[0] == 0:
            raise UserError(f"{self.name}: the {self.split} split holds no images.")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise UserError(f"{self.name}: at least two different class names are needed, found {list(self.classes)}.")
        for name in self.classes:
            if not is_text(name):
                raise UserError(f"{self.name}: the class name {name!a} is not UTF-8; rename it.")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def num_classes(self) -> int:
        """Number of classes c."""
        return len(self.classes)

    @property
    def channels(self) -> int:
        """Number of channels C, 1 or 3."""
        return int(self.images.shape[3])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), the order networks use."""
        _, height, width, channels = self.images.shape
        return int(channels), int(height), int(width)

    @property
    def may_flip(self) -> bool:
        """Whether augmentation may mirror the images: `flip` if known, else a guess from the class names.

        False if all names are signs (digits, single letters), or if any contains "left" or "right".
        """
        if self.flip is not None:
            return self.flip
        signs = all(len(name.strip()) == 1 or name.strip().isdecimal() for name in self.classes)
        sided = any({"left", "right"} & set(re.split(r"[\W_]+", name.casefold())) for name in self.classes)
        return not signs and not sided

    def fingerprint(self) -> str:
        """SHA-256 (hex) of shape, pixels and class names, the same for equal data sets."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        for start in range(0, len(self), 4096):
            digest.update(np.ascontiguousarray(self.images[start : start + 4096]).tobytes())
        return digest.hexdigest()

    def take(self, indices: npt.NDArray[np.integer]) -> ImageData:
        """The images at `indices` [m], in that order."""
        return replace(self, images=rows(self.images, indices, f"Choosing {len(indices):,} images"))


@dataclass(frozen=True)
class Supervision:
    """The given information on each image's label.

    Noisy: one candidate, not trusted. Partial: several, trusted. Unlabelled: all, trusted. Labelled: one, trusted.
    Noisy partial, as from several annotators: one or several, not trusted. Images of different kinds may be mixed.

    Attributes:
        candidates: bool [n, c], True for every class that the image may have.
        trusted: bool [n], True if the true class is certainly among the candidates.

    Raises:
        UserError: types or shapes are wrong, or an image has no candidate.
    """

    candidates: Mask
    trusted: Mask

    def __post_init__(self) -> None:
        if self.candidates.dtype != np.bool_ or self.candidates.ndim != 2:
            raise UserError(
                f"candidates must be bool [n, c], found {self.candidates.dtype} {list(self.candidates.shape)}."
            )
        if self.trusted.dtype != np.bool_ or self.trusted.shape != self.candidates.shape[:1]:
            raise UserError(
                f"trusted must be bool [{self.candidates.shape[0]}], "
                f"found {self.trusted.dtype} {list(self.trusted.shape)}."
            )
        empty = np.flatnonzero(~self.candidates.any(axis=1))
        if empty.size:
            raise UserError(
                f"image {int(empty[0])} has an empty candidate set ({empty.size} such images); "
                "give it at least one label, or all of them if its label is unknown."
            )

    @classmethod
    def from_labels(cls, labels: npt.NDArray[np.integer], num_classes: int, *, trusted: bool) -> Supervision:
        """One candidate per image from int labels [n] in [0, num_classes); noisy unless `trusted`.

        Raises:
            UserError: a label lies outside [0, num_classes).
        """
        check_labels(labels, num_classes)
        candidates = np.zeros((len(labels), num_classes), dtype=np.bool_)
        candidates[np.arange(len(labels)), labels] = True
        return cls(candidates, np.full(len(labels), trusted, dtype=np.bool_))

    def __len__(self) -> int:
        return int(self.candidates.shape[0])

    @property
    def num_classes(self) -> int:
        """Number of classes c."""
        return int(self.candidates.shape[1])

    @property
    def single(self) -> Mask:
        """Bool [n]: images with exactly one candidate."""
        return np.asarray(self.candidates.sum(axis=1) == 1)

    @property
    def noisy(self) -> Mask:
        """Bool [n]: images with a single label that may be wrong."""
        return np.asarray(self.single & ~self.trusted)

    @property
    def doubtful(self) -> Mask:
        """Bool [n]: images whose label or candidates may not include the true class."""
        return np.asarray(~self.trusted & ~self.unlabelled)

    @property
    def unlabelled(self) -> Mask:
        """Bool [n]: images for which all classes are candidates."""
        return np.asarray(self.candidates.all(axis=1))

    @property
    def observed(self) -> Labels:
        """Int64 [n]: the label of images with exactly one candidate, -1 for others."""
        return np.where(self.single, self.candidates.argmax(axis=1), -1).astype(np.int64)

    @property
    def kind(self) -> SupervisionKind:
        """The kind that all images share, or "mixture".

        A single image of another kind makes a mixture, except that labelled and unlabelled images together are
        "unlabelled" (semi-supervised), and single labels among annotators' candidate sets are "noisy-partial".
        """
        noisy, unlabelled = self.noisy, self.unlabelled
        labelled = self.single & self.trusted
        partial = ~self.single & ~unlabelled
        if labelled.all():
            return "labelled"
        if noisy.all():
            return "noisy"
        if self.doubtful.all():
            return "noisy-partial"
        if not noisy.any() and not partial.any():
            return "unlabelled"
        if not self.doubtful.any() and not unlabelled.all() and partial.any():
            return "partial"
        return "mixture"

    def as_beliefs(self) -> Beliefs:
        """The labels taken at face value: one-hot, or uniform over the candidates, float32 [n, c]."""
        return np.asarray(self.candidates / self.candidates.sum(1, keepdims=True), dtype=np.float32)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of candidates and trust."""
        digest = hashlib.sha256(repr(self.candidates.shape).encode())
        digest.update(np.packbits(self.candidates).tobytes() + np.packbits(self.trusted).tobytes())
        return digest.hexdigest()

    def take(self, indices: npt.NDArray[np.integer]) -> Supervision:
        """The supervision of the images at `indices` [m], in that order."""
        return Supervision(self.candidates[indices], self.trusted[indices])


@dataclass(frozen=True)
class Truth:
    """Clean labels, for scoring only.

    Attributes:
        labels: int64 [n].
    """

    labels: Labels

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the labels."""
        return hashlib.sha256(np.ascontiguousarray(self.labels, dtype="<i8").tobytes()).hexdigest()

    def take(self, indices: npt.NDArray[np.integer]) -> Truth:
        """The labels of the images at `indices` [m], in that order."""
        return Truth(self.labels[indices])


@dataclass(frozen=True)
class Corruption:
    """How labels were made imprecise; recorded in every result.

    Attributes:
        spec: the noise, e.g. "sym:0.4"; "none" for unchanged labels.
        seed: seed of the corruption.
        overall_rate: fraction of images, in [0, 1], whose given label is wrong (noisy), that have more than one
            candidate (partial), or that lost their label (unlabelled); None if the truth is unknown.
    """

    spec: str
    seed: int
    overall_rate: float | None


@dataclass(frozen=True)
class TrainingSet:
    """The input of all training and condensing code: images and imprecise labels, never the truth.

    Attributes:
        images: the images.
        supervision: the given information on their labels.
        corruption: how the labels were made imprecise.
        beliefs: p(y | x, z) of every image by a model, float32 [n, c]; None if there are none.

    Raises:
        UserError: labels or beliefs are for another number of images or classes, or a row of beliefs does not hold
            probabilities.
    """

    images: ImageData
    supervision: Supervision
    corruption: Corruption = Corruption("none", 0, None)
    beliefs: Beliefs | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.supervision) or self.images.num_classes != self.supervision.num_classes:
            raise UserError(
                f"{self.images.name}: {len(self.images)} images of {self.images.num_classes} classes, but labels for "
                f"{len(self.supervision)} images of {self.supervision.num_classes} classes."
            )
        if self.beliefs is not None:
            check_beliefs(self.beliefs, len(self.images), self.images.num_classes, self.images.name)

    def __len__(self) -> int:
        return len(self.images)

    def identity(self) -> dict[str, str | bool]:
        """What tells a checkpoint whether it is of these: pixels, labels, and whether images may be mirrored."""
        return {
            "data": self.images.fingerprint(),
            "labels": self.supervision.fingerprint(),
            "flip": self.images.may_flip,
        }

    def believed(self) -> Beliefs:
        """`beliefs`, or without any the labels taken at face value (`Supervision.as_beliefs`): float32 [n, c]."""
        return self.supervision.as_beliefs() if self.beliefs is None else self.beliefs

    def take(self, indices: npt.NDArray[np.integer]) -> TrainingSet:
        """The set restricted to the images at `indices` [m], in that order."""
        beliefs = None if self.beliefs is None else self.beliefs[indices]
        return TrainingSet(self.images.take(indices), self.supervision.take(indices), self.corruption, beliefs)


@dataclass(frozen=True)
class Source:
    """The result of loading a data set.

    Attributes:
        train: training images.
        supervision: labels as given by the source (in a user's folder, possibly wrong).
        truth: clean training labels if the source is a clean benchmark, else None.
        test: test images, None if the source has none.
        test_truth: their labels.
        files: file of each training image, relative to the folder it came from; None if there are no files.
        reading: observations made while reading it.
    """

    train: ImageData
    supervision: Supervision
    truth: Truth | None
    test: ImageData | None
    test_truth: Truth | None
    files: tuple[str, ...] | None = None
    reading: Reading = field(default_factory=Reading)

    def take(self, indices: npt.NDArray[np.integer]) -> Source:
        """The source with its training images restricted to `indices` [m], in that order."""
        return replace(
            self,
            train=self.train.take(indices),
            supervision=self.supervision.take(indices),
            truth=None if self.truth is None else self.truth.take(indices),
            files=None if self.files is None else tuple(self.files[index] for index in indices.tolist()),
        )

    def with_supervision(self, supervision: Supervision) -> Source:
        """The same images with other given labels."""
        return replace(self, supervision=supervision)


def check_beliefs(beliefs: Beliefs, n: int, num_classes: int, what: str = "beliefs") -> None:
    """Raise `UserError` unless `beliefs` are float32 [n, num_classes], non-negative, with rows summing to 1."""
    if beliefs.dtype != np.float32 or beliefs.shape != (n, num_classes):
        raise UserError(
            f"{what}: beliefs are {beliefs.dtype} {list(beliefs.shape)}; they must be float32 [{n}, {num_classes}], a "
            "probability for each image and class."
        )
    wrong = np.flatnonzero(~((beliefs >= 0).all(1) & (abs(beliefs.sum(1, dtype=np.float64) - 1) <= _TOLERANCE)))
    if wrong.size:
        row = beliefs[wrong[0]]
        raise UserError(
            f"{what}: the beliefs about image {int(wrong[0])} are not probabilities (smallest {row.min():.4g}, sum "
            f"{row.sum():.4g}; {wrong.size} such images); they must be 0 or more and sum to 1."
        )


def check_labels(labels: npt.NDArray[np.integer], num_classes: int, what: str = "labels") -> None:
    """Raise `UserError` unless `labels` are whole numbers [n] in [0, num_classes)."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{what} must be whole numbers [n], found {labels.dtype} {list(labels.shape)}{_numbering_hint(labels)}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        hint = counting_hint(np.unique(labels).tolist(), num_classes)
        raise UserError(
            f"{what}: entry {int(wrong[0])} is {int(labels[wrong[0]])}, outside 0..{num_classes - 1} "
            f"({wrong.size} such entries){hint}."
        )


def _numbering_hint(labels: npt.NDArray[Any]) -> str:
    """Hint on turning labels [n] that are not whole numbers into such; empty if unknown."""
    if labels.dtype.kind in "SU" and labels.ndim == 1:
        return "; number them by class_names, labels = numpy.unique(labels, return_inverse=True), and store both"
    if labels.dtype.kind == "f" and labels.ndim == 1 and (np.isfinite(labels) & (labels == np.round(labels))).all():
        return "; store labels.astype(int)"
    if labels.dtype.kind == "f" and labels.ndim == 1 and np.isnan(labels).any():
        return "; an image of unknown class has every class as a candidate: store candidates, bool [n, c]"
    if labels.dtype.kind == "f" and labels.ndim == 2:
        return "; probabilities are for relabel's --pred-probs"
    return ""


def counting_hint(values: Sequence[int], num_classes: int) -> str:
    """Hint on what is wrong with labels of these values, some of which are not classes; empty if unknown."""
    distinct = sorted(set(values))
    if not distinct:
        return ""
    if distinct[0] == 1 and distinct[-1] == num_classes:
        return f"; they seem to number the {num_classes} classes from 1: subtract 1, since classes are numbered from 0"
    if distinct[0] >= 0 and len(distinct) <= num_classes:
        first = ", ".join(map(str, distinct[:3]))
        return (
            f"; there are {len(distinct)} different values ({first}{', …' if len(distinct) > 3 else ''}): number them "
            "0, 1, 2, … (numpy.unique(labels, return_inverse=True)[1])"
        )
    if distinct[0] == -1:
        return "; an unknown label is written -1 only in a file for --labels"
    return ""


def check_every_class(supervision: Supervision, classes: Sequence[str], name: str) -> None:
    """Raise `UserError` unless each of the `classes` [c] is a label or candidate of some image.

    Unlabelled images do not count, since they give no information on what the class looks like.
    """
    named = supervision.candidates[~supervision.unlabelled].any(axis=0)
    missing = [classes[y] for y in np.flatnonzero(~named).tolist()]
    if missing:
        raise UserError(
            f"{name}: no image is labelled {missing[0]!r} ({len(missing)} of {len(classes)} classes have no label); "
            "label some, or leave the class out."
        )


def class_names(num_classes: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """`names` as a tuple, or "0", "1", … without names."""
    return tuple(str(name) for name in names) if names is not None else tuple(str(i) for i in range(num_classes))

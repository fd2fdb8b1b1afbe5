"""The audit of training data: labels and duplicates."""

from __future__ import annotations

import itertools
import time

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.classifiers.confident_learning import confusion, shares
from condense.classifiers.cross import FoldOptions, fold_of, out_of_fold, unjudged
from condense.data.types import Labels, Source
from condense.evaluate.audit import NoiseAudit, audit_noise
from condense.evaluate.audit_report import AuditReport, Doubted, Matrix
from condense.evaluate.judge import BATCH, targets_of
from condense.evaluate.neighbours import first_copies, nearest
from condense.json_values import JSON
from condense.machine import best_device
from condense.pipeline.data import LoadedData, tell_of_unjudged
from condense.run import Run

_FOLDS = 2
_SHOWN = 48
_MOST_LISTED = 1000


def audit_data(
    given: LoadedData, network: str | None, steps: int, seed: int, run: Run
) -> tuple[dict[str, JSON], AuditReport]:
    """Findings about training data, and their report. Raises as `out_of_fold`."""
    started = time.perf_counter()
    source, supervision = given.source, given.source.supervision
    train, observed = source.train, supervision.observed
    counts = np.bincount(observed[observed >= 0], minlength=train.num_classes)
    result: dict[str, JSON] = {
        "kind": "data set",
        "name": train.name,
        "images": len(train),
        "classes": list(train.classes),
        "supervision": supervision.kind,
        "corruption": given.corruption.spec,
        "labels_per_class": counts.tolist(),
        "true_labels": _true_labels(source),
    }
    matrices: list[Matrix] = []
    if source.truth is not None:
        injected = confusion(source.truth.labels, observed, train.num_classes)
        matrices.append(Matrix("Given labels", injected, "true class", "given label"))
    doubted: tuple[str, list[Doubted]] = ("", [])
    if network is not None and supervision.single.any():
        found, how = _cross_judged(given, network, steps, seed, run)
        result["judged"] = {"classifier": how, **_told(found)}
        matrices.append(Matrix("Estimated from the labels alone", _in_parts(found.transition), "class", "given label"))
        doubted = _doubted(source, found)
    result["duplicates"] = _duplicates(source, observed)
    result["median_distance"] = _median_distance(source, seed)
    result["seconds"] = time.perf_counter() - started
    return result, AuditReport(f"{train.name}: labels and duplicates", train.classes, result, matrices, [], doubted)


def _doubted(source: Source, found: NoiseAudit) -> tuple[str, list[Doubted]]:
    """A caption, and the first images with a doubted label."""
    suspects, classes, observed = np.flatnonzero(found.suspected), source.train.classes, source.supervision.observed
    files, truth = source.files or tuple(map(str, range(len(source.train)))), source.truth
    first = f", the first {_SHOWN} of {len(suspects):,}" if len(suspects) > _SHOWN else ""
    caption = "Images with a doubted label" + first
    shown = [
        Doubted(
            image=source.train.images[image],
            file=files[image],
            given=classes[observed[image]],
            judged=classes[found.confident[image]],
            marked=truth is not None and bool(observed[image] != truth.labels[image]),
        )
        for image in suspects[:_SHOWN].tolist()
    ]
    return caption + ("" if truth is None else "; those with a wrong label are framed"), shown


def _true_labels(source: Source) -> dict[str, JSON] | None:
    """How often given labels and candidates contain the true class; None without the truth."""
    if source.truth is None:
        return None
    supervision, truth = source.supervision, source.truth.labels
    held = supervision.candidates[np.arange(len(truth)), truth]
    injected = confusion(truth, supervision.observed, supervision.num_classes)
    return {
        "share_right": float(injected.trace() / injected.sum()) if injected.any() else None,
        "share_among_candidates": float(held.mean()),
        "images_per_class": np.bincount(truth, minlength=supervision.num_classes).tolist(),
        "confusion": injected.tolist(),
    }


def _cross_judged(given: LoadedData, network: str, steps: int, seed: int, run: Run) -> tuple[NoiseAudit, str]:
    """Audit the labels of each half of the images by a classifier trained on the other half's given labels."""
    source = given.source
    epochs = max(1, round(steps * BATCH * _FOLDS / (len(source.train) * (_FOLDS - 1))))
    options = FoldOptions(folds=_FOLDS, network=network, epochs=epochs, batch_size=BATCH)
    probabilities, _ = out_of_fold(
        source.train.images, targets_of(source.supervision), options, seed, run, device=best_device()
    )
    left = unjudged(source.supervision.candidates, fold_of(len(source.train), _FOLDS, seed))
    tell_of_unjudged(left, source.supervision, source.train.classes)
    found = audit_noise(probabilities.numpy(), source.supervision, source.truth, left)
    passes = "one epoch" if epochs == 1 else f"{epochs} epochs"
    return found, f"{network} trained for {passes} on the given labels of one half, applied to the other"


def _in_parts(transition: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Fractions as integers in units of 1/10,000."""
    return np.rint(10_000 * transition).astype(np.int64)


def _told(found: NoiseAudit) -> dict[str, JSON]:
    suspects = np.flatnonzero(found.suspected)
    return {
        "suspected_wrong": len(suspects),
        "suspected_images": suspects[:_MOST_LISTED].tolist(),
        "precision": found.precision,
        "recall": found.recall,
        "transition": found.transition.tolist(),
        "injected": None if found.injected is None else shares(found.injected).tolist(),
        "gap": found.gap,
    }


def _duplicates(source: Source, observed: Labels) -> dict[str, int]:
    """Counts of repeated training images, of repeats with another label, and of test images in the training data."""
    train = source.train.images
    first = first_copies(train)
    again = np.flatnonzero(first != np.arange(len(first)))
    counts = {
        "training_images": len(again),
        "with_another_label": int((observed[again] != observed[first[again]]).sum()),
    }
    if source.test is not None:
        both = first_copies(itertools.chain(train, source.test.images))
        counts["test_images_in_training"] = int((both[len(train) :] < len(train)).sum())
    return counts


def _median_distance(source: Source, seed: int) -> float:
    """Median RMS difference of (at most 1000) training images to their nearest neighbour; 1 is black against white."""
    images = source.train.images
    drawn = np.sort(
        np.random.default_rng(rng.derive(seed, "audit")).choice(len(images), min(1000, len(images)), replace=False)
    )
    distance, _ = nearest(images[drawn], images, 1, itself=drawn, device=best_device())
    return float(np.median(distance) / (255 * np.sqrt(np.prod(images.shape[1:]))))

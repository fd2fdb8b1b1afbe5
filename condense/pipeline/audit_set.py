"""The audit of a condensed set against the data it was made from."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from condense.data.types import Images, Labels
from condense.evaluate.audit import Agreement, agreement
from condense.evaluate.audit_report import AuditReport, FramedPictures, Matrix
from condense.evaluate.ddranking import compression_ratio, set_bytes
from condense.evaluate.memorisation import AVERAGED_REAL, Memorisation, memorisation
from condense.evaluate.neighbours import first_copies
from condense.json_values import JSON
from condense.machine import best_device
from condense.pipeline.data import LoadedData
from condense.pipeline.real_data import real_data, trained_judge
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet

_SHOWN_PAIRS, _SHOWN_TRIPLES = 24, 18


def audit_set(
    path: Path, condensed: CondensedSet, data: DataRecipe, network: str | None, steps: int, seed: int, run: Run
) -> tuple[dict[str, JSON], AuditReport]:
    """Findings about a set, and their report. Raises as `real_data` and `train_judge`."""
    started = time.perf_counter()
    given = real_data(condensed, data, seed)
    source, seen = given.source, condensed.unpacked()
    result: dict[str, JSON] = {
        "kind": "condensed set",
        "path": str(path),
        "method": condensed.provenance.method,
        "uses_true_labels": condensed.uses_true_labels,
        "images": len(condensed),
        "ipc": condensed.ipc,
        "classes": list(condensed.classes),
        "data": source.train.name,
        "same_data": source.train.fingerprint() == condensed.provenance.data_fingerprint,
        "bytes": set_bytes(condensed),
        "compression_ratio": compression_ratio(condensed, source.train),
        "cost": asdict(condensed.provenance.cost),
    }
    matrices: list[Matrix] = []
    if (noise := _injected(condensed, given)) is not None:
        result["given_labels"] = {"share_right": noise.share, "confusion": noise.confusion.tolist()}
        matrices.append(Matrix("Labels given to the method", noise.confusion, "given label", "true class"))
    if (known := _known(condensed, given)) is not None:
        result["true_labels"] = {"images": int(known.confusion.sum()), "share_right": known.share}
    if network is not None:
        judged, found = _judged(seen, given, network, steps, seed, run)
        result["judged"] = judged
        matrices.append(Matrix("Labels of the set against a classifier", found.confusion, "label", "predicted class"))
    if condensed.soft_labels is not None:
        result["soft_labels_agree"] = float((condensed.soft_labels.argmax(1) == condensed.labels).mean())
    copies = first_copies(seen.images)
    result["duplicates"] = int((copies != np.arange(len(copies))).sum())
    near = memorisation(255 * seen.unit_images(), source.train.images, seed=seed, device=best_device())
    result["memorisation"] = _told(near)
    result["averages"] = _told_of_averages(near)
    result["seconds"] = time.perf_counter() - started
    return result, AuditReport(
        f"{path.name}: labels and copies",
        condensed.classes,
        result,
        matrices,
        [
            _pairs(seen.pictures(), source.train.images, near),
            _triples(seen.pictures(), source.train.images, near),
        ],
    )


def _injected(condensed: CondensedSet, given: LoadedData) -> Agreement | None:
    """Agreement of the given labels with the truth; None unless both are known and the noise is the set's."""
    source = given.source
    same = given.corruption.spec == condensed.provenance.corruption
    if source.truth is None or not same or not source.supervision.single.any():
        return None
    return agreement(source.supervision.observed, source.truth.labels, condensed.num_classes)


def _known(condensed: CondensedSet, given: LoadedData) -> Agreement | None:
    """Agreement of labels with the truth for images that equal a training image; None without any."""
    truth, index, train = given.source.truth, condensed.source_index, given.source.train.images
    if truth is None or index is None or condensed.images.dtype != np.uint8:
        return None
    inside = np.flatnonzero((index >= 0) & (index < len(train)))
    same = inside[(train[index[inside]] == condensed.images[inside]).all((1, 2, 3))]
    if not same.size:
        return None
    return agreement(condensed.labels[same], truth.labels[index[same]], condensed.num_classes)


def _judged(
    condensed: CondensedSet, given: LoadedData, network: str, steps: int, seed: int, run: Run
) -> tuple[dict[str, JSON], Agreement]:
    judge = trained_judge(given, network, steps, seed, run)
    seen: Labels = judge.probabilities(condensed.pictures()).argmax(1)
    found = agreement(condensed.labels, seen, condensed.num_classes)
    source = given.source
    tested = source.test is not None and source.test_truth is not None
    return {
        "classifier": judge.describe(),
        "test_accuracy": judge.accuracy(source.test, source.test_truth) if tested else None,  # type: ignore[arg-type]
        "share_agreed": found.share,
        "share_agreed_per_class": found.per_class.tolist(),
        "images_seen_per_class": found.confusion.sum(0).tolist(),
        "confusion": found.confusion.tolist(),
    }, found


def _told(near: Memorisation) -> dict[str, JSON]:
    return {
        "flagged": near.flagged,
        "copies": int(near.copied.sum()),
        "copied_images": np.flatnonzero(near.copied).tolist(),
        "share_copied": float(near.copied.mean()),
        "share_copied_real": near.real_copied,
        "p_value": near.p_value,
        "median_distance": float(np.median(near.distance)),
        "median_distance_real": float(np.median(near.real_distance)),
        "nearest_training_image": near.neighbour.tolist(),
        "distance": near.distance.tolist(),
    }


def _told_of_averages(near: Memorisation) -> dict[str, JSON]:
    return {
        "flagged": near.flagged_averages,
        "averages": int(near.averaged.sum()),
        "averaged_images": np.flatnonzero(near.averaged).tolist(),
        "share_averaged": float(near.averaged.mean()),
        "share_averaged_real": AVERAGED_REAL,
        "p_value": near.averaged_p_value,
        "median_distance": float(np.median(near.average_distance)),
        "nearest_pair": near.average_pair.tolist(),
        "weight": near.average_weight.tolist(),
        "distance": near.average_distance.tolist(),
    }


def _pairs(pictures: Images, train: Images, near: Memorisation) -> FramedPictures:
    """The images nearest to the training data, each with its nearest training image to the right."""
    order = np.argsort(near.distance, kind="stable")[:_SHOWN_PAIRS]
    both = np.stack([pictures[order], train[near.neighbour[order]]], axis=1).reshape(-1, *train.shape[1:])
    return FramedPictures(
        "The images nearest to the training data, each with its nearest training image; copies are framed",
        both,
        8,
        near.copied[order].repeat(2),
    )


def _triples(pictures: Images, train: Images, near: Memorisation) -> FramedPictures:
    """The images nearest to an average of two training images, each with those two to the right."""
    part = near.average_distance / np.maximum(near.distance, 1e-12)
    order = np.argsort(np.where(near.copied, np.inf, part), kind="stable")[:_SHOWN_TRIPLES]
    pair = near.average_pair[order]
    three = np.stack([pictures[order], train[pair[:, 0]], train[pair[:, 1]]], axis=1).reshape(-1, *train.shape[1:])
    return FramedPictures(
        "The images nearest to an average of two training images, each with those two; averages are framed",
        three,
        9,
        near.averaged[order].repeat(3),
    )

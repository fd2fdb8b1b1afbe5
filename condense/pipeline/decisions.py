"""Decisions made on the review page: reading, checking against the data, and writing them as a table of labels.

    {"format": "dmis-decisions/1",
     "data": {"name": …, "images": SHA-256, "image_shape": [H, W, C], "labels": SHA-256, "classes": [c names]},
     "decisions": [{"file": "cat/1.png", "decision": "accepted" | "changed" | "rejected", "label": "dog"}, …]}

Accepted and changed suggestions replace the given label; a rejected one confirms the given label (`label` may be left
out). Labels decided by a person become trusted.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.data.label_cells import write_candidates
from condense.data.types import Source, Supervision
from condense.errors import UserError, in_short
from condense.run import JSON, atomic_path
from condense.text import shortened, to_cell

FORMAT = "dmis-decisions/1"
DECISIONS = ("accepted", "changed", "rejected")
COLUMNS = ("file", "label", "trusted")
_MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Decision:
    """The decision about one image's label.

    Attributes:
        image: index of the image.
        decision: one of `DECISIONS`.
        label: the resulting class; None if a suggestion was rejected and the image has no single label.
    """

    image: int
    decision: str
    label: int | None


def identity(source: Source) -> dict[str, JSON]:
    """The data that decisions refer to: fingerprints of the images and the given labels, and their names."""
    return {
        "name": source.train.name,
        "images": source.train.fingerprint(),
        "image_shape": [int(side) for side in source.train.images.shape[1:]],
        "labels": source.supervision.fingerprint(),
        "classes": list(source.train.classes),
    }


def read_decisions(path: Path, source: Source) -> list[Decision]:
    """The decisions in a file, at most one per image of `source`.

    Raises:
        UserError: the file is damaged, of another format or about other data; or a decision names an unknown image or
            class, or an image that was already decided.
    """
    data, entries = _parsed(path)
    _check_identity(data, source, path)
    files = source.files or tuple(map(str, range(len(source.train))))
    numbers = {file: number for number, file in enumerate(files)}
    classes = {name: y for y, name in enumerate(source.train.classes)}
    observed, decided = source.supervision.observed.tolist(), dict[int, Decision]()
    for place, entry in enumerate(entries, 1):
        one = _decision(entry, numbers, classes, observed, f"{path}, decision {place}")
        if one.image in decided:
            raise UserError(f"{path}, decision {place}: {_quoted(entry['file'])} was already decided; keep one.")
        decided[one.image] = one
    return list(decided.values())


def applied(decisions: Sequence[Decision], given: Supervision) -> Supervision:
    """The given labels, replaced where there is a decision."""
    candidates, trusted = given.candidates.copy(), given.trusted.copy()
    for one in decisions:
        if one.label is not None:
            candidates[one.image] = False
            candidates[one.image, one.label] = True
            trusted[one.image] = True
    return Supervision(candidates, trusted)


def write_labels(path: Path, source: Source, labels: Supervision) -> None:
    """Write a table of the training images' labels that every command reads; raises as `atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(label_rows(source, labels))


def label_rows(source: Source, labels: Supervision) -> list[tuple[str, str, str]]:
    """A row of the table for each image: file or index, label (a|b: candidates; empty: none), trusted (yes or no)."""
    classes = source.train.classes
    files = source.files or tuple(map(str, range(len(source.train))))
    known = labels.candidates & ~labels.unlabelled[:, None]
    return [
        (
            to_cell(file),
            to_cell(write_candidates(classes[y] for y in np.flatnonzero(known[image]))),
            "yes" if labels.trusted[image] else "no",
        )
        for image, file in enumerate(files)
    ]


def counted(decisions: Sequence[Decision]) -> dict[str, JSON]:
    """The number of decisions of each kind."""
    counts = Counter(one.decision for one in decisions)
    return {kind: counts[kind] for kind in DECISIONS}


def _parsed(path: Path) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """What a file says of its data, and the decisions in it, not yet checked."""
    try:
        if not path.is_file():
            raise UserError(f"There is no decisions file {path}; save one on the page that `dmis relabel` wrote.")
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES:,} bytes, more than any decisions file needs.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged or not a decisions file ({in_short(error, 120)}); save it again."
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        told = found.get("format") if isinstance(found, dict) else None
        raise UserError(
            f"{path} is not a decisions file of this version (its format is {_quoted(told)}, not {FORMAT!r}); save it "
            "again on the page."
        )
    if not isinstance(found.get("data"), dict) or not isinstance(found.get("decisions"), list):
        raise UserError(f"{path} is damaged: it lacks `data` or `decisions`; save it again.")
    return found["data"], found["decisions"]


def _check_identity(told: Mapping[str, Any], source: Source, path: Path) -> None:
    ours = identity(source)
    different = next((key for key in ours if key != "name" and told.get(key) != ours[key]), None)
    if different is None:
        return
    reasons = {
        "images": "the images differ",
        "image_shape": f"their images have the shape {_quoted(told.get('image_shape'))}, not {ours['image_shape']}",
        "labels": "the given labels differ",
        "classes": "the classes differ",
    }
    if told.get("image_shape") != ours["image_shape"]:
        different = "image_shape"
    raise UserError(
        f"{path} holds decisions about other data ({reasons[different]}); name the data of the page, with the same "
        f"options as for that `dmis relabel` (--labels, --noise, --seed, --image-size …)."
    )


def _decision(
    entry: Any, numbers: Mapping[str, int], classes: Mapping[str, int], observed: Sequence[int], where: str
) -> Decision:
    if not isinstance(entry, dict) or entry.get("decision") not in DECISIONS or not isinstance(entry.get("file"), str):
        raise UserError(f"{where} is damaged; it must have a file, and as decision one of {', '.join(DECISIONS)}.")
    image = numbers.get(entry["file"])
    if image is None:
        raise UserError(f"{where}: there is no image {_quoted(entry['file'])} in the data; correct it.")
    if entry["decision"] == "rejected":
        return Decision(image, "rejected", observed[image] if observed[image] >= 0 else None)
    label = entry.get("label")
    if not isinstance(label, str) or label not in classes:
        names = shortened(", ".join(classes), 200)
        raise UserError(f"{where}: {_quoted(label)} is not one of the classes ({names}); correct it.")
    return Decision(image, entry["decision"], classes[label])


def _quoted(value: object) -> str:
    return shortened(repr(value), 80)

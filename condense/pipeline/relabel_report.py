"""What the page of suspicious images shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense.data.fit import resize
from condense.data.types import Images
from condense.evaluate.relabel_report import RelabelReport, Suspect
from condense.pipeline.plan import Plan
from condense.pipeline.relabelling import Relabelling

MOST_SHOWN = 96
LARGEST_SIDE = 128  # pixels; larger images are scaled down for the page


def suspects_report(plan: Plan, relabelling: Relabelling) -> RelabelReport:
    """The report of a relabelling: its facts, and the likely wrong images, the surest first."""
    found, files = relabelling.suggestions, relabelling.files
    result: dict[str, Any] = relabelling.to_json()
    marked = np.flatnonzero(found.likely_wrong)
    shown = marked[np.argsort(-found.suspicion[marked], kind="stable")][:MOST_SHOWN]
    truth = plan.source.truth
    classes = plan.train.images.classes
    images = _small(plan.train.images.images[shown]) if len(shown) else plan.train.images.images[:0]
    suspects = [
        Suspect(
            image=image,
            file=files[row],
            given="|".join(classes[y] for y in np.flatnonzero(found.supervision.candidates[row])),
            suggested=classes[found.suggested[row]],
            confidence=float(found.confidence[row]),
            true=None if truth is None else classes[truth.labels[row]],
        )
        for row, image in zip(shown, images, strict=True)
    ]
    return RelabelReport(
        title=f"{plan.source.train.name}: labels to look at",
        images=len(plan.train),
        would_change=result["would_change"],
        likely_wrong=result["likely_wrong"],
        found=result["found"],
        suspects=suspects,
        classes=classes,
        transition=np.array(result["transition"]),
        settings=[
            ("data", f"{plan.source.train.name}, {len(plan.train)} training images"),
            ("labels", f"{plan.train.supervision.kind}, {plan.train.corruption.spec}"),
            ("seed", str(plan.recipe.seed)),
            ("asked", ", ".join(f"{name} (weight {weight:g})" for name, weight in result["asked"].items())),
            ("time", f"{result['seconds']:.0f} s"),
        ],
        labels_file=result["labels"],
    )


def _small(images: Images) -> Images:
    side = min(images.shape[1:3])
    return resize(images, LARGEST_SIDE) if side > LARGEST_SIDE else images

"""Labels by several annotators per image: their answers together are untrusted candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense.data.types import Supervision
from condense.errors import UserError

NO_ANSWER = -1


def from_votes(votes: npt.NDArray[np.integer], num_classes: int) -> Supervision:
    """Make every class named by an annotator a candidate; untrusted, since any may be wrong.

    An image without answers is unlabelled.

    Args:
        votes: whole numbers [n, a], a class in [0, c) or `NO_ANSWER`.
        num_classes: number of classes c.

    Raises:
        UserError: `votes` are of another type or shape, or an answer is out of range.
    """
    if votes.ndim != 2 or not np.issubdtype(votes.dtype, np.integer):
        raise UserError(
            f"Answers of several annotators must be whole numbers [n, annotators], found {votes.dtype} "
            f"{list(votes.shape)}."
        )
    answered = votes != NO_ANSWER
    wrong = np.argwhere(answered & ((votes < 0) | (votes >= num_classes)))
    if len(wrong):
        image, annotator = wrong[0]
        raise UserError(
            f"Annotator {annotator} answers {votes[image, annotator]} for image {image}, outside 0..{num_classes - 1} "
            f"({len(wrong)} such answers); {NO_ANSWER} stands for no answer."
        )
    candidates = np.zeros((len(votes), num_classes), dtype=np.bool_)
    rows, annotators = np.nonzero(answered)
    candidates[rows, votes[rows, annotators]] = True
    silent = ~answered.any(axis=1)
    return Supervision(candidates | silent[:, None], silent)

"""Classifier-consistent learning from candidate sets.

    L = -log Σ_{y in S} f_y(x).

Single labels are candidate sets of one; images without a label are left out.
Source: Feng et al. (2020), "Provably Consistent Partial-Label Learning", https://arxiv.org/abs/2007.08929, method CC.
"""

from __future__ import annotations

from condense.classifiers.label_forms import candidates, check_sets, labelled
from condense.classifiers.lesson import Given, Lesson
from condense.classifiers.teacher import candidate_loss
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """No options."""


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("cc", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network."""
    network, shown = given.build(0), labelled(given.supervision)
    return Lesson(network, network, shown, candidates(given.supervision)[shown], candidate_loss, given.weak)

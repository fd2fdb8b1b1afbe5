"""Cross-entropy with the labels as given; a candidate set is a uniform target over its classes.

    L = -Σ_y q_y log f_y(x),      q uniform on the candidates S, one-hot for single labels.

Images without a label are left out. With wrong labels it is the baseline "CE" of the DMIS paper's Table 2; with
candidate sets the averaging baseline of Lv et al. (2020), https://arxiv.org/abs/2002.08053; with missing labels
supervised training on the labelled images.
"""

from __future__ import annotations

import torch.nn.functional as F

from condense.classifiers.label_forms import check_some_label, labelled, uniform
from condense.classifiers.lesson import Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """No options."""


def check(supervision: Supervision) -> None:
    """Accepts all kinds of labels."""
    check_some_label("ce", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, soft targets."""
    network, shown = given.build(0), labelled(given.supervision)
    return Lesson(network, network, shown, uniform(given.supervision)[shown], F.cross_entropy, given.weak)

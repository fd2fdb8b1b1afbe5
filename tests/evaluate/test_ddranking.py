import dataclasses
import math

import numpy as np
import pytest

from condense.data.types import ImageData
from condense.errors import UserError
from condense.evaluate.ddranking import (
    Arms,
    augmentation_robust_score,
    compression_ratio,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    ranking,
    set_bytes,
)
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Provenance


def test_full_recovery_without_gain_scores_0269():
    assert label_robust_score(0, 0) == pytest.approx(0.26894, abs=1e-5)
    assert augmentation_robust_score(0, 0) == pytest.approx(0.26894, abs=1e-5)


def test_scores_computed_by_hand():
    recovery, improvement = hard_label_recovery(0.85, 0.50), improvement_over_random(0.45, 0.30)
    assert (recovery, improvement) == (pytest.approx(0.35), pytest.approx(0.15))
    # α = 0.5·0.15 - 0.5·0.35 = -0.1; e^-0.1 = 0.9048374, e^-1 = 0.3678794, e = 2.7182818
    assert label_robust_score(recovery, improvement) == pytest.approx((0.9048374 - 0.3678794) / 2.3504024, abs=1e-7)
    assert label_robust_score(recovery, improvement) == pytest.approx(0.228, abs=1e-3)
    # β = 0.25·0.2 + 0.75·0.08 = 0.11; e^0.11 = 1.1162781
    assert augmentation_robust_score(0.2, 0.08, 0.25) == pytest.approx((1.1162781 - 0.3678794) / 2.3504024, abs=1e-7)


def test_ends_of_the_scale_are_0_and_1():
    assert label_robust_score(-1, 1) == pytest.approx(1) and label_robust_score(1, -1) == pytest.approx(0)
    assert augmentation_robust_score(1, 1) == pytest.approx(1) and augmentation_robust_score(-1, -1) == 0
    assert label_robust_score(0.3, 0.2, weight=1) == pytest.approx((math.exp(0.2) - math.exp(-1)) / (2 * math.sinh(1)))


def test_percent_is_refused():
    with pytest.raises(UserError, match="35 is not a fraction"):
        hard_label_recovery(35, 0.1)
    with pytest.raises(UserError, match="not a fraction"):
        improvement_over_random(0.2, -0.1)
    with pytest.raises(UserError, match=r"weight 1\.5"):
        label_robust_score(0, 0, weight=1.5)


def test_bytes_count_soft_labels_and_weights_but_no_record():
    labels = np.repeat(np.arange(3), 2)
    provenance = Provenance("random", 2, 0, {}, "patterns", "", "noisy", "none", None)
    process = Preprocessing((0.5,), (0.25,))
    hard = CondensedSet(np.zeros((6, 8, 8, 1), np.uint8), labels, ("a", "b", "c"), process, provenance)
    train = ImageData(np.zeros((60, 8, 8, 1), np.uint8), ("a", "b", "c"), "patterns", "train")
    assert set_bytes(hard) == 6 * 64 + 6 * 8
    assert compression_ratio(hard, train) == 10
    soft = dataclasses.replace(
        hard,
        soft_labels=np.full((6, 3), 1 / 3, np.float32),
        weights=np.ones(6, np.float32),
        source_index=np.arange(6),
    )
    assert set_bytes(soft) == set_bytes(hard) + 6 * 3 * 4 + 6 * 4
    learned = dataclasses.replace(hard, images=hard.images.astype(np.float32))
    assert set_bytes(learned) == 6 * 64 * 4 + 6 * 8


def test_the_four_scores_from_six_accuracies():
    found = ranking(Arms(real=0.85, hard=0.50, own=0.45, random=0.30, own_plain=0.40, random_plain=0.35))
    assert (found.hlr, found.ior) == (pytest.approx(0.35), pytest.approx(0.15))
    assert found.lrs == label_robust_score(found.hlr, found.ior)
    assert found.ars == pytest.approx((math.exp(0.10) - math.exp(-1)) / (2 * math.sinh(1)))  # β = (0.15 + 0.05) / 2
    only = ranking(Arms(0.85, 0.5, 0.45, 0.3, 0.4, 0.35), lrs_weight=1, ars_weight=0)
    assert only.lrs == pytest.approx(augmentation_robust_score(0.15, 0.15))  # α = IOR
    assert only.ars == pytest.approx(augmentation_robust_score(0.05, 0.05))
    with pytest.raises(UserError, match="85 is not a fraction"):
        ranking(Arms(85, 50, 45, 30, 40, 35))

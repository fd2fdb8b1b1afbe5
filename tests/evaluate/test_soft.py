"""Soft labels: brought to a temperature, fitted by KL."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate import score as scoring
from condense.evaluate.protocols import SOFT
from condense.evaluate.soft import soft_loss, soft_targets
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Provenance

CLASSES = ("dark", "light", "striped")


def condensed_set(soft, notes=None):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    provenance = Provenance("rded", 2, 0, {}, "patterns", "", "noisy", "none", None, notes=notes or {})
    return CondensedSet(
        images, np.repeat(np.arange(3), 2), CLASSES, Preprocessing((0.5,), (0.25,)), provenance, soft_labels=soft
    )


def logits(scale=1.0):
    return scale * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("stored_at", "temperature"), [(1.0, 1.0), (1.0, 20.0), (20.0, 20.0), (4.0, 2.0)])
def test_targets_are_the_teachers_at_the_temperature(stored_at, temperature):
    z = logits(5)
    stored = (z / stored_at).softmax(1).numpy()
    targets = soft_targets(condensed_set(stored, {"soft_label_temperature": stored_at}), temperature)
    torch.testing.assert_close(targets, (z / temperature).softmax(1))


def test_labels_without_a_temperature_are_taken_at_one_and_zeros_are_no_trouble():
    stored = np.eye(3, dtype=np.float32)[np.repeat(np.arange(3), 2)]
    targets = soft_targets(condensed_set(stored), 1.0)
    torch.testing.assert_close(targets, torch.from_numpy(stored))
    flat = soft_targets(condensed_set(stored), 20.0)
    other = math.exp(math.log(torch.finfo(torch.float32).tiny) / 20)  # the smallest float stands for 0
    assert flat[0].tolist() == pytest.approx([1 / (1 + 2 * other), *[other / (1 + 2 * other)] * 2])


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_loss_is_kl_by_hand(temperature):
    f, q = logits(3), logits(2).flip(0).softmax(1)
    p = (f / temperature).softmax(1)
    by_hand = (q * (q.log() - p.log())).sum(1).mean()
    torch.testing.assert_close(soft_loss(temperature)(f, q), by_hand)
    assert float(soft_loss(temperature)(q.log() * temperature, q)) == pytest.approx(0, abs=1e-6)


def score(condensed, **changed):
    images, labels = condensed.images, condensed.labels
    test = ImageData(images, CLASSES, "patterns", "test")
    rules = dataclasses.replace(SOFT, network="convnet1-bn", epochs=20, augmentation="crop", temperature=1.0, **changed)
    return scoring.score(condensed, test, Truth(labels), protocol=rules, repeats=1)


def test_networks_learn_the_soft_labels_not_the_classes():
    """Labels that swear to another class than the hard ones are what is learnt."""
    shifted = np.eye(3, dtype=np.float32)[(np.repeat(np.arange(3), 2) + 1) % 3]
    assert score(condensed_set(shifted), mixing="none").mean < 20
    assert score(condensed_set(np.eye(3, dtype=np.float32)[np.repeat(np.arange(3), 2)]), mixing="none").mean > 80


def test_result_tells_what_was_done():
    told = score(condensed_set(logits(2).softmax(1).numpy())).protocol
    assert (told["labels"], told["mixing"], told["network"]) == ("soft", "cutmix", "convnet1-bn")


def test_sets_without_soft_labels_are_refused():
    with pytest.raises(UserError, match=r"set of rded has no soft labels.*hard"):
        score(condensed_set(None))
    with pytest.raises(UserError, match="soft_label_temperature is 'hot'"):
        soft_targets(condensed_set(logits().softmax(1).numpy(), {"soft_label_temperature": "hot"}), 1.0)

"""Networks on all real images are trained as the protocol trains on a set."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import pictures, supervision

from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.evaluate import protocols
from condense.evaluate.coverage import pixel_coverage
from condense.evaluate.ddranking import set_bytes, training_bytes
from condense.evaluate.score import FreshNetworks, score
from condense.evaluate.whole import epochs_of_steps, score_whole, steps_on_a_set
from condense.preprocessing import standardisation
from condense.sets.condensed_set import CondensedSet, Provenance

BRIEF = dataclasses.replace(protocols.HARD, epochs=3)
IMAGES, TRUTH = pictures(6)
TEST, TEST_TRUTH = (dataclasses.replace(pictures(10, seed=1)[0], split="test"), pictures(10, seed=1)[1])
ORDER = np.argsort(TRUTH.labels, kind="stable")


def as_a_set(notes=None, soft=None) -> CondensedSet:
    made = Provenance("random", 6, 0, {}, IMAGES.name, "", "noisy", "none", None, notes=notes or {})
    images = IMAGES.images[ORDER]
    return CondensedSet(images, TRUTH.labels[ORDER], IMAGES.classes, standardisation(images), made, soft_labels=soft)


def whole(labels=None, repeats=1, **how):
    how = {"protocol": BRIEF, "fresh": FreshNetworks("convnet1", repeats)} | how
    data = dataclasses.replace(IMAGES, images=IMAGES.images[ORDER])
    given = labels or Supervision.from_labels(TRUTH.labels[ORDER], 3, trusted=False)
    return score_whole(TrainingSet(data, given), TEST, TEST_TRUTH, **how)


@pytest.mark.parametrize("rules", [BRIEF, dataclasses.replace(protocols.HARD_ADAM, epochs=3)])
def test_all_images_as_a_set_are_scored_alike(rules: protocols.Protocol) -> None:
    """The same images, labels and epochs: the same networks, bit for bit, whatever the protocol's optimiser."""
    found, as_set = (
        whole(protocol=rules),
        score(as_a_set(), TEST, TEST_TRUTH, protocol=rules, fresh=FreshNetworks("convnet1")),
    )
    assert (found.accuracies, found.worst_class, found.protocol) == (
        as_set.accuracies,
        as_set.worst_class,
        as_set.protocol,
    )


def test_equal_compute_is_as_many_batches() -> None:
    assert steps_on_a_set(protocols.HARD, 100) == 1000 and steps_on_a_set(protocols.HARD, 500) == 2000
    assert epochs_of_steps(1000, 60_000, 256) == 4 and epochs_of_steps(3, 60_000, 256) == 1


def test_labels_of_every_kind_are_learned_and_missing_ones_left_out() -> None:
    for kind in ("partial", "unlabelled"):
        data, truth = pictures(6)
        given = supervision(kind, truth)
        found = score_whole(TrainingSet(data, given), TEST, TEST_TRUTH, protocol=BRIEF, fresh=FreshNetworks("mlp"))
        assert 0 <= found.mean <= 100
    nothing = Supervision(np.ones((18, 3), dtype=np.bool_), np.zeros(18, dtype=np.bool_))
    with pytest.raises(UserError, match="has no labels"):
        whole(nothing)
    for rules in (protocols.SOFT, protocols.HARD_AS_LEARNED):
        with pytest.raises(UserError, match=f"for the protocol {rules.name}; choose hard"):
            whole(protocol=rules)
    with pytest.raises(UserError, match="epochs 0"):
        whole(protocol=dataclasses.replace(BRIEF, epochs=0))


def test_coverage_of_the_real_images_themselves_is_whole_and_of_one_image_small() -> None:
    process = standardisation(IMAGES.images)
    order = np.argsort(TEST_TRUTH.labels, kind="stable")
    made = Provenance("random", 10, 0, {}, "patterns", "", "noisy", "none", None)
    itself = CondensedSet(TEST.images[order], TEST_TRUTH.labels[order], TEST.classes, process, made)
    assert pixel_coverage(itself, TEST, TEST_TRUTH) == 1.0
    black = dataclasses.replace(itself, images=np.zeros_like(itself.images))
    assert pixel_coverage(black, TEST, TEST_TRUTH) == 0.0
    few = np.flatnonzero(np.arange(30) % 3 == 0)  # too few of a class to have a fifth neighbour
    assert pixel_coverage(itself, TEST.take(few), TEST_TRUTH.take(few)) is None


def test_bytes_are_those_of_what_is_used() -> None:
    soft = torch.full((18, 3), 1 / 3).numpy()
    made = as_a_set({"online_teacher": {"sha256": "ab", "bytes": 5000}}, soft)
    pixels = made.images.nbytes + 8 * 18
    assert [training_bytes(made, kind) for kind in ("hard", "soft", "online")] == [pixels, pixels + 216, pixels + 5000]
    assert set_bytes(made) == pixels + 216
    packed = as_a_set({"pack": 2}, soft)
    assert len(packed.unpacked()) == 4 * 18 and packed.unpacked().images.nbytes == 16 * packed.images.nbytes
    assert [training_bytes(packed, kind) for kind in ("hard", "soft")] == [pixels, pixels + 216]

"""Soft labels: brought to a temperature, fitted by KL."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from condense.classifiers.mixing import cutmix
from condense.classifiers.teacher import Teacher
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate import score as scoring
from condense.evaluate.protocols import SOFT as WITH_TEACHER
from condense.evaluate.protocols import SOFT_STORED as SOFT
from condense.evaluate.soft import asked_online, soft_loss, soft_targets
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
    return scoring.score(condensed, test, Truth(labels), protocol=rules, fresh=scoring.FreshNetworks())


def test_networks_learn_the_soft_labels_not_the_classes():
    """Labels that swear to another class than the hard ones are what is learnt."""
    shifted = np.eye(3, dtype=np.float32)[(np.repeat(np.arange(3), 2) + 1) % 3]
    assert score(condensed_set(shifted), mixing="none").mean < 20
    assert score(condensed_set(np.eye(3, dtype=np.float32)[np.repeat(np.arange(3), 2)]), mixing="none").mean > 80


def test_the_result_records_what_was_done():
    told = score(condensed_set(logits(2).softmax(1).numpy())).protocol
    assert (told["labels"], told["mixing"], told["network"]) == ("soft", "cutmix", "convnet1-bn")


def test_sets_without_soft_labels_are_refused():
    with pytest.raises(UserError, match=r"set of rded has no soft labels.*hard"):
        score(condensed_set(None))
    with pytest.raises(UserError, match="soft_label_temperature is 'hot'"):
        soft_targets(condensed_set(logits().softmax(1).numpy(), {"soft_label_temperature": "hot"}), 1.0)


class Sums(torch.nn.Module):
    """Logits: minus and plus the mean of an image, and 0.5; four times that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        return 4 * torch.stack([-mean, mean, torch.full_like(mean, 0.5)], 1)


def teacher(preprocessing):
    network = Sums()
    network.register_parameter("anywhere", torch.nn.Parameter(torch.zeros(1)))
    return Teacher(network, preprocessing, (1, 8, 8), CLASSES, {})


@pytest.mark.parametrize("own", [Preprocessing((0.5,), (0.25,)), Preprocessing((0.1,), (2.0,))])
def test_an_online_teacher_answers_about_the_mixed_images_in_its_own_scale(own):
    x, generator = torch.randn(6, 1, 8, 8), torch.Generator
    ask = asked_online(teacher(own), Preprocessing((0.5,), (0.25,)), 4.0, cutmix)
    mixed, targets = ask(x, torch.zeros(6, 3), generator().manual_seed(2))
    by_hand, _ = cutmix(x, torch.zeros(6, 3), generator().manual_seed(2))
    assert torch.equal(mixed, by_hand) and not torch.equal(mixed, x)
    seen = ((by_hand * 0.25 + 0.5) - own.mean[0]) / own.std[0]
    torch.testing.assert_close(targets, (Sums()(seen) / 4.0).softmax(1))
    plain, _ = asked_online(teacher(own), Preprocessing((0.5,), (0.25,)), 4.0, None)(x, targets, generator())
    assert torch.equal(plain, x)


def test_the_teacher_is_queried_if_there_is_one_and_the_result_records_it():
    """A teacher that contradicts the stored labels is what networks learn from."""
    shades = np.repeat(np.array([20, 240, 130], dtype=np.uint8), 4)
    images = np.broadcast_to(shades[:, None, None, None], (12, 8, 8, 1)).copy()
    wrong = np.roll(np.eye(3, dtype=np.float32), 1, axis=1)[np.repeat(np.arange(3), 4)]
    provenance = Provenance("rded", 4, 0, {}, "patterns", "", "noisy", "none", None)
    process = Preprocessing((0.5,), (0.25,))
    made = CondensedSet(images, np.repeat(np.arange(3), 4), CLASSES, process, provenance, soft_labels=wrong)
    test, truth = ImageData(images, CLASSES, "patterns", "test"), Truth(np.repeat(np.arange(3), 4))
    rules = dataclasses.replace(
        WITH_TEACHER, network="mlp", epochs=60, augmentation="", mixing="none", temperature=1.0, learning_rate=0.01
    )
    both = [
        scoring.score(made, test, truth, protocol=rules, fresh=scoring.FreshNetworks(), teacher=each)
        for each in (None, teacher(process))
    ]
    assert [found.labels for found in both] == ["soft", "online"]
    assert both[0].mean == 0 and both[1].mean > 99 and (both[0].worst_class, both[1].worst_class) == (0, 100)

"""Protocols are frozen: a published one cannot change without a new version."""

import dataclasses
import hashlib
import json

import pytest
import torch

from condense import augment
from condense.classifiers import networks
from condense.errors import UserError
from condense.evaluate.protocols import DMIS, HARD, HARD_QUICK, PROTOCOLS, SOFT, SOFT_STORED, protocol

PUBLISHED = {
    ("hard", 1): "d4a8609043cafc2c",
    ("hard-quick", 1): "2106dffeda7d87f4",
    ("quick", 1): "5fdcc798cc91cb0e",
    ("hard-adam", 1): "8eca0f9025f8ac2d",
    ("hard-as-learned", 1): "7157fca96475f201",
    ("stored-labels", 1): "4dbfb8e56eda7f8c",
    ("soft", 1): "aa02c0427f16719f",
    ("soft", 2): "46db1f9795a2d081",
    ("soft-stored", 1): "b227c7ccf63fa20b",
    ("dmis", 1): "32d50e9840a40377",
}
"""Digests of every version that ever was published; a changed protocol gets a new line and a new version."""


def digest(rules):
    written = json.dumps(dataclasses.asdict(rules), sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_protocols_never_change(name):
    rules = PROTOCOLS[name]
    assert rules.name == name
    assert digest(rules) == PUBLISHED.get((name, rules.version)), (
        "the protocol differs from the one published under this version; raise `version` and add its digest"
    )


def test_a_change_is_noticed():
    assert digest(dataclasses.replace(HARD, epochs=999)) != digest(HARD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        HARD.epochs = 999


def test_what_the_papers_say():
    assert (HARD.epochs, HARD.batch_size, HARD.optimizer, HARD.learning_rate) == (1000, 256, "sgd", 0.01)
    assert (HARD.momentum, HARD.weight_decay, HARD.schedule) == (0.9, 5e-4, "step")
    assert (HARD.network, HARD.augmentation) == ("convnet3", "color_crop_cutout_flip_scale_rotate")
    differs = {f.name for f in dataclasses.fields(HARD) if getattr(HARD, f.name) != getattr(HARD_QUICK, f.name)}
    assert differs == {"name", "epochs", "source"} and HARD_QUICK.epochs == 300
    assert (SOFT.epochs, SOFT.optimizer, SOFT.learning_rate, SOFT.weight_decay) == (300, "adamw", 1e-3, 0.01)
    assert (SOFT.temperature, SOFT.mixing, SOFT.labels) == (20, "cutmix", "teacher")
    differs = {f.name for f in dataclasses.fields(SOFT) if getattr(SOFT, f.name) != getattr(SOFT_STORED, f.name)}
    assert differs == {"name", "version", "labels", "source"} and SOFT_STORED.labels == "soft"
    stored = PROTOCOLS["stored-labels"]
    differs = {f.name for f in dataclasses.fields(HARD) if getattr(HARD, f.name) != getattr(stored, f.name)}
    assert differs == {"name", "labels", "temperature", "source"} and (stored.labels, stored.temperature) == ("soft", 1)
    assert (DMIS.network, DMIS.labels) == ("resnet34", "hard")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_can_be_followed(name):
    rules = protocol(name)
    networks.check_name(rules.network)
    followed = dataclasses.replace(rules, learning_rate=rules.learning_rate or 0.02)
    assert followed.fit_options(bf16=True).epochs == rules.epochs
    assert rules.reported == "last epoch"
    assert (rules.labels != "hard") == (rules.temperature is not None)
    assert rules.mixing == "none" or rules.labels != "hard"  # class numbers cannot be mixed


def test_images_that_may_not_be_mirrored_are_not():
    assert HARD.for_data(may_flip=False).augmentation == "color_crop_cutout_scale_rotate"
    assert SOFT.for_data(may_flip=False).augmentation == "crop"
    assert HARD.for_data(may_flip=True) == HARD


def test_one_operation_per_batch_or_all_in_turn():
    x = torch.randn(4, 1, 8, 8)

    def generator():
        return torch.Generator().manual_seed(3)

    chosen = HARD.augment()(x, generator())
    assert torch.equal(chosen, augment.independent(x, HARD.augmentation, generator()))
    used = generator()
    by_hand = augment.independent(augment.independent(x, "crop", used), "flip", used)
    assert torch.equal(SOFT.augment()(x, generator()), by_hand)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match='"hrad"; nearest: hard'):
        protocol("hrad")

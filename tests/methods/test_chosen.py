"""Choosing real images by what is believed of them."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from condense.methods import chosen
from condense.run import Run

ASKED = {"folds": 2, "epochs": 1, "width": 4, "crops": False}


def make(train, how, ipc=3, seed=0):
    return chosen.condense(train, ipc, chosen.Options.model_validate({"choose": how, "asked": ASKED}), seed, Run(None))


@pytest.mark.parametrize("how", ["kmeans", "herding", "surest", "none"])
def test_images_are_of_the_believed_class_whatever_their_label(how):
    _, truth = tiny.pictures()
    believing = replace(tiny.training_set(), beliefs=np.eye(3, dtype=np.float32)[truth.labels])
    made = make(believing, how)
    assert truth.labels[made.source_index].tolist() == made.labels.tolist()
    assert len(set(made.source_index.tolist())) == 9
    np.testing.assert_array_equal(made.images, believing.images.images[made.source_index])
    assert made.provenance.notes["believed_images"] == [20, 20, 20]
    nobody = how in ("surest", "none")
    assert (made.provenance.cost.network_evaluations == 0) == nobody, "for these no features are needed"


def test_the_surest_are_the_surest():
    beliefs = np.full((60, 3), 0.01, np.float32)
    beliefs[np.arange(60), np.arange(60) % 3] = 0.98
    beliefs[[0, 4, 8], [0, 1, 2]] += 0.005
    beliefs /= beliefs.sum(1, keepdims=True)
    made = make(replace(tiny.training_set(), beliefs=beliefs), "surest", ipc=1)
    assert made.source_index.tolist() == [0, 4, 8]
    seeds = [make(replace(tiny.training_set(), beliefs=beliefs), "none", seed=seed).source_index for seed in (0, 0, 1)]
    assert seeds[0].tolist() == seeds[1].tolist() != seeds[2].tolist()


def test_beliefs_are_stored_as_soft_labels_on_request():
    beliefs = np.random.default_rng(0).dirichlet(np.ones(3), 60).astype(np.float32)
    options = chosen.Options.model_validate({"choose": "surest", "soft_labels": True})
    train = replace(tiny.training_set(), beliefs=beliefs)
    made = chosen.condense(train, 3, options, 0, Run(None))
    np.testing.assert_array_equal(made.soft_labels, beliefs[made.source_index])
    assert make(train, "surest").soft_labels is None


@pytest.mark.parametrize("kind", ["partial", "unlabelled", "mixture"])
def test_without_beliefs_the_labeller_judges_labels_of_every_kind(kind):
    train = tiny.training_set(kind)
    made = make(train, "kmeans")
    cost = made.provenance.cost
    assert cost.network_evaluations == chosen.evaluations(train, 3, chosen.Options.model_validate({"asked": ASKED}))
    assert cost.seconds > 0 and made.ipc == 3

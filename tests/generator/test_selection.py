"""Model selection: the weights with the lowest held-out loss, and nothing else, reach the generator."""

import math

import pytest
import torch
from tiny import NETWORK, train_options, training_set

from condense.errors import UserError
from condense.generator.selection import BestWeights
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.run import Run


def test_only_a_lower_loss_replaces_the_weights_and_they_are_copied():
    best, weights = BestWeights(), {"w": torch.zeros(2)}
    best.offer(2.0, 1, weights)
    weights["w"].add_(1)
    best.offer(2.0, 2, weights)
    assert (best.loss, best.step) == (2.0, 1)
    assert best.weights["w"].tolist() == [0, 0]
    best.offer(1.5, 3, weights)
    assert (best.loss, best.step) == (1.5, 3)
    assert best.weights["w"].tolist() == [1, 1]


def test_best_keeps_the_step_with_the_lowest_held_out_loss():
    options = train_options(select="best", select_every=3, held_out=0.2)
    trainer = Trainer(training_set(), NETWORK, options, 0)
    losses, weights = {}, {}
    for step in trainer.steps():
        if step.step % 3 == 0:
            losses[step.step] = trainer.generator().record.held_out_loss
            weights[step.step] = {k: v.clone() for k, v in trainer.ema_denoiser.network.state_dict().items()}
    lowest = min(losses, key=losses.__getitem__)
    generator = trainer.finish()
    assert generator.record.selected_step == lowest
    assert all(torch.equal(v, weights[lowest][k]) for k, v in generator.denoiser.network.state_dict().items())


def test_last_keeps_the_last_weights():
    trainer = Trainer(training_set(), NETWORK, train_options(held_out=0.2), 0)
    list(trainer.steps())
    assert trainer.best.loss == math.inf
    assert trainer.finish().record.selected_step == 15


def test_the_best_weights_survive_a_stop(tmp_path):
    options = train_options(select="best", select_every=2, held_out=0.2)
    unbroken = train_generator(training_set(), NETWORK, options, 0, Run(None))
    trainer = Trainer(training_set(), NETWORK, options, 0)
    for step in trainer.steps():
        if step.step == 7:
            tensors, meta = trainer.state()
            Run(tmp_path).save("checkpoint", tensors, {**meta, "seconds": 0.0})
            break
    resumed = train_generator(training_set(), NETWORK, options, 0, Run(tmp_path))
    assert resumed.record.selected_step == unbroken.record.selected_step
    mine, theirs = resumed.denoiser.network.state_dict(), unbroken.denoiser.network.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_checkpoint_of_other_labels_is_refused():
    tensors, meta = Trainer(training_set("noisy"), NETWORK, train_options(), 0).state()
    with pytest.raises(UserError, match="other labels"):
        Trainer(training_set("partial"), NETWORK, train_options(), 0).restore(tensors, meta)

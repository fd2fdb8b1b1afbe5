"""A batch's losses: two passes against autograd, draws, the noised posterior, and what each step costs."""

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from condense.generator.classifier import centred_interval
from condense.generator.denoiser import Denoiser, loss_weight
from condense.generator.labels.noisy_posterior import noisy_posterior
from condense.generator.labels.posterior import given_label, label_likelihood
from condense.generator.networks import AllClass, Conditional, UNetShape
from condense.generator.training import batch_loss, class_sampling
from condense.generator.training.batch_loss import (
    Batch,
    ClassifierSettings,
    dmis_losses,
    draw,
    drawn_label_losses,
)
from condense.generator.training.class_sampling import inclusion_probabilities

SHAPE = UNetShape(channels=8, multipliers=(1,), blocks=1)
C = 4
SETTINGS = ClassifierSettings(5.0, torch.full((C,), 1 / C).log(), centred_interval(6.4), 0.7, 1.0)


def awake(network, seed=0):
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return Denoiser(network)


def random_batch(seed=0):
    """Noisy, labelled, partial and unlabelled images, with sigma inside and outside the classifier's interval."""
    random = torch.Generator().manual_seed(seed)
    candidates = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
    candidates, trusted = candidates.bool(), torch.tensor([False, False, True, True, True, True])
    x_0 = torch.rand(6, 1, 4, 4, generator=random) * 2 - 1
    sigma = torch.tensor([0.3, 60.0, 0.2, 0.9, 0.4, 2.0])
    x_t = x_0 + sigma[:, None, None, None] * torch.randn(x_0.shape, generator=random)
    target = torch.randn(6, C, generator=random).softmax(1)
    likelihood = label_likelihood(candidates, trusted, 0.6 * torch.eye(C) + 0.1)
    pi = given_label(target, likelihood)
    return Batch(x_0, x_t, sigma, None, pi, target, candidates, trusted, likelihood, torch.arange(6))


def losses_of(model, batch, *, top_k, form="expected", weight=0.8, teacher=None, seed=3):
    return dmis_losses(
        model,
        teacher or model,
        batch,
        SETTINGS,
        torch.Generator().manual_seed(seed),
        form=form,
        top_k=top_k,
        classification_weight=weight,
    )


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@pytest.mark.parametrize("form", ["expected", "sampled", "mixture"])
@pytest.mark.parametrize("part", ["generative", "classification"])
def test_two_passes_give_the_gradient_of_one(form, part):
    model, batch = awake(Conditional(SHAPE, 1, C)), random_batch()
    exact = gradients(model, getattr(losses_of(model, batch, top_k=None, form=form), part).sum())
    twice = gradients(model, getattr(losses_of(model, batch, top_k=C, form=form), part).sum())
    assert sum(g.abs().sum() for g in exact) > 1
    for found, wanted in zip(twice, exact, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max() + 1e-6))


@pytest.mark.parametrize(
    ("form", "part"), [("expected", "generative"), ("expected", "classification"), ("mixture", "classification")]
)
def test_the_mean_gradient_of_drawn_classes_is_that_of_all(monkeypatch, form, part):
    """Exactly: between two of the numbers where the draw of an image changes, it is the same for every uniform one."""
    model, batch = awake(Conditional(SHAPE, 1, C)), random_batch()
    exact = flat(gradients(model, getattr(losses_of(model, batch, top_k=None, form=form), part).sum()))
    found, changes = [], torch.tensor([0.0, 1.0], dtype=torch.float64)

    def listening(share, k, always=None):
        found.append(inclusion_probabilities(share, k, always))
        return found[-1]

    monkeypatch.setattr(class_sampling, "inclusion_probabilities", listening)
    losses_of(model, batch, top_k=2, form=form)
    changes = torch.cat([changes, found[0].cumsum(1).flatten() % 1]).sort().values
    mean = torch.zeros_like(exact)
    for low, high in itertools.pairwise(changes):
        if high - low > 1e-7:
            uniform = ((low + high) / 2).expand(6, 1)
            monkeypatch.setattr(torch, "rand", lambda *_, uniform=uniform, **__: uniform)
            once = gradients(model, getattr(losses_of(model, batch, top_k=2, form=form), part).sum())
            mean += float(high - low) * flat(once)
    assert (mean - exact).norm() < 1e-4 * exact.norm()


def evaluated_classes(monkeypatch, model, batch, top_k):
    """Which classes of each image a step evaluates with gradient, over many draws: [draws, B, k]."""
    asked, forward = [], model.forward

    def listening(x, sigma, classes=None, augment=None):
        if classes is not None:
            asked.append(classes)
        return forward(x, sigma, classes, augment)

    monkeypatch.setattr(model, "forward", listening)
    for seed in range(60):
        losses_of(model, batch, top_k=top_k, seed=seed)
    return torch.stack(asked)


@pytest.mark.parametrize("top_k", [2, 3])
def test_single_labels_and_from_three_classes_on_the_most_probable_are_always_evaluated(monkeypatch, top_k):
    model, batch = awake(Conditional(SHAPE, 1, C)), random_batch()
    asked = evaluated_classes(monkeypatch, model, batch, top_k)
    single = batch.candidates.sum(1) == 1
    label = batch.candidates.float().argmax(1)
    assert (asked[:, single] == label[single, None]).any(2).all()
    kept = (asked == batch.pi.argmax(1)[:, None]).any(2).all()
    assert kept == (top_k == 3)


def test_classes_that_are_equally_likely_are_drawn_equally_often(monkeypatch):
    model, batch = awake(Conditional(SHAPE, 1, C)), random_batch()
    batch = dataclasses.replace(
        batch, pi=torch.full((6, C), 1 / C), candidates=torch.ones(6, C).bool(), sigma=torch.full((6,), 50.0)
    )
    asked = evaluated_classes(monkeypatch, model, batch, 1)
    counts = torch.bincount(asked.flatten(), minlength=C)
    assert counts.sum() == 360 and (counts > 60).all()


@pytest.mark.parametrize("top_k", [None, C])
def test_classes_are_compared_without_dropout(monkeypatch, top_k):
    model, batch = awake(Conditional(dataclasses.replace(SHAPE, dropout=0.5), 1, C)), random_batch()
    weights = []
    monkeypatch.setattr(batch_loss, "given_label", lambda posterior, _: weights.append(posterior) or posterior)
    for training in (False, True):
        losses_of(model.train(training), batch, top_k=top_k, form="mixture", teacher=copy.deepcopy(model).eval())
        assert model.training == training
    torch.testing.assert_close(*weights)


def test_outside_the_interval_the_classes_are_chosen_for_generation_alone():
    batch = dataclasses.replace(random_batch(), sigma=torch.full((6,), 50.0))
    model = awake(Conditional(SHAPE, 1, C))
    with_term, without = losses_of(model, batch, top_k=2, weight=9.0), losses_of(model, batch, top_k=2, weight=0.0)
    torch.testing.assert_close(with_term.generative, without.generative)
    assert not with_term.classification.any()


def test_classification_counts_inside_the_interval_only():
    model, batch = awake(AllClass(SHAPE, 1, C)), random_batch()
    inside = losses_of(model, batch, top_k=None).classification != 0
    assert inside.tolist() == [True, False, True, True, True, True]


@pytest.mark.parametrize("top_k", [None, C])
def test_self_training_on_unlabelled_images_counts_by_its_weight(top_k):
    model, batch = awake(Conditional(SHAPE, 1, C)), random_batch()

    def of(weight):
        settings = dataclasses.replace(SETTINGS, unlabelled_weight=weight)
        random = torch.Generator().manual_seed(0)
        return dmis_losses(
            model, model, batch, settings, random, form="expected", top_k=top_k, classification_weight=1
        ).classification

    whole, less, none = of(1.0), of(0.25), of(0.0)
    torch.testing.assert_close(less[5], 0.25 * whole[5])
    assert not none[5] and whole[5]
    torch.testing.assert_close(none[:5], whole[:5])


def test_one_hot_pi_makes_both_kinds_of_step_the_vanilla_loss():
    model, batch = awake(AllClass(SHAPE, 1, C)), random_batch()
    labels = torch.tensor([0, 2, 1, 3, 3, 0])
    batch = dataclasses.replace(batch, pi=torch.eye(C)[labels])
    own = model.one_class(batch.x_t, batch.sigma, labels)
    edm = loss_weight(batch.sigma) * (own - batch.x_0).square().sum((1, 2, 3))
    drawn = drawn_label_losses(model, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.generative, edm)
    assert not drawn.classification.any()
    for form in ("expected", "sampled"):
        torch.testing.assert_close(losses_of(model, batch, top_k=None, form=form).generative, edm)


def test_draws_follow_pi():
    pi = torch.tensor([[0.1, 0.0, 0.6, 0.3]]).repeat(40_000, 1)
    drawn = draw(pi, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(drawn, minlength=4) / 40_000, pi[0], atol=0.01, rtol=0)
    assert not (drawn == 1).any()


def test_the_mean_of_sampled_losses_is_the_expected_loss():
    model, batch = awake(AllClass(SHAPE, 1, C)), random_batch()
    expected = losses_of(model, batch, top_k=None).generative
    with torch.no_grad():
        runs = [losses_of(model, batch, top_k=None, form="sampled", seed=s).generative for s in range(150)]
    torch.testing.assert_close(torch.stack(runs).mean(0), expected.detach(), rtol=0.15, atol=0.0)


def test_mixture_form_weighs_the_posterior_at_x_t_by_the_label():
    model, teacher, batch = awake(AllClass(SHAPE, 1, C)), awake(AllClass(SHAPE, 1, C), 1), random_batch()
    with torch.no_grad():
        losses = losses_of(model, batch, top_k=None, form="mixture", teacher=teacher)
        denoised = model.all_classes(batch.x_t, batch.sigma)
        random = torch.Generator().manual_seed(3)
        blind = noisy_posterior(
            teacher, batch.x_t, batch.sigma, random, temperature=SETTINGS.temperature, log_prior=SETTINGS.log_prior
        )
    pi = given_label(blind, batch.likelihood)
    mixed = torch.einsum("bk,bkchw->bchw", pi, denoised)
    expected = loss_weight(batch.sigma) * (mixed - batch.x_0).square().sum((1, 2, 3))
    torch.testing.assert_close(losses.generative, expected)


@pytest.mark.parametrize(
    ("kind", "form", "top_k", "student", "teacher"),
    [
        (AllClass, "expected", None, 1, 0),
        (AllClass, "mixture", None, 1, 2),
        (Conditional, "expected", None, C, 0),
        (Conditional, "mixture", None, C, 2 * C),
        (Conditional, "expected", 2, C + 2, 0),  # a survey without gradient, then k with it
        (Conditional, "mixture", 2, C + 2, 2 * C),
    ],
)
def test_evaluations_of_a_dmis_step(kind, form, top_k, student, teacher):
    model, ema, batch = Denoiser(kind(SHAPE, 1, C)), Denoiser(kind(SHAPE, 1, C)), random_batch()
    losses_of(model, batch, top_k=top_k, form=form, teacher=ema)
    assert (model.evaluations, ema.evaluations) == (6 * student, 6 * teacher)


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_a_vanilla_step_costs_one_evaluation_per_image(kind):
    model = Denoiser(kind(SHAPE, 1, C))
    drawn_label_losses(model, random_batch(), torch.Generator().manual_seed(0))
    assert model.evaluations == 6

"""TDSM and CAD as training objectives: their weights and losses against formulas and exact denoisers."""

import dataclasses

import numpy as np
import pytest
import torch
from oracles import MixtureDenoiser, three_classes
from tiny import CONDITIONAL, NETWORK, train_options, training_set
from torch import nn

from condense.errors import UserError
from condense.generator.denoiser import Denoiser, loss_weight
from condense.generator.labels.coherence import relative_confidence
from condense.generator.labels.noisy_classifier import NoisyClassifier
from condense.generator.labels.posterior import given_label, label_likelihood
from condense.generator.losses import forward_loss
from condense.generator.model import build_denoiser
from condense.generator.networks import AllClass, Conditional, UNetShape
from condense.generator.training.batch_loss import Batch, drawn_label_losses, transition_aware_losses
from condense.generator.training.objectives import Cad, Tdsm, TrainingStep, objective_of
from condense.generator.training.prerequisites import Prerequisites, prepare
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.run import Run

C = 3
SHAPE = UNetShape(channels=8, multipliers=(1,), blocks=1)
SYMMETRIC = torch.tensor([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
ASYMMETRIC = torch.tensor([[0.65, 0.3, 0.05], [0.02, 0.9, 0.08], [0.25, 0.25, 0.5]])
OBSERVED = torch.tensor([0, 2, 1, 1])


def awake(network, seed=0):
    """A denoiser whose output, and input of the coherence, are far from their initial zeros."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return Denoiser(network).eval()


def noisy_batch(transition=ASYMMETRIC, seed=0):
    random = torch.Generator().manual_seed(seed)
    candidates, trusted = torch.eye(C).bool()[OBSERVED], torch.zeros(4, dtype=torch.bool)
    x_0 = torch.rand(4, 1, 4, 4, generator=random) * 2 - 1
    sigma = torch.tensor([0.1, 0.4, 1.5, 20.0])
    x_t = x_0 + sigma[:, None, None, None] * torch.randn(x_0.shape, generator=random)
    likelihood = label_likelihood(candidates, trusted, transition)
    given = candidates.float()
    return Batch(x_0, x_t, sigma, None, given, given, candidates, trusted, likelihood, torch.arange(4))


def posterior(seed=1):
    return torch.randn(4, C, generator=torch.Generator().manual_seed(seed)).softmax(1)


# TDSM


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_tdsm_is_the_edm_loss_of_a_mixture_with_the_papers_weights(kind):
    model, batch, h = awake(kind(SHAPE, 1, C)), noisy_batch(), posterior()
    with torch.no_grad():
        found = transition_aware_losses(model, h, batch, None)
        every = model.all_classes(batch.x_t, batch.sigma).double().numpy()
    for i, z in enumerate(OBSERVED.tolist()):
        weights = [float(ASYMMETRIC[y, z] * h[i, y]) for y in range(C)]
        mixed = sum(weights[y] / sum(weights) * every[i, y] for y in range(C))
        error = float(((mixed - batch.x_0[i].double().numpy()) ** 2).sum())
        sigma = float(batch.sigma[i])
        weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
        assert float(found.generative[i]) == pytest.approx(weight * error, rel=1e-4)
    assert not found.classification.any()


def test_weights_are_those_of_dmis_and_do_not_depend_on_the_orientation_of_a_symmetric_matrix():
    """The paper of TDSM writes the label model the other way round; with T = T^T nothing is left of that."""
    h, candidates, trusted = posterior(), torch.eye(C).bool()[OBSERVED], torch.zeros(4, dtype=torch.bool)
    for transition, equal in ((SYMMETRIC, True), (ASYMMETRIC, False)):
        turned = h * transition[OBSERVED]  # T[z, y] in place of T[y, z]
        turned = turned / turned.sum(1, keepdim=True)
        dmis = given_label(h, label_likelihood(candidates, trusted, transition))
        assert torch.allclose(turned, dmis, atol=1e-6) is equal


def test_an_identity_matrix_leaves_the_edm_loss_of_the_given_label():
    model, batch = awake(Conditional(SHAPE, 1, C)), noisy_batch(torch.eye(C))
    own = model.one_class(batch.x_t, batch.sigma, OBSERVED)
    edm = loss_weight(batch.sigma) * (own - batch.x_0).square().flatten(1).sum(1)
    torch.testing.assert_close(transition_aware_losses(model, posterior(), batch, None).generative, edm)


def test_the_largest_weights_alone_cost_their_own_evaluations():
    model, batch, h = awake(Conditional(SHAPE, 1, C)), noisy_batch(), posterior()
    whole = transition_aware_losses(model, h, batch, None).generative
    torch.testing.assert_close(transition_aware_losses(model, h, batch, C).generative, whole)
    before = model.evaluations
    transition_aware_losses(model, h, batch, 2)
    assert model.evaluations - before == 2 * len(batch.x_0)


def test_the_weighted_mixture_of_clean_denoisers_is_the_noisy_labels_denoiser():
    """Na et al. (2024), Theorem 1: sum_y w_y D_y = E[x_0 | x_t, z] where h is the exact p(y | x_t)."""
    clean, prior = three_classes(), torch.tensor([0.5, 0.3, 0.2])
    joint = prior[:, None] * ASYMMETRIC  # p(y, z)
    of_noisy = (joint / joint.sum(0)).T  # p(y | z), [z, y]
    merged = MixtureDenoiser(
        (of_noisy[:, :, None] * clean.weights).flatten(1),
        clean.means.flatten(0, 1).expand(C, -1, -1, -1, -1),
        clean.stds.flatten().expand(C, -1),
    )
    x_t = 0.4 * torch.randn(50, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for z in range(C):
        for sigma in (0.1, 0.5, 3.0):
            h = clean.posterior(x_t, prior, sigma)
            weights = given_label(h, ASYMMETRIC[:, z].expand(50, -1))
            sigmas = torch.full((50,), sigma, dtype=torch.float64)
            mixed = (weights[:, :, None, None, None] * clean.all_classes(x_t, sigmas)).sum(1)
            torch.testing.assert_close(mixed, merged.all_classes(x_t, sigmas)[:, z], atol=1e-5, rtol=1e-4)


def test_forward_correction_is_the_cross_entropy_of_the_noisy_posterior():
    logits = torch.randn(4, C, generator=torch.Generator().manual_seed(3))
    likelihood = label_likelihood(torch.eye(C).bool()[OBSERVED], torch.zeros(4, dtype=torch.bool), ASYMMETRIC)
    noisy = logits.softmax(1).double().numpy() @ ASYMMETRIC.double().numpy()
    direct = -np.log(noisy[np.arange(4), OBSERVED.numpy()])
    np.testing.assert_allclose(forward_loss(logits, likelihood).numpy(), direct, rtol=1e-5)


def test_labels_as_given_get_a_network_out_of_a_swap_that_the_matrix_leaves_it_in():
    """A network can be sure of the wrong one of two confused classes: why a cold start trusts labels."""
    matrix = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    logits = torch.tensor([[-20.0, 20.0]], requires_grad=True)  # the class is 0, its labels 60 % zeros
    for likelihoods, gradient in ((matrix, 0.0), (torch.eye(2), -0.6)):
        loss = sum(matrix[0, z] * forward_loss(logits, likelihoods[:, z][None])[0] for z in range(2))
        found = torch.autograd.grad(loss, logits)[0]
        assert float(found[0, 0]) == pytest.approx(gradient, abs=1e-6)


def test_the_clean_posterior_minimises_the_expected_forward_loss():
    clean = torch.tensor([[0.2, 0.7, 0.1]], dtype=torch.float64)
    logits = clean.log().float().requires_grad_(True)
    share = (clean @ ASYMMETRIC.double())[0]  # of each noisy label
    expected = sum(share[z] * forward_loss(logits, ASYMMETRIC[:, z][None])[0] for z in range(C))
    (gradient,) = torch.autograd.grad(expected, logits)
    assert gradient.abs().max() < 1e-6
    shifted = logits.detach() + torch.tensor([[0.3, 0.0, 0.0]])
    assert sum(share[z] * forward_loss(shifted, ASYMMETRIC[:, z][None])[0] for z in range(C)) > expected + 1e-3


def test_tdsm_uses_its_own_classifier_at_the_noise_level_of_the_image():
    batch, model = noisy_batch(), awake(AllClass(SHAPE, 1, C))
    classifier = NoisyClassifier(SHAPE, 1, C).eval()
    torch.manual_seed(1)
    for parameter in classifier.parameters():
        nn.init.normal_(parameter, std=0.15)
    objective = Tdsm(classifier.requires_grad_(False), None)
    found = objective.losses(TrainingStep(model, model, batch, None, torch.Generator(), cold=True))
    h = classifier(batch.x_t, batch.sigma).softmax(1)
    assert (h - 1 / C).abs().max() > 0.01
    torch.testing.assert_close(found.generative, transition_aware_losses(model, h, batch, None).generative)
    changed = classifier(batch.x_t, batch.sigma.flip(0)).softmax(1)
    assert not torch.allclose(h, changed, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"objective": "tdsm"}, "TDSM keeps no beliefs"),
        ({"objective": "tdsm", "transition": [[1.0, 0.0], [0.0, 1.0]]}, "3x3 with rows that sum to 1"),
    ],
)
def test_tdsm_needs_a_transition_matrix(options, complaint):
    with pytest.raises(UserError, match=complaint):
        prepare(training_set(), NETWORK, train_options(**options), 0, Run(None), torch.device("cpu"))


@pytest.mark.parametrize("name", ["tdsm", "cad"])
def test_an_objective_without_what_it_needs_is_refused(name):
    with pytest.raises(UserError, match=f"'{name}' needs `prepare` first"):
        objective_of(train_options(objective=name), Prerequisites())


# CAD


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_coherence_changes_the_output_and_none_means_one(kind):
    model, batch = awake(kind(SHAPE, 1, C, coherent=True)), noisy_batch()
    ask = batch.x_t, batch.sigma, OBSERVED[:, None], None
    with torch.no_grad():
        low, high, unsaid = model(*ask, torch.zeros(4)), model(*ask, torch.ones(4)), model(*ask)
    assert (low - high).abs().max() > 1e-3
    assert torch.equal(high, unsaid)
    mixed = torch.tensor([0.0, 1.0, 0.0, 1.0])
    with torch.no_grad():
        each = model(*ask, mixed)
    torch.testing.assert_close(each[0::2], low[0::2])
    torch.testing.assert_close(each[1::2], high[1::2])


@pytest.mark.parametrize("network", [NETWORK, CONDITIONAL])
def test_a_constant_coherence_is_a_bias_so_that_cad_is_then_edm(network):
    told, plain = (build_denoiser(network, (1, 8, 8), C, 0, coherent=coherent).eval() for coherent in (True, False))
    shared = told.network.state_dict()
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, shared[name]), "the same seed, the same weights"
    with torch.no_grad():
        for model in (told, plain):
            awake(model.network)
        embed, first = told.network.unet.embed_coherence, plain.network.unet.embed[0]
        first.bias += first.weight @ (0.7 * embed.weight[:, 0] + embed.bias)
    batch = dataclasses.replace(noisy_batch(), x_0=torch.zeros(4, 1, 8, 8), x_t=torch.ones(4, 1, 8, 8))
    at = TrainingStep(told, told, batch, None, torch.Generator().manual_seed(0), cold=False)
    cad = Cad(torch.full((4, C), 0.7)).losses(at)
    edm = drawn_label_losses(plain, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(cad.generative, edm.generative)
    other = Cad(torch.full((4, C), 0.2)).losses(at)
    assert not torch.allclose(other.generative, edm.generative, rtol=1e-3)


def test_the_network_is_conditioned_on_the_coherence_of_the_drawn_label():
    model, batch = awake(Conditional(SHAPE, 1, C, coherent=True)), noisy_batch()
    coherence = torch.rand(10, C, generator=torch.Generator().manual_seed(2))
    batch = dataclasses.replace(batch, indices=torch.tensor([7, 0, 3, 9]))
    found = Cad(coherence).losses(TrainingStep(model, model, batch, None, torch.Generator(), cold=False)).generative
    r = coherence[batch.indices, OBSERVED]
    own = model(batch.x_t, batch.sigma, OBSERVED[:, None], None, r)[:, 0]
    torch.testing.assert_close(found, loss_weight(batch.sigma) * (own - batch.x_0).square().flatten(1).sum(1))


def test_samples_are_drawn_at_coherence_one(tmp_path):
    train = training_set()
    options = train_options(objective="cad", steps=2, coherence={"folds": 2, "epochs": 1}, precision="fp32")
    generator = train_generator(train, CONDITIONAL, options, 0, Run(tmp_path))
    labels = np.array([0, 1, 2, 0])
    wanted = generator.sample(labels, 3, num_steps=3)
    embed = generator.denoiser.network.unet.embed_coherence
    told = []
    hook = embed.register_forward_hook(lambda module, given, out: told.append(given[0].clone()))
    assert np.array_equal(generator.sample(labels, 3, num_steps=3), wanted)
    hook.remove()
    assert len(told) == 5 and all((r == 1).all() for r in told)
    again = type(generator).load(Run(tmp_path))
    assert again.denoiser.coherent and np.array_equal(again.sample(labels, 3, num_steps=3), wanted)


def test_coherence_is_the_confidence_in_a_label_beside_that_in_the_best_possible_one():
    supervision = training_set("mixture").supervision  # trusted single, noisy, partial, unlabelled in turn
    p = torch.randn(60, C, generator=torch.Generator().manual_seed(0)).softmax(1)
    r = relative_confidence(p, supervision)
    assert (r >= 0).all() and (r <= 1).all() and (r.max(1).values == 1).all()
    trusted = supervision.trusted & supervision.single
    observed = torch.from_numpy(supervision.observed)
    assert (r[torch.from_numpy(trusted), observed[torch.from_numpy(trusted)]] == 1).all()
    noisy = torch.from_numpy(supervision.noisy)
    torch.testing.assert_close(r[noisy], p[noisy] / p[noisy].max(1, keepdim=True).values)
    excluded = torch.from_numpy(~supervision.candidates & supervision.trusted[:, None])
    assert excluded.any() and not r[excluded].any()


def test_cad_learns_from_labelled_images_alone():
    options = train_options(objective="cad", coherence={"folds": 2, "epochs": 1})
    train = training_set("unlabelled")
    prepared = prepare(train, NETWORK, options, 0, Run(None), torch.device("cpu"))
    trainer = Trainer(train, NETWORK, options, 0, prepared=prepared)
    assert not train.supervision.unlabelled[trainer.train_indices.numpy()].any()
    assert prepared.images_seen == 1 * int((~train.supervision.unlabelled).sum())  # two folds, each sees the other

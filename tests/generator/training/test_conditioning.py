"""The conditioned directions of the mixture form against closed forms, and how fast they tell classes apart."""

import pytest
import torch

from condense.generator import losses
from condense.generator.labels.posterior import given_label
from condense.generator.training import conditioning
from condense.generator.training.conditioning import DAMPING, directions

C = 4
UNIFORM = torch.full((C,), 1 / C)


def symmetric(rate):
    return torch.eye(C) * (1 - rate) + (1 - torch.eye(C)) * rate / (C - 1)


def all_labels(transition, h):
    """One image of each label, in the proportion a uniform prior and a symmetric matrix give: h [C, C], p(z | y)."""
    return h.expand(C, -1), transition.T.contiguous()


def average_update(h, transition):
    """E_z[u^z (pi^z)^T | x_t]: what an error of the D_y comes back as, [C, C]."""
    rows, likelihood = all_labels(transition, h)
    pull, pi = directions(rows, likelihood, UNIFORM), given_label(rows, likelihood)
    return torch.einsum("z,zj,zk->jk", h @ transition, pull, pi)


def test_without_noise_each_class_learns_from_its_own_images():
    h = torch.tensor([0.4, 0.3, 0.2, 0.1])
    rows, likelihood = all_labels(torch.eye(C), h)
    torch.testing.assert_close(directions(rows, likelihood, UNIFORM), torch.eye(C) / (1 + DAMPING))


def test_at_much_noise_differences_between_classes_are_learned_as_fast_as_their_damped_eigenvalue_says():
    rate = 0.4
    found = average_update(UNIFORM, symmetric(rate)) * C
    squared = (1 - rate - rate / (C - 1)) ** 2  # of the eigenvalue of T for differences between classes
    contrast = torch.eye(C) - 1 / C
    expected = squared / (squared + DAMPING) * contrast + 1 / (1 + DAMPING) / C
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("h", [[0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0.0, 0.0]])
def test_the_average_update_is_a_damped_inverse_of_the_labels_information(h):
    h = torch.tensor(h).clamp_min(1e-8)
    h = h / h.sum()
    pi = given_label(*all_labels(symmetric(0.4), h)).double()
    normal = torch.einsum("z,zj,zk->jk", (h @ symmetric(0.4)).double(), pi, pi)
    diagonal = torch.diag(h).double()
    expected = diagonal @ torch.linalg.solve(normal + DAMPING * diagonal, normal)
    torch.testing.assert_close(average_update(h, symmetric(0.4)).double(), expected, rtol=1e-3, atol=1e-5)


def test_factors_of_a_likelihood_and_rows_of_others_alike_do_not_matter():
    random = torch.Generator().manual_seed(0)
    h = torch.rand(6, C, generator=random).softmax(1)
    likelihood = torch.rand(6, C, generator=random) + 0.1
    scaled = likelihood * (torch.rand(6, 1, generator=random) + 0.5)
    once = directions(h, likelihood, UNIFORM)
    torch.testing.assert_close(directions(h, scaled, UNIFORM), once)
    twice = directions(h.repeat(2, 1), likelihood.repeat(2, 1), UNIFORM)
    torch.testing.assert_close(twice[:6], once)


def test_more_classes_than_images_and_parts_of_a_batch_change_nothing(monkeypatch):
    """Against the definition, one image at a time in float64."""
    random = torch.Generator().manual_seed(1)
    for count, classes in ((5, 12), (12, 5)):
        h = (2 * torch.randn(count, classes, generator=random)).softmax(1)
        likelihood = torch.rand(count, classes, generator=random) + 0.01
        prior = torch.rand(classes, generator=random).softmax(0)
        tall, wide, p = h.double(), likelihood.double(), prior.double()
        wanted = []
        for b in range(count):
            pi = tall[b] * wide / (wide @ tall[b])[:, None]  # of every label, at the image
            share = (wide @ tall[b]) / (wide @ p) / count
            normal = torch.einsum("i,ij,ik->jk", share, pi, pi)
            diagonal = torch.diag(tall[b])
            wanted.append(diagonal @ torch.linalg.solve(normal + DAMPING * diagonal, pi[b]))
        for numbers in (2**25, 1):
            monkeypatch.setattr(conditioning, "_NUMBERS", numbers)
            found = directions(h, likelihood, prior)
            torch.testing.assert_close(found.double(), torch.stack(wanted), rtol=1e-4, atol=1e-6)


def test_an_image_without_a_label_pulls_all_classes_alike_and_a_labelled_one_makes_up_for_it():
    likelihood = torch.cat([torch.eye(C), torch.ones(12, C)])  # a quarter of the images is labelled
    pull = directions(UNIFORM.expand(16, -1), likelihood, UNIFORM)
    assert pull[4:].std(1).max() < 1e-5
    torch.testing.assert_close(pull.mean(0).sum(), torch.tensor(1 / (1 + DAMPING)), rtol=0.05, atol=0)
    own, other = pull[0, 0], pull[0, 1]
    assert own - other > 0.8 * 0.25 / (0.25 * (0.25 + DAMPING))  # 1 / (share + damping), not 1


def test_gradient_descent_separates_classes_as_fast_as_with_clean_labels():
    """Constant images: D_y should be y; every label of every class, in the right proportion, 40 % of them wrong."""

    def contrast(transition, directed, steps=60):
        """Of the D_y, relative to the true one."""
        truth = torch.arange(C).float()
        h, likelihood = all_labels(transition, UNIFORM)
        pi, pull = given_label(h, likelihood), directions(h, likelihood, UNIFORM)
        images = torch.zeros(C, requires_grad=True)
        for _ in range(steps):
            total = torch.zeros(())
            for y in range(C):  # the image of class y with each label
                denoised = images.expand(C, C)[:, :, None, None, None]
                mixed = (pi * images.detach()).sum(1)[:, None, None, None]
                x_0 = truth[y].expand(C, 1, 1, 1)
                way = pull if directed else pi
                loss = losses.directed_mixture_loss(denoised, mixed, x_0, way, torch.ones(C))
                total = total + (transition[y] * loss).sum() / C
            (gradient,) = torch.autograd.grad(total, images)
            images = (images - 0.1 * gradient).detach().requires_grad_()
        return float((images[-1] - images[0]).detach() / (truth[-1] - truth[0]))

    clean = contrast(torch.eye(C), directed=False)
    assert contrast(symmetric(0.4), directed=True) > 0.9 * clean
    assert contrast(symmetric(0.4), directed=False) < 0.6 * clean

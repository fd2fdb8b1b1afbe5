"""The losses against EDM, autograd and closed forms, and which of them recover the clean denoisers."""

import pytest
import torch
import torch.nn.functional as F
from oracles import MixtureDenoiser

from condense.generator import losses
from condense.generator.denoiser import loss_weight, squared_errors
from condense.generator.labels.posterior import given_label, label_likelihood


def random_batch(seed=0, n=6, c=4):
    random = torch.Generator().manual_seed(seed)
    denoised = torch.randn(n, c, 2, 3, 3, generator=random)
    x_0 = torch.randn(n, 2, 3, 3, generator=random)
    sigma = torch.rand(n, generator=random) + 0.1
    return denoised, x_0, sigma


def test_one_hot_pi_gives_edms_loss_exactly():
    denoised, x_0, sigma = random_batch()
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    own = denoised[torch.arange(6), labels]
    edm = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * (own - x_0).square().sum((1, 2, 3))
    pi, weight = F.one_hot(labels, 4).float(), loss_weight(sigma)
    torch.testing.assert_close(losses.mixture_loss(denoised, x_0, pi, weight), edm)
    torch.testing.assert_close(losses.expected_loss(squared_errors(denoised, x_0), pi, weight), edm)


def test_mixture_is_below_expectation_by_the_spread_of_the_classes():
    # sum pi ||D_y - x||^2 - ||sum pi D_y - x||^2 = sum pi ||D_y - mean||^2
    denoised, x_0, sigma = random_batch(1)
    pi = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)).softmax(1)
    weight = loss_weight(sigma)
    mean = torch.einsum("bk,bkchw->bchw", pi, denoised)
    spread = losses.expected_loss(squared_errors(denoised, mean), pi, weight)
    gap = losses.expected_loss(squared_errors(denoised, x_0), pi, weight) - losses.mixture_loss(
        denoised, x_0, pi, weight
    )
    torch.testing.assert_close(gap, spread)


def test_no_gradient_flows_through_pi_or_target():
    denoised, x_0, sigma = random_batch()
    pi = torch.full((6, 4), 0.25, requires_grad=True)
    weight = loss_weight(sigma)
    logits = torch.zeros(6, 4, requires_grad=True)
    everything = (
        losses.mixture_loss(denoised.requires_grad_(), x_0, pi, weight)
        + losses.expected_loss(squared_errors(denoised, x_0), pi, weight)
        + losses.candidate_loss(logits, pi, torch.ones(6, 4))
        + losses.early_learning_loss(logits, pi, F.one_hot(torch.zeros(6, dtype=torch.int64), pi.shape[1]))
    )
    everything.sum().backward()
    assert pi.grad is None
    assert denoised.grad is not None


def early_learning_target(logits, target, observed):
    """R = onehot(observed) - f (<f, target> - target) / (1 - <f, target>): the ELR gradient is f - r (DMIS, Eq. 15)."""
    f = logits.softmax(1)
    agreement = (f * target).sum(1, keepdim=True)
    return F.one_hot(observed, logits.shape[1]) - f * (agreement - target) / (1 - agreement)


def test_early_learning_gradient_is_f_minus_r():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 5, generator=random, dtype=torch.float64).requires_grad_()
    target = torch.randn(50, 5, generator=random, dtype=torch.float64).softmax(1)
    observed = torch.randint(5, (50,), generator=random)
    chosen = F.one_hot(observed, 5)
    (gradient,) = torch.autograd.grad(losses.early_learning_loss(logits, target, chosen).sum(), logits)
    r = early_learning_target(logits.detach(), target, observed)
    torch.testing.assert_close(gradient, logits.detach().softmax(1) - r)
    torch.testing.assert_close(r.sum(1), torch.ones(50, dtype=torch.float64))
    assert (r < 0).any(), "r may leave [0, 1], which is why it is no posterior"


def test_early_learning_without_strength_is_cross_entropy_and_full_agreement_is_finite():
    logits, observed = torch.tensor([[9.0, 0.0], [40.0, 0.0]]), torch.tensor([1, 0])
    target, chosen = logits.softmax(1), F.one_hot(observed, 2)
    torch.testing.assert_close(
        losses.early_learning_loss(logits, target, chosen, 0.0),
        F.cross_entropy(logits, observed, reduction="none"),
    )
    assert losses.early_learning_loss(logits, target, chosen).isfinite().all()


def test_candidate_loss_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    target, candidates = torch.tensor([[0.6, 0.2, 0.2]]), torch.tensor([[1.0, 0.0, 1.0]])
    log_f = logits.log_softmax(1)[0]
    expected = -(0.75 * log_f[0] + 0.25 * log_f[2])
    torch.testing.assert_close(losses.candidate_loss(logits, target, candidates)[0], expected)


@pytest.mark.parametrize("belief", [0.3, 0.0])
def test_candidate_loss_of_one_class_is_cross_entropy_whatever_was_believed(belief):
    logits, target = torch.tensor([[1.0, 2.0]]), torch.tensor([[belief, 1 - belief]])
    loss = losses.candidate_loss(logits, target, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor([0]), reduction="none"))


def test_each_image_gets_the_loss_of_its_kind():
    random = torch.Generator().manual_seed(3)
    logits, target = torch.randn(6, 3, generator=random), torch.rand(6, 3, generator=random).softmax(1)
    candidates = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1]], dtype=torch.bool)
    trusted = torch.tensor([False, False, True, True, True, False])
    loss = losses.classification_loss(logits, target, candidates, trusted, 0.7)
    doubting = losses.early_learning_loss(logits, target, candidates.float(), 0.7)
    trusting = losses.candidate_loss(logits, target, candidates.float())
    assert loss.tolist() == [*doubting[:2].tolist(), *trusting[2:].tolist()]


def test_a_set_that_misses_the_truth_can_be_overcome():
    """If the belief is sure of a class outside the set, the trusting loss pulls away from it with full force."""
    target = torch.tensor([[0.98, 0.01, 0.01]])
    candidates = torch.tensor([[0.0, 1.0, 1.0]])

    def pull(loss):
        logits = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
        return -float(gradient[0, 0])

    assert pull(lambda logits: losses.candidate_loss(logits, target, candidates)) < -0.5
    assert abs(pull(lambda logits: losses.early_learning_loss(logits, target, candidates))) < 0.1
    assert pull(lambda logits: losses.early_learning_loss(logits, target, candidates, 3.0)) > 0.5


def test_surrogate_has_the_gradient_of_what_it_stands_for():
    random = torch.Generator().manual_seed(4)
    errors = (torch.rand(5, 3, generator=random, dtype=torch.float64) * 9).requires_grad_()
    scale = torch.rand(5, generator=random, dtype=torch.float64)
    target = torch.randn(5, 3, generator=random, dtype=torch.float64).softmax(1)
    logits = -errors * scale[:, None]
    loss = losses.candidate_loss(logits, target, torch.ones(5, 3)).sum()
    exact, to_logits = torch.autograd.grad(loss, [errors, logits])
    (surrogate,) = torch.autograd.grad(losses.two_pass_surrogate(errors, -to_logits, scale).sum(), errors)
    torch.testing.assert_close(surrogate, exact)


# Which denoisers do the objectives have for their optimum? Two classes on the line, one noisy point x_t, every
# integral over x_0 a sum over a fine grid: the loss is a quadratic in (D_0, D_1), solved exactly.

SIGMA, X_T = 0.6, 0.15
TRANSITION = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
PRIOR = torch.tensor([0.4, 0.6], dtype=torch.float64)


def line():
    """The oracle, its clean D_y(x_t), a grid of x_0 and p(x_0, y, observed k | x_t) on it: [g, y, k]."""
    oracle = MixtureDenoiser(
        torch.ones(2, 1), torch.tensor([-0.5, 0.5])[:, None, None, None, None], torch.full((2, 1), 0.3)
    )
    grid = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None, None, None]
    noise = torch.distributions.Normal(0.0, SIGMA).log_prob(X_T - grid[:, 0, 0])
    joint = (oracle.log_density(grid) + noise).exp() * PRIOR  # [g, y]
    joint = joint[:, :, None] * TRANSITION
    x_t = torch.tensor(X_T, dtype=torch.float64).reshape(1, 1, 1, 1)
    clean = oracle.all_classes(x_t, torch.tensor([SIGMA]))[0, :, 0, 0, 0]
    return oracle, clean, grid, joint / joint.sum()


def optimum(loss):
    """Minimiser of a quadratic in [2] (the shortest one where there are several), and its Hessian."""
    zero = torch.zeros(2, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(loss, zero)
    hessian = torch.autograd.functional.hessian(loss, zero)
    return -torch.linalg.pinv(hessian, hermitian=True, rtol=1e-5) @ gradient, hessian


def weights(posterior, observed):
    """p(y | ., z = observed) through the package's own functions: float64 [B, 2]."""
    candidates = F.one_hot(torch.tensor([observed]), 2).bool()
    likelihood = label_likelihood(candidates, torch.tensor([False]), TRANSITION)
    return given_label(posterior, likelihood.double()).double()


def mixture_risk(joint, grid, pi_of):
    def risk(denoised):
        total = denoised.new_zeros(())
        for observed in range(2):
            pi = pi_of(observed).expand(len(grid), -1)
            images = denoised.reshape(1, 2, 1, 1, 1).expand(len(grid), -1, -1, -1, -1)
            loss = losses.mixture_loss(images.double(), grid, pi, torch.ones(len(grid)))
            total = total + (joint[:, :, observed].sum(1) * loss).sum()
        return total

    return risk


def at_x_t(oracle):
    return oracle.posterior(torch.full((1, 1, 1, 1), X_T, dtype=torch.float64), PRIOR, SIGMA)


def test_mixture_form_recovers_the_clean_denoisers_when_pi_weighs_the_label():
    oracle, clean, grid, joint = line()
    found, hessian = optimum(mixture_risk(joint, grid, lambda z: weights(at_x_t(oracle), z)))
    assert torch.linalg.matrix_rank(hessian, hermitian=True, rtol=1e-5) == 2
    torch.testing.assert_close(found, clean, atol=1e-5, rtol=0)


def test_mixture_form_leaves_them_open_when_pi_ignores_the_label():
    oracle, clean, grid, joint = line()
    blind = at_x_t(oracle)
    found, hessian = optimum(mixture_risk(joint, grid, lambda z: blind))
    assert torch.linalg.matrix_rank(hessian, hermitian=True, rtol=1e-5) == 1
    assert (found - clean).abs().max() > 0.1
    torch.testing.assert_close((blind[0] * found).sum(), (blind[0] * clean).sum(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("believer", ["exact", "as given"])
def test_expected_form_recovers_them_from_the_exact_posterior_and_not_from_labels_as_given(believer):
    oracle, clean, grid, joint = line()
    blind = oracle.posterior(grid, PRIOR)  # p(y | x_0)

    def risk(denoised):
        errors = (denoised[None] - grid[:, 0, 0]).square()
        total = denoised.new_zeros(())
        for observed in range(2):
            given = F.one_hot(torch.tensor(observed), 2).expand(len(grid), -1).double()
            pi = weights(blind, observed) if believer == "exact" else given
            loss = losses.expected_loss(errors, pi, torch.ones(len(grid)))
            total = total + (joint[:, :, observed].sum(1) * loss).sum()
        return total

    found, _ = optimum(risk)
    if believer == "exact":
        torch.testing.assert_close(found, clean, atol=1e-5, rtol=0)
    else:  # the denoiser of the noisy class: clean ones mixed by p(y | x_t, observed)
        mixed = torch.stack([(weights(at_x_t(oracle), z)[0] * clean).sum() for z in range(2)])
        torch.testing.assert_close(found, mixed, atol=1e-5, rtol=0)
        assert (found - clean).abs().max() > 0.1


@pytest.mark.parametrize("drawn", [[0], [1], [0, 1]])
def test_classes_without_gradient_in_the_mixture_leave_the_clean_denoisers_a_fixed_point(drawn):
    """At the clean D_y the gradient of every drawn class vanishes on average over labels and images."""
    oracle, clean, grid, joint = line()

    def gradient(denoised):
        at = denoised.clone().requires_grad_(True)
        total = at.new_zeros(())
        for observed in range(2):
            pi = weights(at_x_t(oracle), observed).expand(len(grid), -1)
            mixed = (pi * denoised).sum(1)[:, None, None, None]
            own = at[drawn].reshape(1, -1, 1, 1, 1).expand(len(grid), -1, -1, -1, -1)
            loss = losses.directed_mixture_loss(own, mixed, grid, pi[:, drawn], torch.ones(len(grid)))
            total = total + (joint[:, :, observed].sum(1) * loss).sum()
        return torch.autograd.grad(total, at)[0]

    assert gradient(clean).abs().max() < 1e-4
    assert (gradient(clean + 0.3)[drawn].abs() > 0.02).all()


def test_a_mixture_with_every_class_drawn_is_the_mixture_loss():
    denoised, x_0 = torch.randn(3, 4, 1, 2, 2, requires_grad=True), torch.randn(3, 1, 2, 2)
    pi, weight = torch.rand(3, 4).softmax(1), torch.rand(3)
    mixed = (pi[:, :, None, None, None] * denoised).sum(1).detach()
    whole = losses.mixture_loss(denoised, x_0, pi, weight)
    again = losses.directed_mixture_loss(denoised, mixed, x_0, pi, weight)
    torch.testing.assert_close(again, whole)
    torch.testing.assert_close(*(torch.autograd.grad(loss.sum(), denoised)[0] for loss in (whole, again)))

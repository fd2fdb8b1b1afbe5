"""The losses of a generator, pure functions of tensors; one value per image, [B].

`errors` are squared errors summed over pixels, [B, k]; `weight` is lambda(sigma) [B]; `pi` is p(y | x, z) [B, k] and
never carries gradient. Source: DMIS (2025), https://arxiv.org/abs/2510.03016, Eqs. 10-15.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expected_loss(errors: Tensor, pi: Tensor, weight: Tensor) -> Tensor:
    """Lambda sum_y pi_y ||D_y - x_0||^2, the expectation of EDM's loss over the label: [B].

    Its minimiser is E[x_0 | x_t, y] when pi is the true p(y | x_0, z). A one-hot pi gives EDM's loss exactly.
    """
    return weight * (pi.detach() * errors).sum(1)


def mixture(images: Tensor, weights: Tensor) -> Tensor:
    """sum_k weights_k images_k: float32, [B, k, C, H, W] and [B, k] -> [B, C, H, W]; no gradient to the weights."""
    return (weights.detach()[:, :, None, None, None] * images.float()).sum(1)


def mixture_loss(denoised: Tensor, x_0: Tensor, pi: Tensor, weight: Tensor) -> Tensor:
    """Lambda ||sum_y pi_y D_y - x_0||^2 (DMIS, Eq. 10) with pi = p(y | x_t, z): [B, k, C, H, W] -> [B]."""
    return weight * (mixture(denoised, pi) - x_0).square().flatten(1).sum(1)


def directed_mixture_loss(denoised: Tensor, mixed: Tensor, x_0: Tensor, directions: Tensor, weight: Tensor) -> Tensor:
    """The value of `mixture_loss`, with gradient weights `directions_k` for D_k instead of pi_k: [B].

    Classes only in `mixed` get no gradient. The residual is that of the whole mixture either way and vanishes on
    average for the true D_y, so any directions that depend only on x_t and z keep the optimum.

    Args:
        denoised: D_k of k classes per image, with gradient [B, k, C, H, W].
        mixed: sum_y pi_y D_y over all classes, without gradient [B, C, H, W].
        x_0: [B, C, H, W].
        directions: pi_k for the gradient of `mixture_loss` [B, k]; may be negative.
        weight: lambda(sigma) [B].
    """
    residual = (mixed - x_0).detach()
    moving = mixture(denoised.float() - denoised.detach().float(), directions)
    return weight * (residual.square() + 2 * residual * moving).flatten(1).sum(1)


def forward_loss(logits: Tensor, likelihood: Tensor) -> Tensor:
    """-log sum_y p(z | y) f_y with f = softmax(logits) (forward correction): [B, c], [B, c] -> [B].

    With a noisy label, p(z | y) = T[y, z], it is the cross-entropy of T^T f; its minimiser is the clean posterior.
    Source: Patrini et al. (2017), https://arxiv.org/abs/1609.03683, Theorem 2.
    """
    return -(logits.float().log_softmax(1) + likelihood.clamp_min(torch.finfo(torch.float32).tiny).log()).logsumexp(1)


def candidate_loss(logits: Tensor, target: Tensor, candidates: Tensor) -> Tensor:
    """-sum_{y in S} q_y log f_y with q = target restricted to S and renormalised (PRODEN form): [B].

    Source: Lv et al. (2020), https://arxiv.org/abs/2002.08053. S full: self-training; S one class: cross-entropy.
    """
    q = target.detach().clamp_min(1e-8) * candidates  # a belief of 0 must not silence a trusted label
    q = q / q.sum(1, keepdim=True)
    return -(q * logits.log_softmax(1)).sum(1)


def early_learning_loss(logits: Tensor, target: Tensor, candidates: Tensor, strength: float = 1.0) -> Tensor:
    """`candidate_loss` + strength log(1 - <f, target>): [B].

    With one candidate it is the ELR form (DMIS, Eq. 15), -log f_observed + strength log(1 - <f, target>), which lets
    the belief outweigh a wrong label; with several, a candidate set that misses the truth.
    Source: Liu et al. (2020), https://arxiv.org/abs/2007.00151, Eq. 9. `target` [B, c] is the EMA network's posterior.
    The inner product is clamped below 1.
    """
    agreement = (logits.softmax(1) * target.detach()).sum(1).clamp_max(1 - 1e-4)
    return candidate_loss(logits, target, candidates) + strength * torch.log1p(-agreement)


def classification_loss(
    logits: Tensor,
    target: Tensor,
    candidates: Tensor,
    trusted: Tensor,
    elr_strength: float = 1.0,
    likelihood: Tensor | None = None,
) -> Tensor:
    """The loss of images whose labels may miss the truth, and candidate loss for the others: [B].

    The former is `forward_loss` if the likelihood p(z | y) [B, c] is given, else `early_learning_loss`.
    """
    mask = candidates.float()
    if likelihood is None:
        doubtful = early_learning_loss(logits, target, mask, elr_strength)
    else:
        doubtful = forward_loss(logits, likelihood)
    return torch.where(~trusted & ~candidates.all(1), doubtful, candidate_loss(logits, target, mask))


def two_pass_surrogate(errors: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
    """sum_y sg(a_y) * errors_y * scale, whose gradient is that of the classification loss: [B].

    With logits = -scale * errors and a = -dL/dlogits found in a first pass without gradient, this second pass
    backpropagates through the chosen classes only, exactly and with little memory.

    Args:
        errors: [B, k] with gradient.
        gradient: a [B, k].
        scale: lambda(sigma) / temperature [B].
    """
    return (gradient.detach() * errors).sum(1) * scale

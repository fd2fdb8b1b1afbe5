"""Candidate sets that may miss the truth (noisy partial labels, as several annotators give them): p(S | y).

Class y draws each class k into its set independently with odds T[y, k]. Given the number of candidates, which is
assumed independent of the class,

    p(S | y, |S| = m) = prod_{k in S} T[y, k] / e_m(T[y, :]),

with e_m the elementary symmetric polynomial: a conditional Bernoulli distribution. For m = 1 it is T[y, k], so that
one transition matrix serves single labels and sets; a set of all classes is uninformative. Source: Chen, Dempster & Liu
(1994), "Weighted finite population sampling to maximize entropy", https://doi.org/10.1093/biomet/81.3.457.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-8  # odds are clamped to at least this
_IMPOSSIBLE = -1e9  # stands for log 0, since minus infinity has no gradient


def set_likelihood(candidates: Tensor, transition: Tensor) -> Tensor:
    """p(S | y, |S|) times the number of sets of that size, so that a T without information gives 1.

    Args:
        candidates: bool [B, c], none empty.
        transition: T [c, c], rows = true class, each summing to 1.

    Returns:
        float32 [B, c].
    """
    c, sizes = candidates.shape[1], candidates.sum(1)
    log_odds = transition.float().clamp_min(SMALLEST).log()
    log_sums = log_elementary(log_odds, int(sizes.max()))
    count = torch.tensor(c + 1.0).lgamma() - (sizes + 1.0).lgamma() - (c - sizes + 1.0).lgamma()
    return (candidates.float() @ log_odds.T - log_sums[:, sizes].T + count[:, None]).exp()


def log_elementary(log_odds: Tensor, largest: int) -> Tensor:
    """Logarithm of e_m(w) = sum over all sets S of m classes of prod_{k in S} w_k, m = 0..M: [r, c] -> [r, M + 1].

    One class after the other: e_m <- e_m + w_k e_{m - 1}.
    """
    start = log_odds.new_full((len(log_odds), largest + 1), _IMPOSSIBLE)
    sums = torch.cat([torch.zeros_like(start[:, :1]), start[:, 1:]], dim=1)
    for k in range(log_odds.shape[1]):
        sums = torch.cat([sums[:, :1], torch.logaddexp(sums[:, 1:], log_odds[:, k : k + 1] + sums[:, :-1])], dim=1)
    return sums


def fit_odds(inclusions: Tensor, sizes: Tensor, iterations: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Maximum-likelihood odds of observed sets, one row per class.

    The iteration w <- w * observed inclusions / expected inclusions climbs the likelihood, which is concave in log w
    (Chen, Dempster & Liu 1994, Sec. 3). With single labels alone the first step is exact: w = shares.

    Args:
        inclusions: how often each class was in the sets of class y, [c, c], positive.
        sizes: number of sets with m candidates of class y, m = 0..M, [c, M + 1].
        iterations: largest number of iterations.
        tolerance: largest change of a row's entry at which to stop.

    Returns:
        float32 [c, c], rows summing to 1.
    """
    observed, sizes = inclusions.cpu().double(), sizes.cpu().double()
    odds = observed / observed.sum(1, keepdim=True)
    for _ in range(iterations):
        log_odds = odds.clamp_min(SMALLEST).log().requires_grad_(True)
        with torch.enable_grad():
            total = (sizes * log_elementary(log_odds, sizes.shape[1] - 1)).sum()
            (expected,) = torch.autograd.grad(total, log_odds)  # d log e_m / d log w_k is k's inclusion probability
        better = log_odds.detach().exp() * observed / expected.clamp_min(SMALLEST)
        better = better / better.sum(1, keepdim=True)
        moved, odds = float((better - odds).abs().max()), better
        if moved < tolerance:
            break
    return odds.float().to(inclusions.device)

"""Beliefs about each image's class: p(y | x, z), its bank, and the label model behind it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from condense.data.types import Supervision
from condense.generator.labels.candidate_sets import fit_odds, set_likelihood

DOMINANCE = 1.1
"""Least ratio of the right label's probability to that of all others for an estimated row to be accepted."""


def label_likelihood(
    candidates: Tensor, trusted: Tensor, transition: Tensor, *, has_sets: bool | None = None
) -> Tensor:
    """p(z | y) up to a factor that does not depend on y.

    Trusted images (labelled, partial, unlabelled): 1 on the candidate set, 0 elsewhere. Others: the probability
    T[y, k] that the true class y is observed as k; for several candidates see `candidate_sets`.

    Args:
        candidates: bool [B, c].
        trusted: bool [B].
        transition: T [c, c], rows = true class, each summing to 1.
        has_sets: whether there may be untrusted sets of several candidates; determined when None, which makes a GPU
            wait.

    Returns:
        float32 [B, c].
    """
    mask = candidates.float()
    likelihood = torch.where(trusted[:, None], mask, mask @ transition.float().T)
    if has_sets is False:
        return likelihood
    sets = ~trusted & (candidates.sum(1) > 1)
    if has_sets or bool(sets.any()):
        likelihood = likelihood.index_put((sets,), set_likelihood(candidates[sets], transition))
    return likelihood


def supervision_likelihood(supervision: Supervision, transition: Tensor) -> Tensor:
    """`label_likelihood` of every image of `supervision`, on the CPU: float32 [n, c]."""
    return label_likelihood(
        torch.from_numpy(supervision.candidates), torch.from_numpy(supervision.trusted), transition.cpu()
    )


def given_label(class_posterior: Tensor, likelihood: Tensor) -> Tensor:
    """p(y | x, z) = f_y p(z | y) / sum: two [B, c] tensors -> [B, c]; rows sum to 1, zero where p(z | y) is.

    Source: DMIS, Eq. 10. With a noisy label and T symmetric these are TDSM's weights (Na et al. 2024).
    """
    joint = class_posterior.float().clamp_min(1e-8) * likelihood
    return joint / joint.sum(1, keepdim=True).clamp_min(1e-30)


class PosteriorBank:
    """A moving average of the EMA network's class posterior f_phi(x) for every training image.

    Attributes:
        posterior: float16 [n, c], rows summing to 1; until an image is visited, uniform over the classes that can be
            true: the candidates of a trusted image, all classes of another (starting at its given label would turn
            the early-learning loss into a constant pull towards that label).
        visited: bool [n].
    """

    def __init__(self, candidates: Tensor, trusted: Tensor, momentum: float) -> None:
        self.momentum = momentum
        possible = (candidates | ~trusted[:, None]).float()
        self.posterior = (possible / possible.sum(1, keepdim=True)).half()
        self.visited = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """float32 [B, c]."""
        return self.posterior[indices].float()

    def most_overdue(self, indices: Tensor, count: int, waiting: Tensor) -> Tensor:
        """`count` of `indices`: never visited ones first, `waiting` ones (bool [n]) last."""
        lateness = self.visited[indices].to(torch.uint8) + 2 * waiting[indices].to(torch.uint8)
        return indices[lateness.argsort(stable=True)[:count]]

    def update(self, indices: Tensor, posterior: Tensor, counted: Tensor | None = None) -> None:
        """Average `posterior` [B, c] in; an image's first visit replaces the initial guess.

        `counted` bool [B]: the images to update. None for all.
        """
        visited = self.visited[indices]
        keep = torch.where(visited, self.momentum, 0.0)[:, None]
        after = (keep * self[indices] + (1 - keep) * posterior.float()).half()
        if counted is None:
            counted = torch.ones_like(visited)
        self.posterior[indices] = torch.where(counted[:, None], after, self.posterior[indices])
        self.visited[indices] = visited | counted


def estimate_transition(
    posterior: Tensor,
    supervision: Supervision,
    prior: Tensor,
    confidence: float | Tensor = 0.8,
    strength: float = 10.0,
) -> Tensor:
    """Transition matrix from images whose class is believed with `confidence`.

    T[y, k] is proportional to the number of them believed to be y and labelled k. Counting all images softly would
    flatten T while f is still vague, and counting with p(y | x, z) (EM) would favour the labels as given; confident
    images do neither. Source: the confident joint of Northcutt et al. (2021), https://arxiv.org/abs/1911.00068, Eq. 1,
    with one threshold for all classes, or as there with one for each, see `self_confidence`. Sets of several
    candidates that may miss the truth count too, by `fit_odds`.

    Labels are assumed to be right more often than wrong in any one way: if the diagonal of a row does not dominate by
    `DOMINANCE`, the network does not know the class, or merges several. With such a row p(y | x, z) would follow the
    network whatever the label, and reinforce its mistake; so the row stays at `prior`. Stronger noise needs a given
    matrix.

    Args:
        posterior: f(x) [n, c], made without looking at the label.
        supervision: labels of the same n images; only those that may be wrong are used.
        prior: T [c, c] before any image is seen.
        confidence: least f_y of an image that is counted as y, or one for each class [c].
        strength: weight of the prior, in images per row.

    Returns:
        float32 [c, c], rows = true class, each summing to 1; `prior` if no label is untrusted.
    """
    sure = posterior.float() * (posterior.float() >= confidence)
    top, believed = sure.max(1)
    counted = torch.from_numpy(supervision.doubtful).to(posterior.device) & (top > 0)
    observed = torch.from_numpy(supervision.candidates).to(posterior.device)[counted].float()
    counts = strength * prior.float()
    counts = counts.index_add(0, believed[counted], observed)
    how_many = observed.sum(1).long()
    if bool((how_many > 1).any()):
        sizes = torch.nn.functional.one_hot(how_many).float()
        num_sets = sizes.new_zeros(len(prior), sizes.shape[1]).index_add(0, believed[counted], sizes)
        num_sets[:, 1] += strength
        found = fit_odds(counts, num_sets)
    else:
        found = counts / counts.sum(1, keepdim=True)
    own = found.diagonal()
    others = (found - torch.diag_embed(own)).amax(1)
    return torch.where((own >= DOMINANCE * others)[:, None], found, prior.float())


def self_confidence(posterior: Tensor, supervision: Supervision) -> Tensor:
    """Mean f_y [c] of the images labelled y, from f(x) [n, c]; the mean of f_y over all images for an unused label.

    Source: Northcutt et al. (2021), https://arxiv.org/abs/1911.00068, Eq. 2: thresholds that adapt to a classifier
    over- or underconfident in a class.
    """
    given = torch.from_numpy(supervision.candidates).to(posterior.device).float()
    counts = given.sum(0)
    means = (posterior.float() * given).sum(0) / counts.clamp_min(1)
    return torch.where(counts > 0, means, posterior.float().mean(0))


def class_prior(
    supervision: Supervision, posterior: Tensor, transition: Tensor, before: Tensor | None = None, keep: float = 0.0
) -> Tensor:
    """Class prior r [c], summing to 1 (after DMIS, App. C.2).

    Noisy labels: solve observed = T^T r with r >= 0. Candidate sets: the mean of p(y | x, z), averaged into `before`.
    Labelled and unlabelled: counts of the labelled part. Mixtures add the parts' counts. Among annotators' sets,
    single labels are those they agreed on, for which T is too pessimistic: they are counted like sets.

    Sets are counted by beliefs that depend on the prior, so a class that falls behind early would be lost: hence the
    moving average, and means instead of the paper's histogram of the most probable class (docs/decisions.md).

    Args:
        supervision: labels of n images.
        posterior: f(x) [n, c], made without looking at the label.
        transition: T [c, c], rows = true class.
        before: the prior so far [c], needed where `keep` is above 0.
        keep: momentum of the moving average, for counts from candidate sets.
    """
    device = posterior.device
    num_classes = supervision.num_classes
    unlabelled = supervision.unlabelled
    sets_may_miss = bool((supervision.doubtful & ~supervision.single).any())
    noisy = supervision.noisy & (not sets_may_miss)
    counts = np.zeros(num_classes)
    if noisy.any():
        observed = supervision.candidates[noisy].sum(0).astype(float)
        solved, _ = nnls(transition.cpu().double().numpy().T, observed)
        counts += solved * (observed.sum() / max(solved.sum(), 1e-12))
    rest = np.flatnonzero(~noisy & ~unlabelled)
    if rest.size:
        candidates = torch.from_numpy(supervision.candidates[rest]).to(device)
        likelihood = label_likelihood(candidates, torch.from_numpy(supervision.trusted[rest]).to(device), transition)
        believed = given_label(posterior[torch.from_numpy(rest).to(device)], likelihood)
        sets = candidates.sum(1) > 1
        counts += believed[~sets].sum(0).cpu().double().numpy()
        among_sets = (1 - keep) * believed[sets].sum(0).cpu().double().numpy()
        if before is not None:
            among_sets += keep * int(sets.sum()) * before.cpu().double().numpy()
        counts += among_sets
    if not counts.any():
        counts += 1
    smoothed = counts + 0.01 * counts.sum() / num_classes
    return torch.from_numpy(smoothed / smoothed.sum()).float().to(device)

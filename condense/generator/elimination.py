"""Early elimination: classes that can no longer win are not evaluated further.

A network that takes one class at a time pays for every class at every noise level, though most classes are ruled out
after the first. The levels are visited in turn, starting with the highest, where classes differ most;
a class is dropped once it trails the leader by more than `margin` + ln(c - 1) nats (log prior included) and `CERTAINTY`
standard errors, so that all dropped classes together hold less than e^-margin of the leader's posterior. Gaps are
measured with noise shared by all classes, so that its common effect cancels. docs/many-classes.md has measurements of
order, margin and certainty.
Source: Clark & Jaini (2023), https://arxiv.org/abs/2303.15233, Section 2, prunes classes by paired tests over shared
noise. Departures: a margin in nats, since a few antithetic pairs give no p-value; dropped classes keep a posterior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condense.generator.classifier import Calibration, NoisyView, Schedule, class_errors, draw_views, logits_from_errors
from condense.generator.denoiser import Denoiser, squared_errors

CERTAINTY = 1.0


def class_logits(
    denoiser: Denoiser,
    x_0: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    calibration: Calibration,
    *,
    margin: float | None,
    candidates: Tensor | None = None,
    pairs: int = 1,
) -> Tensor:
    """Logits of the diffusion classifier, up to a constant per image: float32 [B, c]; softmax gives p(y | x).

    Evaluates all classes at all levels if one pass gives every class or `margin` is None; else see `surviving_logits`.
    """
    if denoiser.one_pass or margin is None:
        errors = class_errors(denoiser, x_0, schedule, generator, pairs=pairs)
        return logits_from_errors(errors, calibration.temperature, calibration.log_prior)
    logits, _ = surviving_logits(
        denoiser,
        x_0,
        schedule,
        generator,
        calibration,
        margin=margin,
        candidates=candidates,
        pairs=pairs,
    )
    return logits


def surviving_logits(
    denoiser: Denoiser,
    x_0: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    calibration: Calibration,
    *,
    margin: float,
    candidates: Tensor | None = None,
    pairs: int = 1,
) -> tuple[Tensor, Tensor]:
    """The classifier with early elimination.

    Differences between the logits of surviving classes equal those of the full classifier (it draws the same noise). A
    dropped class keeps its distance to the leader; an image with one class left is not evaluated further.

    Args:
        denoiser: in eval mode; evaluated for one class at a time.
        x_0: clean images [B, C, H, W] in [-1, 1].
        schedule: noise levels and masses, see `class_errors`.
        generator: source of the noise; a CPU generator gives the same on every device.
        calibration: temperature and prior.
        margin: nats, at least 0; see the top of this file.
        candidates: bool [B, c], classes the label allows. They are compared with the best of them, not with the leader,
            so that the label can still decide between them. None: every class is compared with the leader.
        pairs: antithetic pairs per noise level.

    Returns:
        Logits, float32 [B, c], up to a constant per image, and which classes survived, bool [B, c].
    """
    looks = draw_views(x_0, schedule, generator, pairs)
    race = Race(len(x_0), calibration.log_prior.to(x_0.device), margin, candidates)
    for both in sorted((looks[i : i + 2] for i in range(0, len(looks), 2)), key=lambda both: -both[0].sigma):
        rows, classes = race.to_run()
        if not len(rows):
            break
        nats = [_errors(denoiser, x_0, look, rows, classes) / calibration.temperature for look in both]
        race.note(torch.stack(nats), rows, classes)
    return race.logits(), race.alive


def _errors(denoiser: Denoiser, x_0: Tensor, look: NoisyView, rows: Tensor, classes: Tensor) -> Tensor:
    """Weighted squared errors [m] of image `rows` [m] under `classes` [m]."""
    sigma = torch.full((len(rows),), look.sigma, device=x_0.device)
    denoised = denoiser.one_class((x_0 + look.noise)[rows], sigma, classes)
    return look.weight * squared_errors(denoised[:, None], x_0[rows])[:, 0]


class Race:
    """The classes that can still win, and the gaps of the dropped ones.

    Args:
        num_images: B.
        log_prior: [c]; margin and candidates as for `surviving_logits`.

    Attributes:
        alive: which classes are still in, bool [B, c].
    """

    def __init__(self, num_images: int, log_prior: Tensor, margin: float, candidates: Tensor | None) -> None:
        shape = (num_images, len(log_prior))
        self.limit = margin + math.log(max(1, shape[1] - 1))
        self.alive = torch.ones(shape, dtype=torch.bool, device=log_prior.device)
        self._allowed = torch.zeros_like(self.alive) if candidates is None else candidates
        self._score = log_prior.float().expand(shape).clone()  # logits so far
        self._behind = torch.zeros(shape, device=log_prior.device)
        self._halves: list[Tensor] = []  # error with +eps minus error with -eps, [B, c] for each pair

    @property
    def running(self) -> Tensor:
        """Classes to evaluate, bool [B, c]: those still in, for images with several."""
        return self.alive & (self.alive.sum(1, keepdim=True) > 1)

    def to_run(self) -> tuple[Tensor, Tensor]:
        """Image and class of every evaluation of `running`, int64 [m] each; at first all, without waiting for a GPU."""
        num_images, num_classes = self.alive.shape
        if self._halves or num_classes == 1:
            rows, classes = self.running.nonzero(as_tuple=True)
            return rows, classes
        every = torch.arange(num_images * num_classes, device=self.alive.device)
        return every // num_classes, every % num_classes

    def note(self, errors: Tensor, rows: Tensor, classes: Tensor) -> None:
        """Add the errors in nats of one antithetic pair, [2, m], and drop classes that can no longer win."""
        self._score = self._score.index_put((rows, classes), -errors.sum(0), accumulate=True)
        self._halves.append(torch.zeros_like(self._score).index_put((rows, classes), errors[0] - errors[1]))
        rival = self._rivals()
        gap = self._score.gather(1, rival) - self._score
        # treats a pair as independent, which is conservative for antithetic noise
        variance = torch.stack([(half.gather(1, rival) - half).square() for half in self._halves]).sum(0)
        lost = self.running & (gap - CERTAINTY * variance.sqrt() > self.limit)
        self._behind = torch.where(lost, gap, self._behind)
        self.alive = self.alive & ~lost

    def logits(self) -> Tensor:
        """Logits so far, [B, c]; dropped classes keep their gap."""
        return torch.where(self.alive, self._score, self._score.gather(1, self._rivals()) - self._behind)

    def _rivals(self) -> Tensor:
        """The class each class is compared with: the leader, or for allowed classes the best of them; int64 [B, c]."""
        score = self._score.masked_fill(~self.alive, -torch.inf)
        leader = score.argmax(1, keepdim=True)
        best_allowed = score.masked_fill(~self._allowed, -torch.inf).argmax(1, keepdim=True)
        return torch.where(self._allowed, best_allowed, leader)

"""Early elimination: classes that can no longer win are looked at no further.

A network that is asked for one class at a time pays for every class at every noise level, though most classes are out
of the race after the first. The levels are visited one after the other, the highest, where classes differ most, first;
a class is dropped once it trails the leader by more than `margin` + ln(c - 1) nats (log prior included) and `CERTAINTY`
standard errors, so that all who are dropped together hold less than e^-margin of the leader's posterior. Gaps are
measured over the noise that all classes share, so that what the noise does to all of them cancels. What order, margin
and certainty are worth was measured: docs/many-classes.md.
Source: Clark & Jaini (2023), https://arxiv.org/abs/2303.15233, Section 2, prunes classes by paired tests over shared
noise. Departures: a margin in nats, since a few antithetic pairs give no p-value; what was dropped keeps a posterior.
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
    """Logits of the diffusion classifier, up to a constant an image: float32 [B, c]; softmax gives p(y | x).

    All classes at all levels where one pass gives every class or `margin` is None; else see `surviving_logits`.
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

    Where several classes survive, their logits differ as those of the whole classifier do (it draws the same noise). A
    dropped class stays as far behind the leader as it was, an image with one class left is looked at no further.

    Args:
        denoiser: in eval mode; asked for one class at a time.
        x_0: clean images [B, C, H, W] in [-1, 1].
        schedule: noise levels and masses, see `class_errors`.
        generator: source of the noise; a CPU's gives the same on every device.
        calibration: temperature and prior.
        margin: nats, at least 0; see the top of this file.
        candidates: bool [B, c]: classes that the label allows. They are held against the best of them, not against the
            leader, so that what the label says can still decide between them. None: every class against the leader.
        pairs: antithetic pairs a noise level.

    Returns:
        Logits, float32 [B, c], up to a constant an image, and which classes survived, bool [B, c].
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
    """Who is still in, and how far behind the others were when they dropped out.

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
        self._halves: list[Tensor] = []  # error with +eps less error with -eps, [B, c] for each pair

    @property
    def running(self) -> Tensor:
        """Which classes are to be looked at, bool [B, c]: those still in, where there are several."""
        return self.alive & (self.alive.sum(1, keepdim=True) > 1)

    def to_run(self) -> tuple[Tensor, Tensor]:
        """Image and class of every look of `running`, int64 [m] each; at first all, which a GPU need not be asked."""
        num_images, num_classes = self.alive.shape
        if self._halves or num_classes == 1:
            rows, classes = self.running.nonzero(as_tuple=True)
            return rows, classes
        every = torch.arange(num_images * num_classes, device=self.alive.device)
        return every // num_classes, every % num_classes

    def note(self, errors: Tensor, rows: Tensor, classes: Tensor) -> None:
        """Take in the errors in nats of one antithetic pair, [2, m], and drop who cannot win any more."""
        self._score = self._score.index_put((rows, classes), -errors.sum(0), accumulate=True)
        self._halves.append(torch.zeros_like(self._score).index_put((rows, classes), errors[0] - errors[1]))
        rival = self._rivals()
        gap = self._score.gather(1, rival) - self._score
        # the two of a pair as if they were independent, which antithetic ones beat
        variance = torch.stack([(half.gather(1, rival) - half).square() for half in self._halves]).sum(0)
        lost = self.running & (gap - CERTAINTY * variance.sqrt() > self.limit)
        self._behind = torch.where(lost, gap, self._behind)
        self.alive = self.alive & ~lost

    def logits(self) -> Tensor:
        """Logits so far, [B, c]; those who dropped out are as far behind as they were."""
        return torch.where(self.alive, self._score, self._score.gather(1, self._rivals()) - self._behind)

    def _rivals(self) -> Tensor:
        """Whom each class is held against: the leader, or for allowed classes the best of them; int64 [B, c]."""
        score = self._score.masked_fill(~self.alive, -torch.inf)
        leader = score.argmax(1, keepdim=True)
        best_allowed = score.masked_fill(~self._allowed, -torch.inf).argmax(1, keepdim=True)
        return torch.where(self._allowed, best_allowed, leader)

"""Schedules of a generator's training as functions of options and step: learning rate, EMA, cold start."""

from __future__ import annotations

import math

from condense.generator.options import TrainOptions

LEAST_COLD, LEAST_COLD_SHARE = 60, 0.1  # steps of the cold start, and of a run


def cold_steps(options: TrainOptions) -> int:
    """Steps that trust the given labels: a share of all, but enough in a short run for beliefs to form.

    With too few, beliefs can collapse onto one class, see docs/decisions.md.
    """
    asked = options.cold_start * options.steps
    return math.ceil(max(asked, min(LEAST_COLD, LEAST_COLD_SHARE * options.steps))) if asked else 0


def learning_rate(options: TrainOptions, step: int) -> float:
    """Linear rise over `warmup`, constant, linear fall over `cooldown`; steps count from 0."""
    done = (step + 1) / options.steps
    rise = min(1.0, done / options.warmup) if options.warmup else 1.0
    fall = min(1.0, (1 - done) / options.cooldown + 1e-3) if options.cooldown else 1.0
    return options.learning_rate * rise * fall


def ema_decay(options: TrainOptions, step: int) -> float:
    """Decay of the EMA at a step, in [0, 1]: beta = 0.5^(B / min(half-life, share of the images seen)).

    Source: Karras et al. (2022), https://arxiv.org/abs/2206.00364, App. F.2 (EDM's half-life in images and ramp-up).
    """
    seen = (step + 1) * options.batch_size
    half_life = min(float(options.ema_half_life), options.ema_share * seen)
    return float(0.5 ** (options.batch_size / max(half_life, 1e-8)))

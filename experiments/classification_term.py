"""Temperature and weight of DMIS's classification term: how well a short run classifies its training images.

    python experiments/classification_term.py --data fashion-mnist --noise sym:0.4 --steps 240 --pair 6 30 --pair 15 100

Trains one generator per pair (temperature, weight) with the defaults for the image size, the transition matrix given,
and prints the share of 500 training images whose true class is argmax p(y | x), without the given label. No test image
is used. `--set` changes the other options, as for `dmis train`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from condense.generator.training.trainer import Trainer
from condense.machine import machine
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import Plan, Request, make_plan

LOOKED_AT = 500


def trained(plan: Plan, transition: list[list[float]], temperature: float, weight: float) -> tuple[float, float]:
    """Percent of the images that are classified right, and seconds of training."""
    assert isinstance(plan.options, GeneratorOptions) and plan.source.truth is not None
    changed = {"temperature": temperature, "classification_weight": weight, "transition": transition}
    options = plan.options.train.model_copy(update=changed)
    trainer = Trainer(plan.train, plan.options.network, options, plan.recipe.seed)
    started = time.perf_counter()
    for _ in trainer.steps():
        pass
    seconds = time.perf_counter() - started
    chosen = np.random.default_rng(plan.recipe.seed).permutation(len(plan.train))[:LOOKED_AT]
    believed = trainer.finish().posterior(plan.train.images.images[chosen]).argmax(1)
    return 100 * float((believed == plan.source.truth.labels[chosen]).mean()), seconds


def main() -> None:
    """Train every pair, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pair", nargs=2, type=float, action="append", required=True, metavar=("T", "WEIGHT"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()

    named = {"data": {"name": asked.data, "noise": asked.noise}, "seed": asked.seed, "method": "dmis"}
    plan = make_plan(Request(named=named, settings=(*asked.set, f"train.steps={asked.steps}")))
    truth, supervision = plan.source.truth, plan.train.supervision
    assert truth is not None
    counts = np.zeros((supervision.num_classes,) * 2)
    np.add.at(counts, truth.labels, supervision.candidates)
    transition = (counts / counts.sum(1, keepdims=True)).tolist()
    print(
        f"{machine()}  {plan.train.images.name}  {plan.train.corruption.spec}  seed {asked.seed}  {asked.steps} steps"
    )
    print(f"{'temperature':>12} {'weight':>8} {'class known':>12} {'seconds':>8}")
    for temperature, weight in asked.pair:
        known, seconds = trained(plan, transition, temperature, weight)
        print(f"{temperature:12g} {weight:8g} {known:11.1f}% {seconds:8.0f}", flush=True)


if __name__ == "__main__":
    main()

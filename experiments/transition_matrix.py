"""The error of VolMinNet's transition matrix against the one that made the labels, by learning rate and steps.

    python experiments/transition_matrix.py --data fashion-mnist --noise asym:0.4 --steps 200 --rate 0.01 --rate 0.1

Trains VolMinNet as `dmis train` does before the generator, with the defaults for the image size; `--set` changes them.
Prints the mean absolute error of T against the counts of (true, given) labels, and the shares of the training images
that its classifier classifies right by argmax p(y | x), and with the given label by argmax p(y | x, z).
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from condense.data.batches import UnitImages
from condense.data.types import Labels
from condense.generator.labels.posterior import given_label, supervision_likelihood
from condense.generator.labels.volminnet import estimate_by_volume, fresh_classifier
from condense.machine import best_device, machine
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import Plan, Request, make_plan
from condense.run import Run

LOOKED_AT = 2000


def shares(plan: Plan, classifier: torch.nn.Module, transition: torch.Tensor, looked_at: Labels) -> tuple[float, float]:
    """Percent of the images whose class is right without and with the given label."""
    assert plan.source.truth is not None
    part = plan.train.take(looked_at)
    truth = torch.from_numpy(plan.source.truth.labels[looked_at])
    with torch.inference_mode():
        images = UnitImages(part.images, transition.device)
        alone = classifier(images[torch.arange(len(part))]).softmax(1).cpu()
    likelihood = supervision_likelihood(part.supervision, transition)
    found = alone.argmax(1), given_label(alone, likelihood).argmax(1)
    without, weighed_in = (100 * float((classes == truth).float().mean()) for classes in found)
    return without, weighed_in


def main() -> None:
    """Train one VolMinNet per rate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, action="append", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()

    named = {"data": {"name": asked.data, "noise": asked.noise}, "seed": asked.seed, "method": "dmis"}
    plan = make_plan(Request(named=named, settings=(*asked.set, f"train.helper.steps={asked.steps}")))
    assert isinstance(plan.options, GeneratorOptions) and plan.source.truth is not None
    truth, given = plan.source.truth.labels, plan.train.supervision.candidates
    counts = np.zeros((given.shape[1],) * 2)
    np.add.at(counts, truth, given)
    made_by = counts / counts.sum(1, keepdims=True)
    looked_at = np.sort(np.random.default_rng(asked.seed).permutation(len(given))[:LOOKED_AT])
    as_given = 100 * float(given[np.arange(len(truth)), truth][looked_at].mean())
    print(f"{machine()}  {plan.train.images.name}  {plan.train.corruption.spec}  seed {asked.seed}")
    print(f"{asked.steps} steps; {as_given:.1f} % of the labels right as given, {len(looked_at)} images looked at")
    print(f"{'rate':>8} {'error of T':>11} {'image alone':>12} {'with label':>11} {'seconds':>8}")
    for rate in asked.rate:
        options = plan.options.train
        helper = options.helper.model_copy(update={"matrix_learning_rate": rate})
        options = options.model_copy(update={"helper": helper})
        classifier = fresh_classifier(plan.train, asked.seed)
        transition, seconds = estimate_by_volume(plan.train, classifier, options, asked.seed, Run(None), best_device())
        error = float(np.abs(transition.cpu().numpy() - made_by).mean())
        alone, weighed_in = shares(plan, classifier.eval(), transition, looked_at)
        print(f"{rate:8g} {error:11.4f} {alone:11.1f}% {weighed_in:10.1f}% {seconds:8.0f}", flush=True)


if __name__ == "__main__":
    main()

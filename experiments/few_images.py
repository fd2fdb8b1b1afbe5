"""When a generator memorises the wrong labels of few images: labels right by number of steps.

    python experiments/few_images.py [--images 300] [--size 28] [--noise sym:0.4] [--steps 3000] [--until 1000]

Digits enlarged to `--size` pixels; the stage that learns the classes, with the defaults for that size but --steps.
Printed at intervals during training: epochs, loss on the held-out images (labels as given), and in percent the
training images whose label is right once repaired, training images whose class is right without the label, and test
images whose class is right. --until ends the run before its last step.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch

from condense import rng
from condense.data.types import Labels
from condense.generator.training.prerequisites import prepare
from condense.generator.training.trainer import Trainer
from condense.machine import best_device, machine
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import Request, make_plan
from condense.run import Run


def accuracy(posterior: npt.NDArray[np.floating], labels: Labels) -> float:
    """Share in percent of images [n, c] whose most probable class is their label [n]."""
    return 100 * float((posterior.argmax(1) == labels).mean())


def main() -> None:
    """Train, and print a row at intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--until", type=int)
    parser.add_argument("--looks", type=int, nargs="+", default=[150, 300, 469, 600, 1000, 1500, 2000, 3000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    data = {"name": "digits", "image_size": asked.size, "noise": asked.noise}
    plan = make_plan(Request(named={"data": data, "seed": asked.seed, "train": {"steps": asked.steps}}))
    options, test, test_truth = plan.options, plan.source.test, plan.source.test_truth
    assert isinstance(options, GeneratorOptions)
    assert plan.source.truth is not None and test is not None and test_truth is not None
    random = np.random.default_rng(rng.derive(asked.seed, "few images"))
    chosen = np.sort(random.permutation(len(plan.train))[: asked.images])
    train, truth = plan.train.take(chosen), plan.source.truth.labels[chosen]
    given = 100 * (train.supervision.observed == truth).mean()
    print(f"{machine()}  {len(train)} digits of {asked.size} pixels, seed {asked.seed}, {given:.1f} % of labels right")
    device = best_device()
    prepared = prepare(train, options.network, options.train, asked.seed, Run(None), device)
    trainer = Trainer(train, options.network, options.train, asked.seed, None, None, prepared)
    print(f"{'step':>5} {'passes':>6} {'held out':>8} {'repaired':>8} {'alone':>6} {'test':>6}")
    last = min(asked.until or asked.steps, asked.steps)
    looks = {look for look in asked.looks if look < last} | {last}
    for step in trainer.steps():
        if step.step in looks:
            generator = trainer.generator()
            repaired = generator.label_posterior(train.images.images, train.supervision, seed=asked.seed)
            alone = generator.posterior(train.images.images, seed=asked.seed)
            tested = generator.posterior(test.images, seed=asked.seed)
            found = (accuracy(repaired, truth), accuracy(alone, truth), accuracy(tested, test_truth.labels))
            passes = step.step * options.train.batch_size / len(train)
            held_out = generator.record.held_out_loss or float("nan")
            row = f"{step.step:5} {passes:6.0f} {held_out:8.3f}"
            print(row, "{:8.1f} {:6.1f} {:6.1f}".format(*found), flush=True)
        if step.step == last:
            break


if __name__ == "__main__":
    main()

"""Where drawing should start: sets drawn from prototypes noised to several sigmas, and from pure noise (0), compared.

    python experiments/prototypes.py RUN [--data digits] [--noise sym:0.4] [--seed 0] [--sigmas 0 0.01 0.25 0.5 1 2]

RUN is the folder of a `dmis train` with the method dmis. Networks trained on each set are judged on training images
(20,000 at most) under the labels the generator believes in, so that nothing is chosen on the test split. The
prototypes are means of these very images: good for comparing sigmas, not a test accuracy. At sigma 0.01, two steps of
an 8-bit pixel, the samples are the prototypes themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from condense.data.types import Truth
from condense.evaluate.protocols import protocol
from condense.evaluate.score import score
from condense.generator.model import Generator
from condense.generator.training.two_stage import beliefs
from condense.machine import best_device, machine
from condense.methods._generate import DrawOptions, class_prototypes, draw_and_choose, pool_size
from condense.options import Options
from condense.pipeline.plan import Request, make_plan
from condense.run import Run
from condense.sets.assemble import assemble
from condense.sets.condensed_set import Cost

MOST_JUDGED = 20_000


def main() -> None:
    """Draw, train and judge for every sigma, and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0, 0.01, 0.25, 0.5, 1, 2])
    asked = parser.parse_args()
    data = {"name": asked.data, "noise": asked.noise}
    train = make_plan(Request(named={"data": data, "method": "random", "seed": asked.seed, "ipc": asked.ipc})).train
    run = Run(asked.run)
    generator = Generator.load(run, best_device())
    believed = beliefs(generator, train, run).posterior
    judged = np.sort(np.random.default_rng(asked.seed).permutation(len(train))[:MOST_JUDGED])
    truth = Truth(believed.argmax(1)[judged])
    print(f"{machine()}  {asked.data} {asked.noise} seed {asked.seed}  ipc {asked.ipc}  networks {asked.repeats}")
    print(f"{'sigma':>6} {'pool agrees':>12} {'accuracy':>9} {'ci95':>6}")
    for sigma in asked.sigmas:
        options = DrawOptions(prototype_sigma=sigma or None)
        count = pool_size(asked.ipc, options)
        start = class_prototypes(train.images.images, believed, count, asked.seed) if sigma else None
        images, notes = draw_and_choose(generator, asked.ipc, options, asked.seed, Run(None), start)
        drawn = assemble(
            train, images, asked.ipc, method="dmis", options=Options(), seed=asked.seed, cost=Cost(0, 0, 0, 0), notes={}
        )
        found = score(
            drawn,
            train.take(judged).images,
            truth,
            protocol=protocol("hard-quick"),
            repeats=asked.repeats,
            seed=asked.seed,
            device=best_device(),
        )
        agrees = 100 * np.mean(np.array(notes["agreement_by_class"], dtype=np.float64))
        print(f"{sigma or 'none':>6} {agrees:12.1f} {found.mean:9.1f} {found.ci95 or float('nan'):6.1f}", flush=True)


if __name__ == "__main__":
    main()

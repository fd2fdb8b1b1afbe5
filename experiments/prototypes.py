"""The noise level at which drawing should start, and the value of prototypes without any drawing.

    python experiments/prototypes.py sigmas RUN [--data digits] [--noise sym:0.4] [--seed 0] [--sigmas 0 0.01 0.25 …]
    python experiments/prototypes.py arms RUN [RUN …] [--json FILE]

RUN is the folder of a trained generator, of `dmis train`, `dmis demo` (DIR/generators/NAME) or `dmis benchmark`
(DIR/shared/NAME).

`sigmas` chooses the noise level: sets are drawn from prototypes noised to several sigmas, and from pure noise (0).
Networks trained on each set are scored on training images (20,000 at most) with the labels the generator believes to
be right, so that nothing is chosen on the test split. The prototypes are means of these very images: good for comparing
sigmas, not a test accuracy. At sigma 0.01, two steps of an 8-bit pixel, the samples are the prototypes themselves.

`arms` scores three sets of each generator on the test split: the prototypes alone (`ipc` k-means means per class,
nothing is drawn), samples from pure noise, samples from prototypes; pool, agreement filter and choice are the
defaults for the images' size. Data, noise and seed are those the generator was trained with; the mean over the
generators of one objective is over their seeds.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from condense.data.types import Images, Truth
from condense.errors import UserError
from condense.evaluate.memorisation import memorisation
from condense.evaluate.protocols import protocol
from condense.evaluate.score import FreshNetworks, Score, score
from condense.evaluate.stats import summarise_nested
from condense.generator.model import Generator
from condense.generator.training.two_stage import beliefs
from condense.machine import best_device, machine
from condense.methods._generate import (
    DrawOptions,
    GeneratorOptions,
    class_prototypes,
    draw_and_choose,
    pool_size,
)
from condense.options import Options
from condense.pipeline.plan import Plan, Request, make_plan
from condense.run import Run
from condense.sets.assemble import Making, assemble
from condense.sets.condensed_set import CondensedSet

MOST_JUDGED = 20_000
PROTOCOL = "hard-quick"
ARMS = ALONE, NOISE, START = "prototypes alone", "from pure noise", "from prototypes"


@dataclass(frozen=True)
class Row:
    """One set of one generator: test accuracies, and shares that are copies and averages of real images, in percent.

    `agreement` is the share in percent of the pool that the generator's classifier assigns to the requested class; None
    where nothing was drawn.
    """

    generator: str
    noise: str
    seed: int
    arm: str
    accuracies: tuple[float, ...]
    agreement: float | None
    copies: float
    averages: float


def main() -> None:
    """Run the requested experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    sigmas, arms = tasks.add_parser("sigmas"), tasks.add_parser("arms")
    sigmas.add_argument("run", type=Path)
    sigmas.add_argument("--data", default="digits")
    sigmas.add_argument("--noise", default="sym:0.4")
    sigmas.add_argument("--seed", type=int, default=0)
    sigmas.add_argument("--sigmas", type=float, nargs="+", default=[0, 0.01, 0.25, 0.5, 1, 2])
    arms.add_argument("runs", type=Path, nargs="+")
    arms.add_argument("--only", choices=ARMS, nargs="+", default=ARMS)
    arms.add_argument("--json", type=Path)
    for task, repeats in ((sigmas, 2), (arms, 3)):
        task.add_argument("--ipc", type=int, default=10)
        task.add_argument("--repeats", type=int, default=repeats)
    asked = parser.parse_args()
    if asked.task == "sigmas":
        choose_sigma(asked)
    else:
        compare_arms(asked)


def choose_sigma(asked: argparse.Namespace) -> None:
    """Draw, train and score for every sigma, and print a row for each."""
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
        drawn = assemble(train, images, Making("dmis", asked.ipc, Options(), asked.seed))
        found = score(
            drawn,
            train.take(judged).images,
            truth,
            protocol=protocol(PROTOCOL),
            fresh=FreshNetworks(repeats=asked.repeats, seed=asked.seed),
            device=best_device(),
        )
        print(
            f"{sigma or 'none':>6} {_agreement(notes):12.1f} {found.mean:9.1f} {found.ci95 or np.nan:6.1f}", flush=True
        )


def compare_arms(asked: argparse.Namespace) -> None:
    """Score the three sets of every generator, print a table of means over seeds, keep all of it as JSON."""
    rows: list[Row] = []
    for folder in asked.runs:
        for row in arms_of(folder, asked.only, asked.ipc, asked.repeats):
            print(row, flush=True)
            rows.append(row)
    print(table(rows))
    if asked.json is not None:
        told = {
            "command": f"python experiments/prototypes.py arms RUN … --ipc {asked.ipc} --repeats {asked.repeats}",
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "protocol": PROTOCOL,
            "network": protocol(PROTOCOL).network,
            "ipc": asked.ipc,
            "rows": [asdict(row) for row in rows],
        }
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def arms_of(folder: Path, arms: Sequence[str], ipc: int, repeats: int) -> Iterator[Row]:
    """A row of one generator for each arm. Raises `UserError` if its training data cannot be made again."""
    run = Run(folder)
    generator = Generator.load(run, best_device())
    record = generator.record
    data = {"name": record.data, "noise": record.corruption}
    plan = make_plan(Request(named={"data": data, "method": record.objective, "seed": record.seed, "ipc": ipc}))
    if plan.train.supervision.fingerprint() != record.labels_fingerprint:
        raise UserError(f"{folder} was trained on other labels than {data} of seed {record.seed}; train it anew.")
    assert isinstance(plan.options, GeneratorOptions)
    seed, draw = plan.recipe.seed, plan.options.draw
    known, images = beliefs(generator, plan.train, run).posterior, plan.train.images.images
    if ALONE in arms:
        yield _row(plan, ALONE, np.concatenate(class_prototypes(images, known, ipc, seed)), None, repeats)
    if NOISE in arms:
        plain = draw.model_copy(update={"prototype_sigma": None})
        drawn, notes = draw_and_choose(generator, ipc, plain, seed, Run(None))
        yield _row(plan, NOISE, drawn, _agreement(notes), repeats)
    if START in arms:
        start = class_prototypes(images, known, pool_size(ipc, draw), seed)
        drawn, notes = draw_and_choose(generator, ipc, draw, seed, Run(None), start)
        yield _row(plan, START, drawn, _agreement(notes), repeats)


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per generator, mean and 95 % interval of the accuracy of each arm over the seeds."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    lines = [" | ".join(["| generator, labels", *arms]) + " |", "|---" + "|---:" * len(arms) + "|"]
    for name, noise in dict.fromkeys((row.generator, row.noise) for row in rows):
        cells = []
        for arm in arms:
            own = [row.accuracies for row in rows if (row.generator, row.noise, row.arm) == (name, noise, arm)]
            found = summarise_nested(own)
            cells.append(f"{found.mean:.1f}" + ("" if found.ci95 is None else f" ± {found.ci95:.1f}"))
        lines.append(" | ".join([f"| {name}, {noise}", *cells]) + " |")
    return "\n".join(lines)


def _row(plan: Plan, arm: str, images: Images, agreement: float | None, repeats: int) -> Row:
    recipe = plan.recipe
    made = assemble(plan.train, images, Making(recipe.method, recipe.ipc, Options(), recipe.seed))
    near = memorisation(images, plan.train.images.images, seed=recipe.seed, device=best_device())
    return Row(
        recipe.method,
        recipe.data.noise,
        recipe.seed,
        arm,
        _tested(made, plan, repeats).accuracies,
        agreement,
        100 * float(near.copied.mean()),
        100 * float(near.averaged.mean()),
    )


def _tested(made: CondensedSet, plan: Plan, repeats: int) -> Score:
    test, truth = plan.source.test, plan.source.test_truth
    if test is None or truth is None:
        raise UserError(f"{plan.source.train.name} has no test images.")
    return score(
        made,
        test,
        truth,
        protocol=protocol(PROTOCOL),
        fresh=FreshNetworks(repeats=repeats, seed=plan.recipe.seed),
        device=best_device(),
    )


def _agreement(notes: dict[str, Any]) -> float:
    return 100 * float(np.mean(notes["agreement_by_class"]))


if __name__ == "__main__":
    main()

"""Wrong labels found and corrected: `dmis relabel` against cleanlab on the same images.

    python experiments/relabelling.py --data digits --noise sym:0.4 [--seed 0] [--generator RUN] [--json FILE]
    python experiments/relabelling.py --data cifar10.npz --labels cifar10.npz::noisy_worst --subset 10000

All get images and labels as given, never the truth. DMIS is a generator trained here (`--set train.steps=…` and all
other options as for `dmis relabel`), or that of RUN, used as by `dmis relabel`; if it has a second opinion, each of
the two is also shown alone. cleanlab judges the probabilities of a ConvNet trained on the other folds, as
`--clean-first cleanlab` does. Precision and recall are those of the labels called wrong, AUROC that of
the doubt in each label (cleanlab: 1 - its label quality score), "right after" the share of images whose label is right
once the suggestions are taken, "suggestions right" the same among labels called wrong, "image alone" the share of
images whose class is right by argmax p(y | x), the given label left out.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from condense.classifiers.cross import FoldOptions
from condense.data.types import Labels, TrainingSet, Truth
from condense.generator.labels.suggestions import Suggestions, diffusion_posterior, second_opinion, weighed
from condense.generator.model import Generator
from condense.generator.training.session import train_generator
from condense.generator.training.two_stage import beliefs
from condense.machine import best_device, machine
from condense.methods._generate import GeneratorOptions
from condense.pipeline.plan import LABELLER_SECTIONS, Request, make_plan
from condense.pipeline.relabel import doubted_by_cleanlab
from condense.pipeline.relabelling import label_scores
from condense.run import Run

COLUMNS = ("precision", "recall", "auroc", "right_after", "suggestions_right", "image_alone", "seconds")


def scores(train: TrainingSet, truth: Truth, found: dict[str, Any]) -> dict[str, float | None]:
    """`label_scores`, and the share of right suggestions among labels called wrong, and by the image alone."""
    told = label_scores(train.supervision, truth, found["suggested"], found["marked"], found["suspicion"])
    right = found["suggested"] == truth.labels
    told["suggestions_right"] = float(right[found["marked"]].mean()) if found["marked"].any() else None
    told["image_alone"] = None if found["alone"] is None else float((found["alone"] == truth.labels).mean())
    told["seconds"] = found["seconds"]
    return told


def by_dmis(
    train: TrainingSet, scored: Labels, options: GeneratorOptions, seed: int, run: Run, kept: bool
) -> dict[str, dict[str, Any]]:
    """The judgement of the generator and its second opinion on the labels of the images `scored`; trained on all.

    `kept`: by its run folder's beliefs, as `--clean-first dmis` uses them.
    """
    started = time.perf_counter()
    if options.generator is None:
        generator = train_generator(train, options.network, options.train, seed, run)
    else:
        generator = Generator.load(Run(options.generator), best_device())
    part = train.take(scored)
    if kept:
        believed = beliefs(generator, train, run if options.generator is None else Run(options.generator))
        posterior = believed.posterior[scored]
        return {
            "dmis": told_of(Suggestions(part.supervision, posterior, posterior, generator.transition.numpy()), False)
        }
    from_generator, beside = diffusion_posterior(generator, part, run), second_opinion(generator, train, run)
    mine = None if beside is None else beside[scored]
    ways = {"dmis": told_of(weighed(generator, part.supervision, from_generator, mine), True)}
    if options.generator is None:
        ways["dmis"]["seconds"] = time.perf_counter() - started
    if generator.opinion is not None:
        opinion = generator.opinion
        print("weights of generator and classifiers:", *opinion.exponents)
        alone = replace(generator, opinion=None)
        labeller = replace(generator, opinion=replace(opinion, exponents=(0.0, 1.0)))
        ways["generator"] = told_of(weighed(alone, part.supervision, from_generator, None), True)
        ways["labeller"] = told_of(weighed(labeller, part.supervision, from_generator, mine), True)
    return ways


def told_of(found: Suggestions, alone: bool) -> dict[str, Any]:
    """The arguments of `scores`; `alone`: whether the class by the image alone is known."""
    return {
        "suggested": found.suggested,
        "marked": found.likely_wrong,
        "suspicion": found.suspicion,
        "alone": found.from_image.argmax(1) if alone else None,
        "seconds": None,
    }


def by_cleanlab(train: TrainingSet, scored: Labels, options: FoldOptions, seed: int, run: Run) -> dict[str, Any]:
    """The judgement of confident learning on the labels of the images `scored`; it uses all."""
    from cleanlab.rank import get_label_quality_scores

    found = doubted_by_cleanlab(train, options, seed, run, device=best_device())
    given, alone = train.supervision.observed, found.probabilities.argmax(1)
    return {
        "suggested": np.where(found.doubted, alone, given)[scored],
        "marked": found.doubted[scored],
        "suspicion": 1 - get_label_quality_scores(given, found.probabilities)[scored],
        "alone": alone[scored],
        "seconds": found.seconds,
    }


def main() -> None:
    """Run all judges, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--noise", default="none")
    parser.add_argument("--labels", help="given labels from a file, FILE or FILE::NAME")
    parser.add_argument("--subset", type=int, help="this many of the training images, drawn at random")
    parser.add_argument("--score", type=int, help="score this many of them, drawn at random; all are learned from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generator", type=Path, help="run folder of a generator trained on the same data")
    parser.add_argument("--kept", action="store_true", help="use (or make) the beliefs kept in the run folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folds", type=int, default=FoldOptions().folds)
    parser.add_argument("--epochs", type=int, default=FoldOptions().epochs)
    parser.add_argument("--run", type=Path, help="folder for checkpoints; finished parts are used again")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    data = {"name": arguments.data, "noise": arguments.noise, "labels": arguments.labels}
    named = {"data": data, "seed": arguments.seed, "generator": arguments.generator, "method": "dmis"}
    plan = make_plan(Request(named=named, settings=arguments.set))
    assert isinstance(plan.options, GeneratorOptions) and plan.source.truth is not None
    train, truth = plan.train, plan.source.truth
    if arguments.subset is not None:
        chosen = drawn(len(train), arguments.subset, arguments.seed)
        train, truth = train.take(chosen), truth.take(chosen)
    scored = drawn(len(train), arguments.score or len(train), arguments.seed)
    folds = FoldOptions(folds=arguments.folds, epochs=arguments.epochs)
    run = Run(arguments.run)
    ways = {
        "cleanlab": by_cleanlab(train, scored, folds, arguments.seed, run),
        **by_dmis(train, scored, plan.options, arguments.seed, run, arguments.kept),
    }
    told = {name: scores(train.take(scored), truth.take(scored), found) for name, found in ways.items()}
    before = told["dmis"]["right_before"]
    print(f"{machine()}  {train.images.name}  {train.corruption.spec}  seed {arguments.seed}  {len(scored)} images")
    print(f"labels right as given: {100 * before:.1f} %")
    print(f"{'':10}" + " ".join(f"{column.replace('_', ' '):>18}" for column in COLUMNS))
    for name, row in told.items():
        print(f"{name:10}" + " ".join(f"{cell(column, row[column]):>18}" for column in COLUMNS))
    if arguments.json is not None:
        written = plan.written()
        recipe = {key: written[key] for key in ("data", "seed", *LABELLER_SECTIONS)}
        record = {
            "recipe": recipe,
            "folds": folds.model_dump(),
            "images": len(train),
            "scored": len(scored),
            "scores": told,
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def drawn(count: int, wanted: int, seed: int) -> Labels:
    """Indices of `wanted` of `count` images, ascending: int64 [wanted]."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted])


def cell(column: str, value: float | None) -> str:
    """Shares in percent, seconds unchanged."""
    if value is None:
        return "–"
    return f"{value:.0f}" if column == "seconds" else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()

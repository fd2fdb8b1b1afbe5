"""The labeller's beliefs, and sets made from them, scored on held-out training images: for choosing options.

    python experiments/believed_sets.py --run RUN                                     # the beliefs alone
    python experiments/believed_sets.py --run RUN --pool                              # and of a generator beside it
    python experiments/believed_sets.py --run RUN --method frepo --set iterations=400  # and ten images per class
    python experiments/believed_sets.py --run RUN --method chosen --refine gradients.iterations=800  # and refined

Training uses the first 50,000 training images of Fashion-MNIST, 40 % of their labels wrong; scores are on the last
10,000 with their true labels; the test split is not used. One ConvNet-3, protocol hard-quick. RUN keeps what was
trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from condense import methods
from condense.classifiers import networks
from condense.classifiers.fit import Teaching, fit, predict
from condense.data import corrupt, sources
from condense.data.types import Source, TrainingSet
from condense.evaluate.protocols import protocol
from condense.generator.labels import labeller
from condense.generator.labels.labeller import Labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.suggestions import diffusion_posterior, weighed
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.session import train_generator
from condense.methods._generate import GeneratorOptions
from condense.methods._refine import RefineOptions, refined
from condense.pipeline.plan import Request, make_plan
from condense.pipeline.relabel import relabelled
from condense.pipeline.relabelling import calibration_error
from condense.precision import wants_bf16
from condense.preprocessing import planes
from condense.recipe import parse, parse_overrides
from condense.run import Run
from condense.sets.condensed_set import CondensedSet

LEARNED = 50_000
JUDGED = 10_000


def told(beliefs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Shares right, and believed above 0.95, and right among these; and the calibration error."""
    found, confidence = beliefs.argmax(1), beliefs.max(1)
    right, sure = found == labels, confidence > 0.95
    return {
        "right": float(right.mean()),
        "ece": calibration_error(confidence, right),
        "sure": float(sure.mean()),
        "right_of_sure": float(right[sure].mean()),
    }


def accuracy(made: CondensedSet, source: Source, epochs: int, seed: int) -> float:
    """Of one network trained on the set, on the images held out, in percent."""
    rules, held = dataclasses.replace(protocol("hard-quick"), epochs=epochs), slice(LEARNED, None)
    scale = 255 if made.images.dtype == np.uint8 else 1
    x = made.preprocessing.normalise(planes(made.images).float() / scale)
    channels, side, _ = source.train.image_shape
    network = networks.build(
        rules.network, in_channels=channels, image_size=side, num_classes=made.num_classes, seed=seed
    )
    labels = torch.from_numpy(made.labels)
    options = rules.fit_options(bf16=wants_bf16("auto", torch.device("cpu")))
    for _ in fit(network, x, labels, options, seed=seed, teaching=Teaching(rules.augment())):
        pass
    judged = made.preprocessing.normalise(planes(source.train.images[held]).float() / 255)
    assert source.truth is not None
    return 100 * float((predict(network, judged).argmax(1).numpy() == source.truth.labels[held]).mean())


def pooled(train: TrainingSet, truth: np.ndarray, fitted: Labeller, asked: argparse.Namespace) -> dict[str, Any]:
    """Shares of the first `JUDGED` training images, with their labels: by a DMIS generator, the labeller, and both."""
    named = {"data": {"name": "fashion-mnist", "noise": asked.noise}, "seed": asked.seed, "method": "dmis"}
    options = make_plan(Request(named=named)).options
    assert isinstance(options, GeneratorOptions)
    prepared = Prerequisites(torch.from_numpy(fitted.suggestions.transition), labeller=fitted)
    generator = train_generator(
        train, options.network, options.train, asked.seed, Run(asked.run / "generator"), prepared=prepared
    )
    part = train.take(np.arange(JUDGED))
    mine, beside = diffusion_posterior(generator, part, Run(None)), fitted.suggestions.from_image[:JUDGED]
    assert generator.opinion is not None
    answer: dict[str, Any] = {"exponents": generator.opinion.exponents, "seconds": generator.record.seconds}
    for name, exponents in (("both", generator.opinion.exponents), ("generator", (1.0, 0.0)), ("labeller", (0.0, 1.0))):
        generator.opinion.exponents = exponents
        found = weighed(generator, part.supervision, mine, beside)
        answer[name] = told(found.posterior, truth[:JUDGED])
    return answer


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--noise", default="sym:0.4")
    parser.add_argument("--pool", action="store_true", help="train a DMIS generator and pool its beliefs")
    parser.add_argument("--method")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--labeller", action="append", default=[], help="a.b=c, options of the labeller")
    parser.add_argument("--set", action="append", default=[], help="a.b=c, options of the method")
    parser.add_argument("--refine", action="append", help="a.b=c, options of `refine`, by which the set is learned on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--true", action="store_true", help="true labels instead of the labeller's beliefs, as a bound")
    parser.add_argument("--networks", type=int, default=1, help="networks trained on the set")
    asked = parser.parse_args()
    source = sources.load("fashion-mnist")
    assert source.truth is not None
    given, corruption = corrupt.apply(asked.noise, source.truth, source.train, asked.seed)
    train = TrainingSet(source.train, given, corruption).take(np.arange(LEARNED))
    options = parse(LabellerOptions, parse_overrides(asked.labeller), "labeller")
    fitted = labeller.fit(train, options, asked.seed, Run(asked.run / "labeller"))
    found, truth = fitted.suggestions, source.truth.labels[:LEARNED]
    answer = {
        "from_image": told(found.from_image, truth),
        "with_label": told(found.posterior, truth),
        "exponent": fitted.networks.exponent,
        "own_share": found.transition.diagonal().astype(float).round(3).tolist(),
        "labeller_evaluations": fitted.network_evaluations,
        "labeller_seconds": fitted.seconds,
    }
    if asked.pool:
        answer["pool"] = pooled(train, truth, fitted, asked)
    if asked.method is not None:
        believed = relabelled(train, found.suggested, "labeller", found.posterior)
        method, started = methods.load(asked.method), time.process_time()
        sure = np.eye(train.images.num_classes, dtype=np.float32)[truth]
        repaired = relabelled(train, truth, "truth", sure) if asked.true else believed
        wanted = parse(method.Options, parse_overrides(asked.set), asked.method)
        name = "-".join([asked.method, *asked.set, *["true"] * asked.true]).replace("/", "_")
        made = method.condense(repaired, asked.ipc, wanted, asked.seed, Run(asked.run / name))
        if asked.refine is not None:
            further = parse(RefineOptions, parse_overrides(asked.refine), "refine")
            made = refined(made, repaired, further, asked.seed, Run(asked.run / f"{name}-{'-'.join(asked.refine)}"))
        answer |= {
            "refine": asked.refine,
            "true_labels": asked.true,
            "method": asked.method,
            "options": asked.set,
            "cpu_seconds": time.process_time() - started,
        }
        answer["accuracies"] = [accuracy(made, source, asked.epochs, asked.seed + k) for k in range(asked.networks)]
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()

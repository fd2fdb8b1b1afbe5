"""What each setting of the default generator for 28x28 pixels costs or saves, one at a time.

    python benchmarks/levers.py [--rounds 7] [--json FILE]

Seconds of a training step of Fashion-MNIST's default networks (recipes/generator-28px.yaml), of the one that learns the
classes and of the one that draws, and of the same with one setting changed; medians over interleaved rounds, and the
ratio to the default. What a setting does to the accuracy is in docs/decisions.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from training_step import noisy_images

from condense.data.types import TrainingSet
from condense.files import atomic_write_text
from condense.generator.options import NetworkOptions, TrainOptions
from condense.generator.training.prerequisites import Prerequisites
from condense.generator.training.schedules import cold_steps
from condense.generator.training.trainer import Trainer
from condense.machine import machine
from condense.processes import default_accelerator
from condense.recipe import generator_defaults, merge

SIDE = 28
KINDS = ((NetworkOptions, "network"), (TrainOptions, "train"))
LEARNS = "learns the classes"
DRAWS = "draws"
LEVERS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    LEARNS: (
        ("as shipped", {}),
        ("vanilla objective", {"train": {"objective": "vanilla"}}),
        ("beliefs of a quarter of each batch refreshed, not of all", {"train": {"refresh_share": 0.25}}),
        ("form sampled, not expected", {"train": {"form": "sampled"}}),
        ("form mixture", {"train": {"form": "mixture"}}),
        (
            "one class a pass, two of them drawn, not all in one",
            {"network": {"kind": "conditional"}, "train": {"top_k": 2}},
        ),
        ("patches of 2 and 48 channels, not 4 and 64", {"network": {"patch": 2, "channels": 48}}),
        ("two blocks, not one", {"network": {"blocks": 2}}),
        ("attention at the coarser level", {"network": {"attention": [1]}}),
        ("float32", {"train": {"precision": "fp32"}}),
        ("torch.compile", {"train": {"compile": True}}),
    ),
    DRAWS: (
        ("as shipped", {}),
        ("patches of 4 and 64 channels, not 2 and 48", {"network": {"patch": 4, "channels": 64}}),
        ("two blocks, not one", {"network": {"blocks": 2}}),
        ("float32", {"train": {"precision": "fp32"}}),
        ("torch.compile", {"train": {"compile": True}}),
    ),
}


def trainer(data: TrainingSet, part: str, changed: Mapping[str, Any]) -> Trainer:
    """A network of the default run with some options changed, past its cold start."""
    shipped = generator_defaults(SIDE)
    sections = merge(shipped if part == LEARNS else shipped["second_stage"], dict(changed))
    network, options = (kind.model_validate(sections[name]) for kind, name in KINDS)
    classes = data.images.num_classes
    beliefs = None if part == LEARNS else torch.full((len(data), classes), 1 / classes)
    made = Trainer(data, network, options, 0, default_accelerator(), beliefs, Prerequisites())
    made.step = cold_steps(options)
    return made


def timed(data: TrainingSet, part: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Of each lever: its name, the median seconds of a step, their ratio to the default's, and images passed."""
    made = {name: trainer(data, part, changed) for name, changed in LEVERS[part]}
    going = {name: each.steps() for name, each in made.items()}
    for steps in going.values():
        for _ in range(2):
            next(steps)
    seconds: dict[str, list[float]] = {name: [] for name in going}
    before = {name: each.evaluations for name, each in made.items()}
    for _ in range(rounds):
        for name, steps in going.items():
            started = time.perf_counter()
            next(steps)
            if made[name].device.type != "cpu":
                torch.accelerator.synchronize()
            seconds[name].append(time.perf_counter() - started)
    default = statistics.median(seconds["as shipped"])
    for name, each in made.items():
        took = statistics.median(seconds[name])
        passed = (each.evaluations - before[name]) / rounds / generator_defaults(SIDE)["train"]["batch_size"]
        yield {"network": part, "setting": name, "seconds": took, "ratio": took / default, "evaluations": passed}


def main() -> None:
    """Time every lever and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    data = noisy_images(SIDE)
    rows = [row for part in LEVERS for row in timed(data, part, asked.rounds)]
    print(f"{machine()}\n\n| network that | setting | seconds | ratio | images passed for each |")
    print("|---|---|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['network']} | {row['setting']} | {row['seconds']:.3g} | {row['ratio']:.2f} | "
            f"{row['evaluations']:.1f} |"
        )
    if asked.json is not None:
        atomic_write_text(asked.json, json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
